"""Attentive probes of the authors, and PLSC's two variants."""

import pytest

from plsc.checkpoint.names import classifier_name
from plsc.losses import CrossEntropy
from plsc.nn.utils import set_training
from plsc.optim.optimizers import SGD
from plsc.optim.schedules import WarmupCosine
from tests.parity import fixtures
from tests.parity.deviation import check
from tests.parity.models import (
    GRADIENT,
    OUTPUT,
    check_gradients,
    check_outputs,
    classifier,
    double_precision,
    load,
    tensor,
    to_own,
)

FAMILY = "attentive probe"


@pytest.mark.parametrize("path", fixtures.of_kind("attentive"))
def test_official_forward_gradients_and_running_statistics(path):
    config, arrays = fixtures.read(path)
    with double_precision():
        model = classifier(config)
        load(model, fixtures.group(arrays, "param"))
        batch_norm = model.head.batch_norm
        set_training(model, False)
        evaluated = model(tensor(arrays["images_eval"]))
        set_training(model, True)
        logits = model(tensor(arrays["images"]))
        loss = CrossEntropy()(logits, tensor(arrays["labels"]))
        loss.backward()
    check_outputs(
        FAMILY,
        arrays,
        logits_is_train_false=evaluated,
        logits_is_train_true=logits,
        loss=loss,
        running_mean_after1=batch_norm.running_mean,
        running_var_after1=batch_norm.running_var,
    )
    check_gradients(FAMILY, model, fixtures.group(arrays, "grad"))
    trained = {name for name, p in model.named_parameters() if not p.stop_gradient}
    assert trained == {classifier_name(str(name)) for name in arrays["trainable"]} - {None}
    # the authors evaluate with the statistics of the batch, and the running ones keep moving: our training mode
    as_authors = model(tensor(arrays["images_eval"]))
    check_outputs(
        FAMILY, arrays, logits_official_evaluate=as_authors, running_mean_after_evaluate=batch_norm.running_mean
    )


@pytest.mark.parametrize("path", fixtures.of_kind("attentive"))
def test_steps_of_the_authors_probe(path):
    """Nesterov's momentum, and a warm-up that reaches the full rate in its last step."""
    config, arrays = fixtures.read(path)
    if "sgd_losses" not in arrays:
        pytest.skip("the fixture holds no steps")
    schedule = WarmupCosine(
        config["lr"],
        warmup_epochs=config["warmup_epochs"],
        min_lr=config["min_lr"],
        epochs=config["epochs"],
        steps_per_epoch=config["niter_per_ep"],
    )
    ours = [schedule(step) for step in range(config["num_steps"])]
    assert ours == pytest.approx(arrays["sgd_lrs"].tolist(), rel=1e-12)
    with double_precision():
        model = classifier(config)
        load(model, fixtures.group(arrays, "param"))
        optimizer = SGD(model, config["momentum"], nesterov=True, weight_decay=config["weight_decay"])
        set_training(model, True)
        for step in range(config["num_steps"]):
            loss = CrossEntropy()(model(tensor(arrays["images"])), tensor(arrays["labels"]))
            check(FAMILY, loss, arrays["sgd_losses"][step], OUTPUT, name=f"loss of step {step}")
            loss.backward()
            optimizer.set_lr(schedule(step))
            optimizer.step()
            optimizer.clear_grad()
    parameters = dict(model.named_parameters())
    for name, value in to_own(fixtures.group(arrays, "sgd_step_last"), True).items():
        check(FAMILY, parameters[name], value, GRADIENT, "parameters after steps", name)


@pytest.mark.parametrize("path", fixtures.of_kind("attentive_plsc"))
def test_plsc_evaluation(path):
    config, arrays = fixtures.read(path)
    with double_precision():
        model = classifier(config)
        load(model, fixtures.group(arrays, "param"))
        set_training(model, False)
        features = model.head.forward_features(model.forward_features(tensor(arrays["images"])))
        logits = model(tensor(arrays["images"]))
    check_outputs(FAMILY, arrays, features=features, logits_eval=logits)
