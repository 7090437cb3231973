"""An attentive classifier on frozen tokens."""

import math
from typing import Any

import numpy as np
import paddle
from paddle.nn import functional as F

from plsc.nn.utils import set_training


def train_attentive(
    head: Any,
    tokens: np.ndarray,
    labels: np.ndarray,
    rate: float,
    epochs: int = 30,
    batch_size: int = 128,
    seed: int = 0,
) -> None:
    """Train a head on tokens by AdamW without weight decay and with a cosine schedule.

    Args:
        head: Takes tokens (B, N, D), gives logits (B, C); trained in place.
        tokens: float32 (M, N, D).
        labels: int64 (M,).
        rate: Learning rate at the start.
        epochs: Passes over the tokens.
        batch_size: Images per step; at most M.
        seed: Seed of the order.
    """
    optimizer = paddle.optimizer.AdamW(rate, parameters=head.parameters(), weight_decay=0.0)
    batch_size = min(batch_size, len(tokens))
    steps = max(1, len(tokens) // batch_size)
    rng = np.random.default_rng(seed)
    set_training(head, True)
    for step in range(epochs * steps):
        if step % steps == 0:
            order = rng.permutation(len(tokens))
        chosen = order[step % steps * batch_size :][:batch_size]
        optimizer.set_lr(rate * 0.5 * (1 + math.cos(math.pi * step / (epochs * steps))))
        F.cross_entropy(head(paddle.to_tensor(tokens[chosen])), paddle.to_tensor(labels[chosen])).backward()
        optimizer.step()
        optimizer.clear_grad()


def predict_attentive(head: Any, tokens: np.ndarray, batch_size: int = 512) -> np.ndarray:
    """Classes of tokens (M, N, D): int64 (M,)."""
    set_training(head, False)
    with paddle.no_grad():
        parts = [
            head(paddle.to_tensor(tokens[start : start + batch_size])).argmax(axis=-1).numpy()
            for start in range(0, len(tokens), batch_size)
        ]
    return np.concatenate(parts)
