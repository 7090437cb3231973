import numpy as np
import paddle
import pytest

from plsc.losses import CAELoss
from plsc.losses.cae import alignment_loss


def outputs(dtype="float64"):
    rng = np.random.default_rng(0)
    shapes = {"logits": (2, 3, 5), "latent": (2, 3, 4), "latent_target": (2, 3, 4)}
    return {name: paddle.to_tensor(rng.normal(size=shape)).astype(dtype) for name, shape in shapes.items()}


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


TOKENS = np.array([[0, 4, 2], [1, 1, 3]])


def test_cross_entropy_plus_weighted_alignment():
    out = outputs()
    losses = CAELoss(alignment_weight=3.0)(out, paddle.to_tensor(TOKENS))
    main = -np.take_along_axis(log_softmax(out["logits"].numpy()), TOKENS[..., None], axis=-1).mean()
    align = np.square(out["latent"].numpy() - out["latent_target"].numpy()).mean()
    assert float(losses["loss_main"]) == pytest.approx(main, abs=1e-12)
    assert float(losses["loss_align"]) == pytest.approx(align, abs=1e-12)
    assert float(losses["loss"]) == pytest.approx(main + 3 * align, abs=1e-12)


def test_pixels():
    out = outputs()
    pixels = np.random.default_rng(1).normal(size=(2, 3, 5))
    losses = CAELoss(main="mse")(out, paddle.to_tensor(pixels))
    assert float(losses["loss_main"]) == pytest.approx(np.square(out["logits"].numpy() - pixels).mean(), abs=1e-12)


def test_kullback_leibler_alignment():
    out = outputs()
    log_p, log_q = log_softmax(out["latent_target"].numpy()), log_softmax(out["latent"].numpy())
    expected = (np.exp(log_p) * (log_p - log_q)).mean()
    losses = CAELoss(alignment="kld")(out, paddle.to_tensor(TOKENS))
    assert float(losses["loss_align"]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", ["mse", "kld"])
def test_no_gradient_reaches_the_target(kind):
    out = outputs()
    out["latent"].stop_gradient = out["latent_target"].stop_gradient = False
    alignment_loss(out["latent"], out["latent_target"], kind).backward()
    assert out["latent"].grad is not None and out["latent_target"].grad is None


def test_half_precision_gives_float32_losses():
    losses = CAELoss()(outputs("float16"), paddle.to_tensor(TOKENS))
    assert all(loss.dtype == paddle.float32 and loss.shape == [] for loss in losses.values())


def test_refuses_latents_of_different_shapes():
    with pytest.raises(ValueError, match=r"predicted latents have shape \[2, 3, 4\], but their targets \[2, 2, 4\]"):
        alignment_loss(paddle.zeros([2, 3, 4]), paddle.zeros([2, 2, 4]))


@pytest.mark.parametrize("main, shape", [("cross_entropy", [2, 3, 5]), ("mse", [2, 3]), ("mse", [2, 3, 6])])
def test_refuses_targets_that_do_not_fit(main, shape):
    with pytest.raises(ValueError, match=f"main: {main} compares predictions"):
        CAELoss(main=main)(outputs(), paddle.zeros(shape, dtype="int64"))


def test_refuses_a_negative_weight():
    with pytest.raises(ValueError, match="alignment_weight must not be negative, got -1"):
        CAELoss(alignment_weight=-1)
