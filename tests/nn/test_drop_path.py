import numpy as np
import paddle
import pytest

from plsc.nn.drop_path import DropPath, drop_path_ramp
from plsc.nn.utils import set_training


def test_drops_whole_samples_and_keeps_the_mean():
    paddle.seed(0)
    kept = DropPath(0.25)(paddle.ones([4000, 2, 3])).numpy()
    samples = kept.reshape(4000, -1)
    assert (samples == samples[:, :1]).all()
    assert set(np.unique(samples)) == {np.float32(0), np.float32(1 / 0.75)}
    assert samples.mean() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("rate, training", [(0.0, True), (0.5, False)])
def test_identity_at_rate_zero_and_outside_training(rate, training):
    layer, x = DropPath(rate), paddle.ones([8, 2])
    set_training(layer, training)
    assert layer(x) is x


def test_keeps_the_precision():
    assert DropPath(0.5)(paddle.ones([8, 2], dtype="float64")).dtype == paddle.float64


def test_draws_follow_the_global_seed():
    drawn = []
    for _ in range(2):
        paddle.seed(3)
        drawn.append(DropPath(0.5)(paddle.ones([64, 1])).numpy())
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_refuses_an_impossible_rate(rate):
    with pytest.raises(ValueError, match=r"drop_path_rate must be in \[0, 1\)"):
        DropPath(rate)


def test_ramp():
    assert drop_path_ramp(0.2, 3) == pytest.approx([0.0, 0.1, 0.2])
    assert drop_path_ramp(0.2, 1) == [0.0]
    assert drop_path_ramp(0.2, 0) == []
