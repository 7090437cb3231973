"""Linear layers, layer normalization, channel scales and attention, optimized for CPUs.

Paddle's CPU kernels sum over rows in one thread, at a tenth of the memory bandwidth: a bias gradient takes a third of
the time of the matmul next to it, and a softmax as long as the matmuls around it. Here rows are summed by matmuls with
ones, and matmuls add to existing values. Other devices use Paddle's operators. Results agree up to rounding.

The backward pass works once only: Paddle crashes on a second one through a PyLayer (`retain_graph=True`).
"""

import functools
from typing import Any, List, Optional, Tuple

import paddle
from paddle import nn
from paddle.autograd import PyLayer
from paddle.nn import functional as F

_LEAST_SUM = 1e-30  # of exponentials; above it, float32 underflow is smaller than rounding


def linear(x: paddle.Tensor, weight: paddle.Tensor, bias: Optional[paddle.Tensor] = None) -> paddle.Tensor:
    """Linear map: x (..., I) @ weight (I, O) + bias (O) -> (..., O)."""
    if bias is None or not on_cpu(x):
        return F.linear(x, weight, bias)
    if not _learn(x, weight, bias):
        return _affine(x, weight, bias)
    return F.linear(x, weight, bias) if bias.stop_gradient else _Linear.apply(x, weight, bias)


def scale_channels(x: paddle.Tensor, scale: paddle.Tensor) -> paddle.Tensor:
    """Scale channels: x (..., D) * scale (D) -> (..., D)."""
    return _Scale.apply(x, scale) if _learns_on_cpu(scale) else x * scale


def add_branch(x: paddle.Tensor, branch: paddle.Tensor) -> paddle.Tensor:
    """Return x + branch, of the same shape; on a CPU `branch` is overwritten, so it must not be used afterwards."""
    return branch.add_(x) if on_cpu(branch) and branch.dtype == x.dtype else x + branch


def on_cpu(tensor: paddle.Tensor) -> bool:
    """Return True if this module's CPU functions apply: on a CPU, and not while a network is traced for export."""
    return paddle.in_dynamic_mode() and tensor.place.is_cpu_place()


class Linear(nn.Linear):
    """`paddle.nn.Linear` with the fast CPU gradients of this module."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return linear(x, self.weight, self.bias)


class LayerNorm(nn.LayerNorm):
    """`paddle.nn.LayerNorm` over the last axis with the fast CPU gradients of this module."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if self.weight is None or not _learns_on_cpu(self.weight):
            return F.layer_norm(x, self._normalized_shape, self.weight, self.bias, self._epsilon)
        return _LayerNorm.apply(x, self.weight, self.bias, self._epsilon)


def project_heads(
    x: paddle.Tensor,
    weight: paddle.Tensor,
    q_bias: Optional[paddle.Tensor],
    v_bias: Optional[paddle.Tensor],
    num_heads: int,
) -> Tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    """Compute queries, keys and values of self-attention.

    Args:
        x: Tokens (B, N, D).
        weight: Concatenated weights of queries, keys and values, (D, 3 * D).
        q_bias: Bias of the queries, (D), or None.
        v_bias: Bias of the values, (D); required with `q_bias`.
        num_heads: Number of heads; divides D.

    Returns:
        Three tensors (B, heads, N, D / heads).
    """
    if not on_cpu(x):
        bias = None if q_bias is None else _qkv_bias(q_bias, v_bias)
        return tuple(_heads_first(F.linear(x, weight, bias), num_heads).unbind(0))
    biases = () if q_bias is None else (q_bias, v_bias)
    if _learn(x, weight, *biases):
        return _ProjectHeads.apply(x, weight, *biases, num_heads=num_heads)
    return _project_heads(x, weight, biases, num_heads)


def attend(
    q: paddle.Tensor,
    k: paddle.Tensor,
    v: paddle.Tensor,
    scale: float,
    bias: Optional[paddle.Tensor] = None,
    drop_rate: float = 0.0,
) -> paddle.Tensor:
    """Scaled dot-product attention: average values by the softmax of query-key products.

    Args:
        q: Queries (B, heads, N, d).
        k: Keys (B, heads, M, d).
        v: Values (B, heads, M, d).
        scale: Factor of the queries.
        bias: Added to the attention logits, (heads, N, M).
        drop_rate: Dropout probability of the attention weights.

    Returns:
        Output with merged heads, (B, N, heads * d).
    """
    if drop_rate or not on_cpu(q):
        return _attend_elsewhere(q, k, v, scale, bias, drop_rate)
    inputs = (q, k, v) if bias is None else (q, k, v, bias)
    if _learn(*inputs):
        return _Attend.apply(*inputs, scale=scale)
    return _attend(q, k, v, scale, bias)[0]


