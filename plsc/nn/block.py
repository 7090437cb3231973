"""Transformer block of encoders and decoders."""

from typing import Optional, Tuple

import paddle
from paddle import nn

from plsc.nn.attention import Attention
from plsc.nn.drop_path import DropPath
from plsc.nn.functional import LayerNorm, scale_channels
from plsc.nn.mlp import Mlp


class Block(nn.Layer):
    """Pre-norm transformer block: self-attention and MLP, with optional layer scale.

    Args:
        dim: Width D.
        num_heads: Number of attention heads.
        mlp_ratio: Hidden width of the MLP / D.
        qkv_bias: Add a bias to queries and values.
        qk_scale: Factor of the queries; by default (D / heads) ** -0.5.
        drop_rate: Dropout probability of both branches.
        attn_drop_rate: Dropout probability of the attention weights.
        drop_path_rate: Probability that a sample skips a branch (stochastic depth).
        layer_scale: Initial value of the learned scale per channel of each branch; None or <= 0: no scale.
        norm_eps: Added to the variance in the layer normalizations.
        bias_grid: Grid of the attention's relative position bias; None: no such bias.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: Optional[float] = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        layer_scale: Optional[float] = None,
        norm_eps: float = 1e-6,
        bias_grid: Optional[Tuple[int, int]] = None,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim, epsilon=norm_eps)
        self.attn = Attention(dim, num_heads, qkv_bias, qk_scale, drop_rate, attn_drop_rate, bias_grid)
        self.norm2 = LayerNorm(dim, epsilon=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), drop_rate)
        self.drop_path = DropPath(drop_path_rate)
        self.gamma_1 = self.gamma_2 = None
        if layer_scale is not None and layer_scale > 0:
            initial = nn.initializer.Constant(layer_scale)
            self.gamma_1 = self.create_parameter([dim], default_initializer=initial)
            self.gamma_2 = self.create_parameter([dim], default_initializer=initial)

    def forward(self, x: paddle.Tensor, bias: Optional[paddle.Tensor] = None) -> paddle.Tensor:
        """(B, N, D) -> (B, N, D); `bias` (heads, N, N) is added to the attention logits."""
        x = self.drop_path(x, lambda x: self._scaled(self.attn(self.norm1(x), bias), self.gamma_1))
        return self.drop_path(x, lambda x: self._scaled(self.mlp(self.norm2(x)), self.gamma_2))

    @staticmethod
    def _scaled(branch: paddle.Tensor, gamma: Optional[paddle.Tensor]) -> paddle.Tensor:
        return branch if gamma is None else scale_channels(branch, gamma)
