"""A learned bias of attention scores by the offset between two patches (BEiT, arXiv 2106.08254)."""

from typing import Tuple

import paddle
from paddle import nn

from plsc.nn.pos_embed import relative_position_index, relative_position_rows


class RelativePositionBias(nn.Layer):
    """A table over offsets, and three rows for the cls token; zeros at first.

    Args:
        grid: (H, W) patches.
        num_heads: Columns of the table.
    """

    def __init__(self, grid: Tuple[int, int], num_heads: int) -> None:
        super().__init__()
        self.grid = grid
        self.num_tokens = grid[0] * grid[1] + 1
        self.table = self.create_parameter(
            [relative_position_rows(grid), num_heads], default_initializer=nn.initializer.Constant(0.0)
        )
        index = paddle.to_tensor(relative_position_index(grid).reshape(-1))
        self.register_buffer("index", index, persistable=False)

    def forward(self) -> paddle.Tensor:
        """The bias of all pairs of tokens, cls first: (1, heads, 1 + N, 1 + N)."""
        bias = paddle.gather(self.table, self.index)  # (tokens^2, heads)
        return bias.reshape([self.num_tokens, self.num_tokens, -1]).transpose([2, 0, 1]).unsqueeze(0)
