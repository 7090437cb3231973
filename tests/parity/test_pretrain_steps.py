"""Several steps of pre-training: losses, gradient norms, the teacher that stays one update behind, AdamW's result."""

import numpy as np
import pytest

from plsc.optim.optimizers import AdamW
from plsc.optim.schedules import WarmupCosine
from tests.parity import fixtures
from tests.parity.deviation import check
from tests.parity.models import GRADIENT, OUTPUT, cae, double_precision, load, tensor, to_own
from tests.parity.test_pretrain import loss_of, positions

FAMILY = "pre-training steps"


def norm(network):
    """Norm over all elements of a network, including the fixed position table, a parameter in the reference."""
    return np.sqrt(sum(np.square(t.numpy()).sum() for t in network.parameters() + network.buffers()))


@pytest.mark.parametrize("path", fixtures.of_kind("steps"))
def test_rates_are_those_of_the_config(path):
    config, arrays = fixtures.read(path)
    schedule = WarmupCosine(
        config["lr"],
        warmup_epochs=config["warmup_epochs"],
        min_lr=config["min_lr"],
        epochs=config["epochs"],
        steps_per_epoch=config["niter_per_ep"],
    )
    ours = [schedule(step) for step in range(config["num_steps"])]
    assert ours == pytest.approx(arrays["lr"].tolist(), rel=1e-12)


@pytest.mark.parametrize("path", fixtures.of_kind("steps"))
def test_steps(path):
    config, arrays = fixtures.read(path)
    with double_precision():
        model = cae(config)
        load(model, fixtures.group(arrays, "param"))
        beta1, beta2 = config.get("opt_betas", (0.9, 0.999))
        optimizer = AdamW(
            model,
            weight_decay=config["weight_decay"],
            weight_decay_end=config["weight_decay_end"],
            beta1=beta1,
            beta2=beta2,
            epsilon=config["opt_eps"],
            clip_norm=config["clip_grad"],
        )
        for step in range(config["num_steps"]):
            optimizer.set_progress(step / (config["epochs"] * config["niter_per_ep"]))
            decays = [group.weight_decay for group in optimizer.groups if group.decayed]
            assert decays == pytest.approx([float(arrays["wd"][step])] * len(decays), rel=1e-12)
            losses, gradient_norm = train_step(model, optimizer, config, arrays, step)
            for name, value in {"loss_main": losses["loss_main"], "loss": losses["loss"]}.items():
                check(FAMILY, value, arrays[name][step], OUTPUT, name=f"{name} of step {step}")
            check(FAMILY, gradient_norm, arrays["grad_norm"][step], GRADIENT, "gradients", f"norm of step {step}")
            for name, network in (("teacher", model.teacher), ("encoder", model.encoder)):
                check(FAMILY, norm(network), arrays[f"{name}_l2"][step], GRADIENT, name=f"{name} norm of step {step}")
    parameters = dict(model.named_parameters())
    expected = to_own(fixtures.group(arrays, "final"), False)
    for name in set(expected) & set(parameters):
        check(FAMILY, parameters[name], expected[name], GRADIENT, "parameters after steps", name)


def train_step(model, optimizer, config, arrays, step):
    mask = arrays[f"bool_masked_pos_{step}"].astype(bool)
    targets = tensor(arrays[f"input_ids_{step}"][mask].reshape(len(mask), -1))
    losses = loss_of(config)(model(tensor(arrays[f"samples_{step}"]), positions(~mask), positions(mask)), targets)
    losses["loss"].backward()
    gradient_norm = optimizer.clip_gradients()
    model.update_teacher()
    optimizer.set_lr(float(arrays["lr"][step]))
    optimizer.step()
    optimizer.clear_grad()
    return losses, gradient_norm
