import numpy as np
import paddle
import pytest

from plsc.nn.measures import deviation, mean_cosine, perplexity


def test_perplexity_counts_tokens_in_use():
    assert float(perplexity(paddle.to_tensor([[3, 3], [3, 3]]), 8)) == pytest.approx(1, abs=1e-5)
    assert float(perplexity(paddle.to_tensor([0, 1, 2, 5] * 3), 8)) == pytest.approx(4, rel=1e-5)
    shares = np.array([0.75, 0.25])
    wanted = np.exp(-(shares * np.log(shares)).sum())
    assert float(perplexity(paddle.to_tensor([1, 1, 1, 2]), 4)) == pytest.approx(wanted, rel=1e-5)


def test_mean_cosine():
    x = paddle.to_tensor([[[1.0, 0.0], [0.0, 2.0]]])
    assert float(mean_cosine(x, 5 * x)) == pytest.approx(1)
    assert float(mean_cosine(x, paddle.to_tensor([[[0.0, 3.0], [0.0, 3.0]]]))) == pytest.approx(0.5)


def test_deviation_is_over_all_vectors():
    x = np.random.default_rng(0).normal(size=(4, 5, 6)).astype("float32")
    assert float(deviation(paddle.to_tensor(x))) == pytest.approx(x.reshape(20, 6).std(axis=0).mean(), rel=1e-5)
    assert float(deviation(paddle.ones([3, 4]))) == 0
