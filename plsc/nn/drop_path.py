"""Stochastic depth: residual branches that are left out at random."""

from typing import Callable, List

import numpy as np
import paddle
from paddle import nn

from plsc.nn.functional import add_branch, on_cpu


class DropPath(nn.Layer):
    """Adds a residual branch, but not to samples that are drawn at random; for the others it is scaled up.

    Huang et al., arXiv 1603.09382. Draws come from Paddle's global generator. On a CPU the branch is computed for the
    samples that keep it only: the same numbers up to rounding, for less work. Elsewhere the host would have to wait for
    the draw, so the branches of all are computed and some multiplied by zero.

    Args:
        rate: Probability in [0, 1) that a sample goes without the branch.

    Raises:
        ValueError: If `rate` is outside [0, 1).
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"drop_path_rate must be in [0, 1), got {rate}")
        self.rate = rate

    def forward(self, x: paddle.Tensor, branch: Callable[..., paddle.Tensor], *others: paddle.Tensor) -> paddle.Tensor:
        """x + branch(x, *others).

        Args:
            x: (B, ...).
            branch: Treats each sample by itself and gives what has the shape of its first argument.
            *others: What else it takes, (B, ...).

        Returns:
            As `x`; outside training every sample has its branch.
        """
        if not self.training or self.rate == 0.0:
            return add_branch(x, branch(x, *others))
        keep = 1.0 - self.rate
        kept = paddle.rand([x.shape[0]] + [1] * (x.ndim - 1)) < keep  # (B, 1, ...)
        if not on_cpu(x):
            added = branch(x, *others)
            return x + added * (kept.astype(added.dtype) / keep)
        rows, scale = np.flatnonzero(kept.numpy()), 1.0 / keep
        if not len(rows):  # one for nothing, as parameters shall have gradients of zero rather than none
            rows, scale = np.zeros(1, "int64"), 0.0
        if len(rows) == len(x):
            return add_branch(x, branch(x, *others) * scale)
        index = paddle.to_tensor(rows)
        added = branch(*(paddle.gather(tensor, index) for tensor in (x, *others))) * scale
        return paddle.scatter_nd_add(x, index.unsqueeze(1), added.astype(x.dtype))

    def extra_repr(self) -> str:
        """What `print(layer)` shows."""
        return f"rate={self.rate}"


def drop_path_ramp(rate: float, depth: int) -> List[float]:
    """Drop rates that rise linearly from 0 in the first block to `rate` in the last."""
    return np.linspace(0.0, rate, depth).tolist()
