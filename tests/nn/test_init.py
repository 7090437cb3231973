import math

import numpy as np
import paddle
import pytest
from paddle import nn

from plsc.nn.init import (
    rescale_by_depth_,
    truncated_normal_,
    truncated_normal_linear_,
    uniform_by_inputs_,
    xavier_uniform_,
    zero_bias_,
)


@pytest.fixture(autouse=True)
def seed():
    paddle.seed(0)


def test_truncated_normal_is_cut_at_one_deviation():
    layer = nn.Linear(200, 200)
    truncated_normal_(layer.weight, 0.02)
    values = layer.weight.numpy()
    assert np.abs(values).max() <= 0.02 * (1 + 1e-6)
    assert values.std() == pytest.approx(0.54 * 0.02, rel=0.02)
    assert abs(values.mean()) < 2e-4


def test_truncated_normal_with_a_wide_limit_is_normal():
    layer = nn.Linear(200, 200)
    truncated_normal_(layer.weight, 0.02, limit=2.0)
    values = layer.weight.numpy()
    assert np.isfinite(values).all()
    assert values.std() == pytest.approx(0.02, rel=0.02)


def test_truncated_normal_follows_the_global_seed():
    layer = nn.Linear(4, 4)
    drawn = []
    for _ in range(2):
        paddle.seed(7)
        truncated_normal_(layer.weight, 0.02)
        drawn.append(layer.weight.numpy().copy())
    np.testing.assert_array_equal(*drawn)


def test_xavier_uniform():
    layer = nn.Linear(100, 300)
    layer.bias.set_value(paddle.ones([300]))
    xavier_uniform_(layer)
    bound = math.sqrt(6 / 400)
    assert np.abs(layer.weight.numpy()).max() <= bound
    assert layer.weight.numpy().std() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert not layer.bias.numpy().any()


def test_uniform_by_inputs_is_pytorchs_default_of_a_convolution():
    layer = nn.Conv2D(3, 64, 8, stride=8)
    uniform_by_inputs_(layer)
    bound = 1 / np.sqrt(3 * 8 * 8)
    for value in (layer.weight.numpy(), layer.bias.numpy()):
        assert 0.9 * bound < np.abs(value).max() <= bound * (1 + 1e-6)
        assert value.std() == pytest.approx(bound / np.sqrt(3), rel=0.15)


def test_truncated_normal_linear_and_a_layer_without_bias():
    layer = nn.Linear(10, 10, bias_attr=False)
    truncated_normal_linear_(layer, 0.5)
    zero_bias_(layer)
    assert np.abs(layer.weight.numpy()).max() <= 0.5 * (1 + 1e-6)


def test_rescale_by_depth():
    layers = [nn.Linear(2, 2) for _ in range(3)]
    for layer in layers:
        layer.weight.set_value(paddle.ones([2, 2]))
    rescale_by_depth_([layer] for layer in layers)
    for depth, layer in enumerate(layers, start=1):
        np.testing.assert_allclose(layer.weight.numpy(), 1 / math.sqrt(2 * depth), rtol=1e-6)
        assert not layer.weight.stop_gradient


def test_lazy_parameters_are_not_initialized():
    with paddle.LazyGuard():
        layer = nn.Linear(2, 3)
    xavier_uniform_(layer)
    truncated_normal_linear_(layer, 0.1)
    rescale_by_depth_([[layer]])
    assert not layer.weight._is_initialized()
