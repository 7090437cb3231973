"""Multi-head attention as in BEiT: queries and values have a bias, keys do not."""

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import paddle
from paddle import nn
from paddle.nn import functional as F

from plsc.nn.functional import Linear, attend, linear, project_heads
from plsc.nn.pos_embed import relative_position_index


class RelativePositionBias(nn.Layer):
    """Learned attention bias per head and offset between two patches, with three more entries for the class token.

    BEiT, arXiv 2106.08254.

    Args:
        grid_size: Rows and columns of the patch grid.
        num_heads: Number of attention heads.
    """

    def __init__(self, grid_size: Tuple[int, int], num_heads: int) -> None:
        super().__init__()
        index = relative_position_index(grid_size)
        self.tokens = len(index)
        self.table = self.create_parameter(
            [int(index.max()) + 1, num_heads], default_initializer=nn.initializer.Constant(0.0)
        )
        self.register_buffer("index", paddle.to_tensor(index.reshape(-1)), persistable=False)

    def forward(self) -> paddle.Tensor:
        """Return the bias of every pair of tokens, (heads, 1 + N, 1 + N)."""
        bias = paddle.gather(self.table, self.index).reshape([self.tokens, self.tokens, -1])
        return bias.transpose([2, 0, 1])


def check_heads(dim: int, num_heads: int) -> None:
    """Raise ValueError if the number of heads does not divide the width."""
    if num_heads < 1 or dim % num_heads:
        raise ValueError(f"num_heads must divide the width: {dim} does not divide into {num_heads} heads")


def split_heads(x: paddle.Tensor, num_heads: int) -> paddle.Tensor:
    """Split the width into heads: (B, N, D) -> (B, heads, N, D / heads)."""
    return x.reshape([x.shape[0], x.shape[1], num_heads, -1]).transpose([0, 2, 1, 3])


class _MultiHead(nn.Layer):
    """Base class of self- and cross-attention: heads, biases, output projection."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        qkv_bias: bool = True,
        qk_scale: Optional[float] = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.scale = qk_scale or (dim // num_heads) ** -0.5
        self.drop_rate = drop_rate
        self.attn_drop_rate = attn_drop_rate
        zeros = nn.initializer.Constant(0.0)
        self.q_bias = self.create_parameter([dim], default_initializer=zeros) if qkv_bias else None
        self.v_bias = self.create_parameter([dim], default_initializer=zeros) if qkv_bias else None
        self.proj = Linear(dim, dim)

    def _output(
        self, q: paddle.Tensor, k: paddle.Tensor, v: paddle.Tensor, bias: Optional[paddle.Tensor] = None
    ) -> paddle.Tensor:
        """Attend and project: queries (B, heads, N, d), keys and values (B, heads, M, d) -> (B, N, D)."""
        x = self.proj(attend(q, k, v, self.scale, bias, self.attn_drop_rate if self.training else 0.0))
        return F.dropout(x, self.drop_rate, training=self.training) if self.drop_rate else x


class Attention(_MultiHead):
    """Multi-head self-attention.

    Args:
        dim: Width D.
        num_heads: Number of heads; must divide D.
        qkv_bias: Add a bias to queries and values; keys never have one.
        qk_scale: Factor of the queries; by default (D / heads) ** -0.5.
        drop_rate: Dropout probability of the output.
        attn_drop_rate: Dropout probability of the attention weights.
        bias_grid: Grid (rows, columns) of this layer's relative position bias; None: no such bias.

    Raises:
        ValueError: If `num_heads` does not divide `dim`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        qkv_bias: bool = True,
        qk_scale: Optional[float] = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        bias_grid: Optional[Tuple[int, int]] = None,
    ) -> None:
        super().__init__(dim, num_heads, qkv_bias, qk_scale, drop_rate, attn_drop_rate)
        self.qkv = nn.Linear(dim, 3 * dim, bias_attr=False)
        self.relative_position_bias = RelativePositionBias(bias_grid, num_heads) if bias_grid else None

    def forward(self, x: paddle.Tensor, bias: Optional[paddle.Tensor] = None) -> paddle.Tensor:
        """(B, N, D) -> (B, N, D); `bias` (heads, N, N) is added to the attention logits."""
        return self._output(*self._project(x), self._whole_bias(bias))

    def weights(self, x: paddle.Tensor, bias: Optional[paddle.Tensor] = None) -> paddle.Tensor:
        """Attention weights for the arguments of `forward`, (B, heads, N, N); each row sums to 1."""
        q, k, _ = self._project(x)
        scores = paddle.matmul(q, k, transpose_y=True) * self.scale
        whole = self._whole_bias(bias)
        return F.softmax(scores if whole is None else scores + whole, axis=-1)

    def _project(self, x: paddle.Tensor) -> Tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
        return project_heads(x, self.qkv.weight, self.q_bias, self.v_bias, self.num_heads)

    def _whole_bias(self, given: Optional[paddle.Tensor]) -> Optional[paddle.Tensor]:
        if self.relative_position_bias is None:
            return given
        own = self.relative_position_bias()
        return own if given is None else given + own


def attention_maps(blocks: Sequence[nn.Layer], run: Callable[[], Any]) -> List[paddle.Tensor]:
    """Record the attention weights of blocks during one run of their network.

    Args:
        blocks: Blocks with a sublayer `attn` of type `Attention`.
        run: Runs the network once.

    Returns:
        Attention weights (B, heads, N, N) of each block.
    """
    found: Dict[int, paddle.Tensor] = {}

    def keep(number: int) -> Callable[..., None]:
        def hook(layer: Attention, inputs: Tuple[Any, ...]) -> None:
            found[number] = layer.weights(*inputs)

        return hook

    hooks = [block.attn.register_forward_pre_hook(keep(number)) for number, block in enumerate(blocks)]
    try:
        with paddle.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return [found[number] for number in range(len(blocks))]


class CrossAttention(_MultiHead):
    """Multi-head cross-attention of queries to other keys and values.

    Args:
        dim: Width D of queries, keys, values and output.
        num_heads: Number of heads; must divide D.
        qkv_bias: Add a bias to queries and values; keys never have one.
        qk_scale: Factor of the queries; by default (D / heads) ** -0.5.
        drop_rate: Dropout probability of the output.
        attn_drop_rate: Dropout probability of the attention weights.

    Raises:
        ValueError: If `num_heads` does not divide `dim`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        qkv_bias: bool = True,
        qk_scale: Optional[float] = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
    ) -> None:
        super().__init__(dim, num_heads, qkv_bias, qk_scale, drop_rate, attn_drop_rate)
        self.q = nn.Linear(dim, dim, bias_attr=False)
        self.k = nn.Linear(dim, dim, bias_attr=False)
        self.v = nn.Linear(dim, dim, bias_attr=False)

    def forward(self, q: paddle.Tensor, k: paddle.Tensor, v: paddle.Tensor) -> paddle.Tensor:
        """Attend: queries (B, N, D), keys and values (B, M, D) -> (B, N, D)."""
        parts = ((q, self.q, self.q_bias), (k, self.k, None), (v, self.v, self.v_bias))
        return self._output(*(split_heads(linear(x, layer.weight, bias), self.num_heads) for x, layer, bias in parts))
