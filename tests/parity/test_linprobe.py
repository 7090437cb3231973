"""Linear probe: the frozen encoder, batch normalization with its running statistics, the head's gradients, LARS."""

import pytest

from plsc.checkpoint.names import classifier_name
from plsc.losses import CrossEntropy
from plsc.nn.utils import set_training
from plsc.optim.optimizers import LARS
from plsc.optim.schedules import WarmupCosine
from tests.parity import fixtures
from tests.parity.deviation import check
from tests.parity.models import check_gradients, check_outputs, classifier, double_precision, load, tensor, to_own

FAMILY = "linear probe"


@pytest.mark.parametrize("path", fixtures.of_kind("linprobe"))
def test_forward_gradients_and_running_statistics(path):
    config, arrays = fixtures.read(path)
    with double_precision():
        model = classifier(config)
        load(model, fixtures.group(arrays, "param"))
        set_training(model, False)
        before = model(tensor(arrays["images_eval"]))
        set_training(model, True)
        features = model.forward_features(tensor(arrays["images"]))
        logits = model.head(features)
        loss = CrossEntropy()(logits, tensor(arrays["labels"]))
        loss.backward()
    check_outputs(
        FAMILY,
        arrays,
        logits_eval_before=before,
        features=features,
        logits_train=logits,
        loss=loss,
        running_mean_after1=model.head.batch_norm.running_mean,
        running_var_after1=model.head.batch_norm.running_var,
    )
    check_gradients(FAMILY, model, fixtures.group(arrays, "grad"))
    trained = {name for name, p in model.named_parameters() if not p.stop_gradient}
    assert trained == {classifier_name(str(name)) for name in arrays["trainable"]}


@pytest.mark.parametrize("path", fixtures.of_kind("linprobe"))
def test_rates_are_those_of_the_config(path):
    config, arrays = fixtures.read(path)
    schedule = WarmupCosine(
        config["blr"],
        warmup_epochs=config["warmup_epochs"],
        min_lr=config["min_lr"],
        scale="per_256",
        warmup_both_ends=False,
        epochs=config["epochs"],
        steps_per_epoch=config["niter_per_ep"],
        global_batch_size=config["eff_batch_size"],
    )
    first = config["start_epoch"] * config["niter_per_ep"]
    ours = [schedule(first + step) for step in range(config["num_steps"])]
    assert ours == pytest.approx(arrays["lars_lrs"].tolist(), rel=1e-12)


@pytest.mark.parametrize("path", fixtures.of_kind("linprobe"))
def test_lars_steps(path):
    config, arrays = fixtures.read(path)
    with double_precision():
        model = classifier(config)
        load(model, fixtures.group(arrays, "param"))
        optimizer = LARS(
            model,
            momentum=config.get("momentum", 0.9),
            trust_coefficient=config.get("trust_coefficient", 0.001),
            weight_decay=config["weight_decay"],
        )
        set_training(model, True)
        image, label = tensor(arrays["images"]), tensor(arrays["labels"])
        for step, lr in enumerate(arrays["lars_lrs"]):
            loss = CrossEntropy()(model(image), label)
            check(FAMILY, loss, arrays["lars_losses"][step], 1e-7, name=f"loss of step {step + 1}")
            loss.backward()
            optimizer.set_lr(float(lr))
            optimizer.step()
            optimizer.clear_grad()
            parameters = dict(model.named_parameters())
            for name, value in to_own(fixtures.group(arrays, f"lars_step{step + 1}"), True).items():
                check(FAMILY, parameters[name], value, 1e-6, "parameters after steps", name)
        set_training(model, False)
        after = model(tensor(arrays["images_eval"]))
    check_outputs(FAMILY, arrays, logits_eval_after=after)
