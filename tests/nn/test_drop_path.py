import numpy as np
import paddle
import pytest

from plsc.models.cae import RegressorBlock
from plsc.nn.block import Block
from plsc.nn.drop_path import DropPath, drop_path_ramp
from plsc.nn.utils import set_training


def ones_like(x):
    return paddle.ones(x.shape, x.dtype)


def test_drops_whole_samples_and_keeps_the_mean():
    paddle.seed(0)
    added = DropPath(0.25)(paddle.zeros([4000, 2, 3]), ones_like).numpy()
    samples = added.reshape(4000, -1)
    assert (samples == samples[:, :1]).all()
    assert set(np.unique(samples)) == {np.float32(0), np.float32(1 / 0.75)}
    assert samples.mean() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("rate, training", [(0.0, True), (0.5, False)])
def test_every_branch_is_added_at_rate_zero_and_outside_training(rate, training):
    layer = DropPath(rate)
    set_training(layer, training)
    assert (layer(paddle.zeros([64, 2]), ones_like).numpy() == 1).all()


def test_keeps_the_precision():
    assert DropPath(0.5)(paddle.zeros([8, 2], dtype="float64"), ones_like).dtype == paddle.float64
    mixed = DropPath(0.5)(paddle.zeros([64, 2]), lambda x: ones_like(x).astype("bfloat16"))
    assert mixed.dtype == paddle.float32 and set(np.unique(mixed.numpy())) == {0, 2}


def test_draws_follow_the_global_seed():
    drawn = []
    for _ in range(2):
        paddle.seed(3)
        drawn.append(DropPath(0.5)(paddle.zeros([64, 1]), ones_like).numpy())
    np.testing.assert_array_equal(*drawn)


def test_a_cpu_computes_only_the_branches_that_are_kept():
    seen = []

    def branch(x, other):
        seen.append((x, other))
        return x + other

    paddle.seed(1)
    x, other = paddle.randn([64, 3]), paddle.randn([64, 3])
    changed = (DropPath(0.75)(x, branch, other).numpy() != x.numpy()).any(axis=1)
    assert 0 < changed.sum() < 32
    for whole, part in zip((x, other), seen[0]):
        np.testing.assert_array_equal(part.numpy(), whole.numpy()[changed])


@pytest.mark.parametrize("rate, kept", [(0.5, (1, 2, 3)), (1e-6, (4,)), (1 - 1e-6, (0,))])
@pytest.mark.parametrize("kind, count", [(Block, 1), (RegressorBlock, 4)])
def test_results_and_gradients_are_those_of_a_device_that_multiplies_by_zero(kind, count, rate, kept, monkeypatch):
    paddle.seed(0)
    layer, inputs = kind(8, 2, drop_path_rate=rate, layer_scale=0.5), [paddle.randn([4, 5, 8]) for _ in range(count)]
    results = []
    for skips in (True, False):
        if not skips:
            monkeypatch.setattr("plsc.nn.drop_path.on_cpu", lambda tensor: False)
        given = [tensor.detach() for tensor in inputs]
        for tensor in given:
            tensor.stop_gradient = False
        paddle.seed(4)
        out = layer(*given)
        (out * paddle.arange(40.0).reshape([5, 8]).cos()).sum().backward()
        results.append([out.numpy()] + [tensor.grad.numpy() for tensor in [*given, *layer.parameters()]])
        layer.clear_gradients()
    if kind is Block:
        assert (results[0][0] != inputs[0].numpy()).any(axis=(1, 2)).sum() in kept
    for left, right in zip(*results):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(right).max()))


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_refuses_a_rate_out_of_range(rate):
    with pytest.raises(ValueError, match=r"drop_path_rate must be in \[0, 1\)"):
        DropPath(rate)


def test_ramp():
    assert drop_path_ramp(0.2, 3) == pytest.approx([0.0, 0.1, 0.2])
    assert drop_path_ramp(0.2, 1) == [0.0]
    assert drop_path_ramp(0.2, 0) == []