def _learns_on_cpu(parameter: paddle.Tensor) -> bool:
    return on_cpu(parameter) and paddle.is_grad_enabled() and not parameter.stop_gradient


def _learn(*tensors: paddle.Tensor) -> bool:
    """Return True if a function of these tensors needs a backward pass."""
    return paddle.is_grad_enabled() and not all(tensor.stop_gradient for tensor in tensors)


def _learning(*tensors: paddle.Tensor) -> List[bool]:
    """Flags of the PyLayer inputs that need a gradient; for the others Paddle expects None."""
    return [not tensor.stop_gradient for tensor in tensors]


def _rows(x: paddle.Tensor) -> paddle.Tensor:
    """Flatten to rows: (..., D) -> (R, D)."""
    return x.reshape([-1, x.shape[-1]])


def _sum_rows(rows: paddle.Tensor) -> paddle.Tensor:
    """Sum of rows: (R, D) -> (D)."""
    return paddle.matmul(_ones(1, rows.shape[0], rows.dtype), rows).reshape([-1])


def _subtract_column(rows: paddle.Tensor, column: paddle.Tensor) -> paddle.Tensor:
    """(R, D) - (R, 1) -> (R, D)."""
    return paddle.addmm(rows, column, _ones(1, rows.shape[1], rows.dtype), alpha=-1.0)


@functools.lru_cache(maxsize=64)
def _ones(rows: int, columns: int, dtype: Any) -> paddle.Tensor:
    """Cached ones, (rows, columns); must not be modified."""
    return paddle.ones([rows, columns], dtype)


class _Linear(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor) -> paddle.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.learns = _learning(x, weight)
        return _affine(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: paddle.Tensor) -> Tuple[Optional[paddle.Tensor], ...]:
        x, weight = ctx.saved_tensor()
        rows = _rows(gradient)
        dx = paddle.matmul(rows, weight, transpose_y=True).reshape(x.shape) if ctx.learns[0] else None
        dw = paddle.matmul(_rows(x), rows, transpose_x=True) if ctx.learns[1] else None
        return dx, dw, _sum_rows(rows)


def _affine(x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor) -> paddle.Tensor:
    return paddle.addmm(bias, _rows(x), weight).reshape([*x.shape[:-1], weight.shape[1]])


class _Scale(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor, scale: paddle.Tensor) -> paddle.Tensor:
        ctx.save_for_backward(x, scale)
        ctx.learns = _learning(x, scale)
        return x * scale

    @staticmethod
    def backward(ctx: Any, gradient: paddle.Tensor) -> Tuple[Optional[paddle.Tensor], ...]:
        x, scale = ctx.saved_tensor()
        return gradient * scale if ctx.learns[0] else None, _sum_rows(_rows(gradient * x))


class _LayerNorm(PyLayer):
    @staticmethod
    def forward(
        ctx: Any, x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor, epsilon: float
    ) -> paddle.Tensor:
        rows = _rows(x)
        y, mean, variance = paddle._legacy_C_ops.layer_norm(
            rows, weight, bias, "epsilon", epsilon, "begin_norm_axis", 1
        )
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.epsilon, ctx.learns = epsilon, _learning(x, weight, bias)
        return y.reshape(x.shape)

    @staticmethod
    def backward(ctx: Any, gradient: paddle.Tensor) -> Tuple[Optional[paddle.Tensor], ...]:
        x, weight, mean, variance = ctx.saved_tensor()
        rows, width = _rows(gradient), x.shape[-1]
        scale = paddle.rsqrt(variance + ctx.epsilon).unsqueeze(1)  # (R, 1)
        centred = _subtract_column(_rows(x), mean.unsqueeze(1))  # (R, D)
        weighted = rows * centred
        dx = None
        if ctx.learns[0]:
            # with n = scale centered: dx = scale (g w - mean(g w) - n mean(g w n)), means over D as matmuls with w
            share = weight.unsqueeze(1) / width  # (D, 1)
            dx = paddle.matmul(scale, weight.unsqueeze(0)).multiply_(rows)
            dx.subtract_(centred.multiply_(scale**3 * paddle.matmul(weighted, share)))
            dx.addmm_(scale * paddle.matmul(rows, share), _ones(1, width, rows.dtype), alpha=-1.0)
            dx = dx.reshape(x.shape)
        dw = paddle.matmul(scale, weighted, transpose_x=True).reshape([-1])
        return dx, dw, _sum_rows(rows) if ctx.learns[2] else None


