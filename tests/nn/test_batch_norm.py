import numpy as np
import paddle
import pytest

from plsc.nn.batch_norm import FeatureBatchNorm
from plsc.nn.utils import set_training


def features(batch=16):
    return np.random.default_rng(0).normal(2.0, 3.0, size=(batch, 4)).astype(np.float32)


def test_normalizes_by_the_batch_and_keeps_an_unbiased_running_variance():
    norm, x = FeatureBatchNorm(4, eps=1e-6), features()
    y = norm(paddle.to_tensor(x)).numpy()
    np.testing.assert_allclose(y, (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-6), atol=1e-5)
    np.testing.assert_allclose(norm.running_mean.numpy(), 0.1 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(norm.running_var.numpy(), 0.9 + 0.1 * x.var(0, ddof=1), rtol=1e-5)


def test_inference_uses_the_running_statistics_and_leaves_them():
    norm, x = FeatureBatchNorm(4), features()
    norm.running_mean.set_value(paddle.full([4], 2.0))
    norm.running_var.set_value(paddle.full([4], 9.0))
    set_training(norm, False)
    np.testing.assert_allclose(norm(paddle.to_tensor(x)).numpy(), (x - 2) / np.sqrt(9 + 1e-5), atol=1e-5)
    assert (norm.running_mean.numpy() == 2).all() and (norm.running_var.numpy() == 9).all()


def test_gradients_equal_paddles_own():
    x = features()
    gradients = []
    for norm in (FeatureBatchNorm(4), paddle.nn.BatchNorm1D(4, weight_attr=False, bias_attr=False)):
        leaf = paddle.to_tensor(x, stop_gradient=False)
        (norm(leaf) ** 3).sum().backward()
        gradients.append(leaf.grad.numpy())
    np.testing.assert_allclose(*gradients, atol=1e-3)


def test_running_statistics_are_saved_and_nothing_is_trained():
    norm = FeatureBatchNorm(4)
    assert set(norm.state_dict()) == {"running_mean", "running_var"}
    assert not norm.parameters()


def test_half_precision_features_are_normalized_in_float32():
    assert FeatureBatchNorm(4)(paddle.to_tensor(features()).astype("float16")).dtype == paddle.float32


def test_refuses_a_single_sample_in_training():
    with pytest.raises(ValueError, match="at least 2 samples per device"):
        FeatureBatchNorm(4)(paddle.ones([1, 4]))
