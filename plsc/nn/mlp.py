"""Two-layer MLP of a transformer block."""

import paddle
from paddle import nn
from paddle.nn import functional as F

from plsc.nn.functional import Linear


class Mlp(nn.Layer):
    """Linear, exact GELU, linear; dropout after the second linear layer only, as in CAE.

    Args:
        dim: Width D of input and output.
        hidden_dim: Hidden width.
        drop_rate: Dropout probability of the output.
    """

    def __init__(self, dim: int, hidden_dim: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden_dim)
        self.fc2 = Linear(hidden_dim, dim)
        self.drop_rate = drop_rate

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Apply the MLP: (B, N, D) -> (B, N, D)."""
        x = self.fc2(F.gelu(self.fc1(x)))
        return F.dropout(x, self.drop_rate, training=self.training) if self.drop_rate else x
