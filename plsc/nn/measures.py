"""Metrics of predictions that a task logs besides the loss; without gradient or device synchronization."""

import paddle
from paddle.nn import functional as F


@paddle.no_grad()
def perplexity(ids: paddle.Tensor, vocab_size: int) -> paddle.Tensor:
    """Perplexity of token usage: exp of the entropy of token frequencies, in [1, vocab_size].

    Args:
        ids: Token ids, int64, any shape.
        vocab_size: Number of tokens K.

    Returns:
        Scalar, float32.
    """
    each = paddle.full([ids.size], 1.0 / ids.size)
    shares = paddle.scatter_nd_add(
        paddle.zeros([vocab_size]), ids.reshape([-1, 1]), each
    )  # bincount would wait for the device
    return paddle.exp(-(shares * (shares + 1e-10).log()).sum())


@paddle.no_grad()
def mean_cosine(first: paddle.Tensor, second: paddle.Tensor) -> paddle.Tensor:
    """Mean cosine similarity along the last axis: two tensors (..., D) -> scalar, float32, in [-1, 1]."""
    return F.cosine_similarity(first.astype("float32"), second.astype("float32"), axis=-1).mean()


@paddle.no_grad()
def deviation(features: paddle.Tensor) -> paddle.Tensor:
    """Standard deviation per channel, averaged over channels: (..., D) -> scalar, float32; 0 means collapse."""
    rows = features.astype("float32").reshape([-1, features.shape[-1]])
    return (rows - rows.mean(axis=0)).square().mean(axis=0).sqrt().mean()