def _qkv_bias(q_bias: paddle.Tensor, v_bias: paddle.Tensor) -> paddle.Tensor:
    """Concatenated biases with zeros for the keys: (D), (D) -> (3 * D)."""
    return paddle.concat([q_bias, paddle.zeros_like(q_bias), v_bias])


def _heads_first(x: paddle.Tensor, num_heads: int) -> paddle.Tensor:
    """(B, N, 3 * D) -> (3, B, heads, N, D / heads)."""
    return x.reshape([*x.shape[:2], 3, num_heads, -1]).transpose([2, 0, 3, 1, 4])


def _project_heads(
    x: paddle.Tensor, weight: paddle.Tensor, biases: Tuple[paddle.Tensor, ...], num_heads: int
) -> Tuple[paddle.Tensor, ...]:
    y = _affine(x, weight, _qkv_bias(*biases)) if biases else paddle.matmul(x, weight)
    heads = _heads_first(y, num_heads).contiguous()
    return tuple(_part(heads, i) for i in range(3))


def _part(x: paddle.Tensor, index: int) -> paddle.Tensor:
    """`x[index]`, not a copy, without gradient; x is contiguous.

    `x._slice` leaves a list in memory at each call (Paddle 3.3.1), so a CPU shares the buffer in another way.
    """
    if not on_cpu(x):
        return x._slice(index, index + 1).reshape(x.shape[1:])
    part = paddle.empty([0], x.dtype)
    part.get_tensor()._share_data_with(x.get_tensor()._slice(index, index + 1))
    return part.reshape(x.shape[1:])


class _ProjectHeads(PyLayer):
    @staticmethod
    def forward(
        ctx: Any, x: paddle.Tensor, weight: paddle.Tensor, *biases: paddle.Tensor, num_heads: int
    ) -> Tuple[paddle.Tensor, ...]:
        ctx.save_for_backward(x, weight)
        ctx.learns = _learning(x, weight, *biases)
        return _project_heads(x, weight, biases, num_heads)

    @staticmethod
    def backward(ctx: Any, *gradients: paddle.Tensor) -> Tuple[Optional[paddle.Tensor], ...]:
        x, weight = ctx.saved_tensor()
        rows = paddle.concat([_merge_heads(part).reshape([-1, x.shape[-1]]) for part in gradients], axis=1)  # (R, 3 D)
        dx = paddle.matmul(rows, weight, transpose_y=True).reshape(x.shape) if ctx.learns[0] else None
        dw = paddle.matmul(_rows(x), rows, transpose_x=True) if ctx.learns[1] else None
        if not any(ctx.learns[2:]):
            return (dx, dw, *(None for _ in ctx.learns[2:]))
        dq, _, dv = _sum_rows(rows).split(3)
        return dx, dw, dq if ctx.learns[2] else None, dv if ctx.learns[3] else None


def _merge_heads(x: paddle.Tensor) -> paddle.Tensor:
    """(B, heads, N, d) -> (B, N, heads * d)."""
    return x.transpose([0, 2, 1, 3]).flatten(2)


def _attend_elsewhere(
    q: paddle.Tensor, k: paddle.Tensor, v: paddle.Tensor, scale: float, bias: Optional[paddle.Tensor], drop_rate: float
) -> paddle.Tensor:
    """Compute attention by Paddle's operators."""
    if bias is None and _has_flash_attention(q):  # the flash kernels do not compute a gradient of the bias
        return _attend_fused(q, k, v, scale, drop_rate)
    scores = paddle.matmul(q * scale, k, transpose_y=True)
    weights = F.softmax(scores if bias is None else scores + bias, axis=-1)
    return _merge_heads(paddle.matmul(F.dropout(weights, drop_rate) if drop_rate else weights, v))


