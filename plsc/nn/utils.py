"""Small helpers over layers."""

from typing import Tuple, Union

import paddle
from paddle import nn


def set_training(layer: nn.Layer, training: bool) -> None:
    """Puts a layer and everything in it into training or inference mode."""
    for part in layer.sublayers(include_self=True):
        part.training = training


def pair(value: Union[int, Tuple[int, int]]) -> Tuple[int, int]:
    """One number for both sides, or (height, width)."""
    height, width = (value, value) if isinstance(value, int) else value
    return int(height), int(width)


def take_tokens(tokens: paddle.Tensor, index: paddle.Tensor) -> paddle.Tensor:
    """Rows of each sample: (B, N, D) at int64 (B, M) -> (B, M, D)."""
    batch, count, width = tokens.shape
    offsets = paddle.arange(batch, dtype=index.dtype).unsqueeze(1) * count  # (B, 1)
    rows = paddle.gather(tokens.reshape([batch * count, width]), (index + offsets).flatten())
    return rows.reshape([batch, index.shape[1], width])
