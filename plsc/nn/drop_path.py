"""Stochastic depth: residual branches that are left out at random."""

from typing import List

import numpy as np
import paddle
from paddle import nn


class DropPath(nn.Layer):
    """Zeroes a residual branch for whole samples at random and scales up the others; identity outside training.

    Huang et al., arXiv 1603.09382. Draws come from Paddle's global generator.

    Args:
        rate: Probability in [0, 1) that the branch of a sample is dropped.

    Raises:
        ValueError: If `rate` is outside [0, 1).
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"drop_path_rate must be in [0, 1), got {rate}")
        self.rate = rate

    def forward(self, branch: paddle.Tensor) -> paddle.Tensor:
        """(B, ...) -> (B, ...)."""
        if not self.training or self.rate == 0.0:
            return branch
        keep = 1.0 - self.rate
        shape = [branch.shape[0]] + [1] * (branch.ndim - 1)
        kept = (paddle.rand(shape) < keep).astype(branch.dtype)
        return branch * (kept / keep)

    def extra_repr(self) -> str:
        """What `print(layer)` shows."""
        return f"rate={self.rate}"


def drop_path_ramp(rate: float, depth: int) -> List[float]:
    """Drop rates that rise linearly from 0 in the first block to `rate` in the last."""
    return np.linspace(0.0, rate, depth).tolist()
