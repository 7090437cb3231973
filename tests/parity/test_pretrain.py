"""Pre-training: activations, losses, all gradients, and the teacher."""

import numpy as np
import pytest

from plsc.losses import CAELoss
from tests.parity import fixtures
from tests.parity.deviation import check
from tests.parity.models import (
    OUTPUT,
    cae,
    check_gradients,
    check_outputs,
    double_precision,
    load,
    load_table,
    tensor,
    to_own,
)

FAMILY = "pre-training"


def positions(mask):
    """Row-major positions of the True entries, (B, M)."""
    return tensor(np.stack([np.flatnonzero(row) for row in mask]))


def loss_of(config):
    main = "mse" if config["target_mode"] == "rgb" else "cross_entropy"
    alignment = config.get("dual_loss_type", "mse")
    return CAELoss(alignment_weight=config["align_loss_weight"], main=main, alignment=alignment)


@pytest.mark.parametrize("path", fixtures.of_kind("pretrain"))
def test_forward_losses_gradients_and_teacher(path):
    config, arrays = fixtures.read(path)
    mask = arrays["bool_masked_pos"].astype(bool)
    targets = tensor(arrays["labels"].reshape(len(mask), -1, *arrays["labels"].shape[1:]))  # (B, M, ...)
    with double_precision():
        model = cae(config)
        load(model, fixtures.group(arrays, "param"))
        if model.pos_embed is not None:
            load_table(model.pos_embed, arrays["decoder_pos_embed"][:, 1:], "decoder table")
        image, visible, masked = tensor(arrays["samples"]), positions(~mask), positions(mask)
        encoded = model.encoder(image, visible)
        outputs = model(image, visible, masked)
        losses = loss_of(config)(outputs, targets)
        losses["loss"].backward()
        model.update_teacher()
    check_outputs(
        FAMILY,
        arrays,
        enc_visible=encoded,
        logits=outputs["logits"].flatten(0, 1),
        latent=outputs["latent"],
        latent_target=outputs["latent_target"],
        loss_main=losses["loss_main"],
        mse=losses["loss_align"],
        loss=losses["loss"],
    )
    check_gradients(FAMILY, model, fixtures.group(arrays, "grad"))
    check_teacher(model, fixtures.group(arrays, "teacher_after"), bool(arrays["teacher_equals_encoder_after"]))


def check_teacher(model, expected, equals_encoder):
    student = dict(model.encoder.named_parameters())
    teacher = dict(model.teacher.named_parameters())
    assert all(np.array_equal(teacher[n].numpy(), student[n].numpy()) for n in student) == equals_encoder
    expected = to_own({name.replace("teacher.", "", 1): value for name, value in expected.items()}, False)
    for name in set(expected) & set(teacher):
        check(FAMILY, teacher[name], expected[name], OUTPUT, "teacher", name)
