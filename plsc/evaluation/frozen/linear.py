"""Linear classifiers on frozen features: one for each learning rate, trained together in one pass."""

import math
from typing import Sequence

import numpy as np
import paddle

_MOMENTUM = 0.9


def train_linear(
    features: np.ndarray,
    labels: np.ndarray,
    rates: Sequence[float],
    classes: int,
    epochs: int = 30,
    batch_size: int = 256,
    seed: int = 0,
) -> np.ndarray:
    """Train softmax regressions by SGD with momentum and a cosine schedule, one for each learning rate.

    Oquab et al., arXiv 2304.07193, section 7.1: the rates share batches and features, so that ten of them cost
    little more than one.

    Args:
        features: Standardised, float32 (N, D).
        labels: int64 (N,).
        rates: Learning rates, each at the start of its cosine.
        classes: Number of classes C.
        epochs: Passes over the features.
        batch_size: Images per step; at most N.
        seed: Seed of the order.

    Returns:
        Weights with the bias as last row, float32 (len(rates), D + 1, C).
    """
    x = np.concatenate([features, np.ones((len(features), 1), np.float32)], axis=1)
    batch_size = min(batch_size, len(x))
    steps = max(1, len(x) // batch_size)
    weights = paddle.zeros([len(rates), x.shape[1], classes])
    velocity = paddle.zeros_like(weights)
    scale = paddle.to_tensor(np.array(rates, dtype=np.float32).reshape(-1, 1, 1))
    rng = np.random.default_rng(seed)
    one_hot = np.eye(classes, dtype=np.float32)[labels]
    with paddle.no_grad():
        for step in range(epochs * steps):
            if step % steps == 0:
                order = rng.permutation(len(x))
            chosen = order[step % steps * batch_size :][:batch_size]
            batch, wanted = paddle.to_tensor(x[chosen]), paddle.to_tensor(one_hot[chosen])
            errors = paddle.nn.functional.softmax(paddle.matmul(batch, weights), axis=-1) - wanted  # (R, B, C)
            gradient = paddle.matmul(batch, errors, transpose_x=True) / batch_size
            velocity = _MOMENTUM * velocity + gradient
            cosine = 0.5 * (1 + math.cos(math.pi * step / (epochs * steps)))
            weights = weights - cosine * scale * velocity
    return weights.numpy()


def predict_linear(weights: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Classes by each of the regressions: (R, D + 1, C) and (N, D) -> int64 (R, N)."""
    return (features @ weights[:, :-1] + weights[:, -1:]).argmax(axis=-1)