def _has_flash_attention(q: paddle.Tensor) -> bool:
    """Return True if Paddle's flash kernels apply: 16 bits, head width <= 256, GPU of compute capability >= 8."""
    if q.dtype not in (paddle.float16, paddle.bfloat16) or q.shape[-1] > 256 or not q.place.is_gpu_place():
        return False
    return paddle.device.cuda.get_device_capability(q.place.gpu_device_id())[0] >= 8


def _attend_fused(
    q: paddle.Tensor, k: paddle.Tensor, v: paddle.Tensor, scale: float, drop_rate: float
) -> paddle.Tensor:
    """Compute attention by one fused kernel, which does not write the attention weights to memory."""
    q = q * (scale * q.shape[-1] ** 0.5)  # the kernel divides by the root of d
    tokens_first = [x.transpose([0, 2, 1, 3]) for x in (q, k, v)]  # (B, N, heads, d)
    return F.scaled_dot_product_attention(*tokens_first, dropout_p=drop_rate).flatten(2)


def _attend(
    q: paddle.Tensor, k: paddle.Tensor, v: paddle.Tensor, scale: float, bias: Optional[paddle.Tensor]
) -> Tuple[paddle.Tensor, paddle.Tensor]:
    """Merged heads (B, N, heads * d) and weights (B, heads, N, M)."""
    weights = _scores(q, k, scale, bias)
    if not _softmax_(weights):
        weights = F.softmax(_scores(q, k, scale, bias), axis=-1)
    return _merge_heads(paddle.matmul(weights, v)), weights


def _scores(q: paddle.Tensor, k: paddle.Tensor, scale: float, bias: Optional[paddle.Tensor]) -> paddle.Tensor:
    """(B, heads, N, M)."""
    scores = paddle.matmul(q, k, transpose_y=True).scale_(scale)
    return scores if bias is None else scores.add_(bias)


def _softmax_(scores: paddle.Tensor) -> bool:
    """Softmax in place over the last axis, (..., M), without subtracting the row maximum.

    Finding the maximum takes longer than the rest.

    Returns:
        True on success; False if scores are so far from zero that it over- or underflows. The scores are then lost.
    """
    powers = _rows(scores.exp_())
    sums = paddle.matmul(powers, _ones(powers.shape[1], 1, powers.dtype))  # (R, 1)
    values = sums.numpy()
    if not (values.min() > _LEAST_SUM and values.max() < 1 / _LEAST_SUM):  # also true for NaN
        return False
    powers.multiply_(sums.reciprocal_())
    return True


class _Attend(PyLayer):
    @staticmethod
    def forward(
        ctx: Any, q: paddle.Tensor, k: paddle.Tensor, v: paddle.Tensor, *bias: paddle.Tensor, scale: float
    ) -> paddle.Tensor:
        y, weights = _attend(q, k, v, scale, bias[0] if bias else None)
        ctx.save_for_backward(q, k, v, weights, y.detach())
        ctx.scale, ctx.learns = scale, _learning(q, k, v, *bias)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: paddle.Tensor) -> Tuple[Optional[paddle.Tensor], ...]:
        q, k, v, weights, y = ctx.saved_tensor()
        split = [*gradient.shape[:2], q.shape[1], q.shape[3]]  # (B, N, heads, d)
        # the sum over M of weights * their gradients equals the sum over d of outputs * their gradients
        means = paddle.matmul((gradient * y).reshape([-1, split[3]]), _ones(split[3], 1, y.dtype))
        means = means.reshape(split[:3]).transpose([0, 2, 1]).reshape([-1, 1])  # (B * heads * N, 1)
        gradient = gradient.reshape(split).transpose([0, 2, 1, 3])  # (B, heads, N, d)
        dv = paddle.matmul(weights, gradient, transpose_x=True) if ctx.learns[2] else None
        ds = paddle.matmul(gradient, v, transpose_y=True)  # (B, heads, N, M)
        _rows(ds).addmm_(means, _ones(1, ds.shape[3], ds.dtype), alpha=-1.0)
        ds.multiply_(weights)
        dq = paddle.matmul(ds, k).scale_(ctx.scale) if ctx.learns[0] else None
        dk = paddle.matmul(ds, q, transpose_x=True).scale_(ctx.scale) if ctx.learns[1] else None
        of_all = ds.reshape([ds.shape[0], -1])  # (B, heads * N * M)
        return (dq, dk, dv, *(_sum_rows(of_all).reshape(ds.shape[1:]) if learns else None for learns in ctx.learns[3:]))
