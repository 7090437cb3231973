"""What a task may say of its predictions besides the loss. Without gradient, and without waiting for the device."""

import paddle
from paddle.nn import functional as F


@paddle.no_grad()
def perplexity(ids: paddle.Tensor, vocab_size: int) -> paddle.Tensor:
    """How many tokens are in use: exp of the entropy of their frequencies, from 1 to `vocab_size`.

    Args:
        ids: Token ids, int64, any shape.
        vocab_size: Number of tokens.

    Returns:
        Scalar, float32.
    """
    each = paddle.full([ids.size], 1.0 / ids.size)
    shares = paddle.scatter_nd_add(paddle.zeros([vocab_size]), ids.reshape([-1, 1]), each)  # bincount would wait
    return paddle.exp(-(shares * (shares + 1e-10).log()).sum())


@paddle.no_grad()
def mean_cosine(first: paddle.Tensor, second: paddle.Tensor) -> paddle.Tensor:
    """Mean cosine between vectors along the last axis: two tensors (..., D) -> scalar, float32, in [-1, 1]."""
    return F.cosine_similarity(first.astype("float32"), second.astype("float32"), axis=-1).mean()


@paddle.no_grad()
def deviation(features: paddle.Tensor) -> paddle.Tensor:
    """Deviation of each channel over all vectors, averaged over channels: (..., D) -> scalar, float32; 0: collapsed."""
    rows = features.astype("float32").reshape([-1, features.shape[-1]])
    return (rows - rows.mean(axis=0)).square().mean(axis=0).sqrt().mean()
