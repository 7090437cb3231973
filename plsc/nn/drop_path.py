"""Stochastic depth: residual branches skipped at random."""

from typing import Callable, List

import numpy as np
import paddle
from paddle import nn

from plsc.nn.functional import add_branch, on_cpu
from plsc.nn.utils import tensor_of


class DropPath(nn.Layer):
    """Stochastic depth: randomly chosen samples skip a residual branch; for the others it is scaled by 1 / (1 - rate).

    Huang et al., arXiv 1603.09382. Random numbers come from Paddle's global generator. On a CPU the branch is computed
    only for the samples that keep it; results are equal up to rounding. On other devices this would make the host wait
    for the device, so the branch is computed for all samples and multiplied by zero for some.

    Args:
        rate: Probability in [0, 1) that a sample skips the branch.

    Raises:
        ValueError: If `rate` is outside [0, 1).
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"drop_path_rate must be in [0, 1), got {rate}")
        self.rate = rate

    def forward(self, x: paddle.Tensor, branch: Callable[..., paddle.Tensor], *others: paddle.Tensor) -> paddle.Tensor:
        """Return x + branch(x, *others); in training some samples skip the branch.

        Args:
            x: Input, (B, ...).
            branch: Function that treats samples independently; its result has the shape of its first argument.
            *others: Further arguments of the branch, (B, ...).

        Returns:
            Tensor with the shape of `x`.
        """
        if not self.training or self.rate == 0.0:
            return add_branch(x, branch(x, *others))
        keep = 1.0 - self.rate
        kept = paddle.rand([x.shape[0]] + [1] * (x.ndim - 1)) < keep  # (B, 1, ...)
        if not on_cpu(x):
            added = branch(x, *others)
            return x + added * (kept.astype(added.dtype) / keep)
        rows, scale = np.flatnonzero(kept.numpy()), 1.0 / keep
        if not len(rows):  # compute one branch with weight 0, so that parameters get zero gradients instead of none
            rows, scale = np.zeros(1, "int64"), 0.0
        if len(rows) == len(x):
            return add_branch(x, branch(x, *others) * scale)
        index = tensor_of(rows)
        added = branch(*(paddle.gather(tensor, index) for tensor in (x, *others))) * scale
        return paddle.scatter_nd_add(x, index.unsqueeze(1), added.astype(x.dtype))

    def extra_repr(self) -> str:
        """Text shown by `print(layer)`."""
        return f"rate={self.rate}"


def drop_path_ramp(rate: float, depth: int) -> List[float]:
    """Drop rates of the blocks, rising linearly from 0 in the first to `rate` in the last."""
    return np.linspace(0.0, rate, depth).tolist()
