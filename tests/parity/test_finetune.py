"""Fine-tuning: features, logits, the three losses, gradients of soft and of smoothed labels."""

import pytest

from plsc.losses import CrossEntropy
from tests.parity import fixtures
from tests.parity.deviation import check
from tests.parity.models import (
    GRADIENT,
    check_gradients,
    check_outputs,
    classifier,
    double_precision,
    load,
    tensor,
    to_own,
)

FAMILY = "fine-tuning"


@pytest.mark.parametrize("path", fixtures.of_kind("finetune"))
def test_forward_losses_and_gradients(path):
    config, arrays = fixtures.read(path)
    image, label = tensor(arrays["images"]), tensor(arrays["labels"])
    with double_precision():
        model = classifier(config)
        load(model, fixtures.group(arrays, "param"))
        features = model.forward_features(image)
        logits = model.head(features)
        loss_ls = CrossEntropy(label_smoothing=config["smoothing"])(logits, label)
        loss_soft = CrossEntropy()(logits, tensor(arrays["soft_targets"]))
        loss_ce = CrossEntropy()(logits, label)
        loss_soft.backward()
        # the authors detach a learned position table in fine-tuning; here it learns
        check_gradients(FAMILY, model, fixtures.group(arrays, "grad_soft"), detached=("encoder.pos_embed",))
        model.clear_gradients()
        CrossEntropy(label_smoothing=config["smoothing"])(model(image), label).backward()
    check_outputs(
        FAMILY, arrays, features=features, logits=logits, loss_ls=loss_ls, loss_soft=loss_soft, loss_ce=loss_ce
    )
    parameters = dict(model.named_parameters())
    for name, gradient in to_own(fixtures.group(arrays, "grad_ls"), True).items():
        check(FAMILY, parameters[name].grad, gradient, GRADIENT, "gradients", name)
