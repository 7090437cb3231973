"""Linear layers, layer normalisation and channel scales whose gradients are cheap on a CPU.

Paddle's CPU kernels sum over rows in one thread, at a tenth of the memory's speed: the gradient of a bias costs as much
as a third of the product beside it. Here rows are summed by a product with ones. On other devices Paddle's own
operators are used. The numbers agree up to rounding.
"""

from typing import Any, Optional, Tuple

import paddle
from paddle import nn
from paddle.autograd import PyLayer
from paddle.nn import functional as F


def linear(x: paddle.Tensor, weight: paddle.Tensor, bias: Optional[paddle.Tensor] = None) -> paddle.Tensor:
    """x (..., I) weight (I, O) + bias (O) -> (..., O)."""
    if bias is None or not _learns_on_cpu(bias):
        return F.linear(x, weight, bias)
    return _Linear.apply(x, weight, bias)


def scale_channels(x: paddle.Tensor, scale: paddle.Tensor) -> paddle.Tensor:
    """x (..., D) times scale (D)."""
    return _Scale.apply(x, scale) if _learns_on_cpu(scale) else x * scale


class Linear(nn.Linear):
    """`paddle.nn.Linear` with this module's gradients."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return linear(x, self.weight, self.bias)


class LayerNorm(nn.LayerNorm):
    """`paddle.nn.LayerNorm` over the last axis with this module's gradients."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if self.weight is None or not _learns_on_cpu(self.weight):
            return super().forward(x)
        return _LayerNorm.apply(x, self.weight, self.bias, self._epsilon)


def _learns_on_cpu(parameter: paddle.Tensor) -> bool:
    return paddle.is_grad_enabled() and not parameter.stop_gradient and parameter.place.is_cpu_place()


def _rows(x: paddle.Tensor) -> paddle.Tensor:
    """(..., D) -> (R, D)."""
    return x.reshape([-1, x.shape[-1]])


def _sum_rows(rows: paddle.Tensor) -> paddle.Tensor:
    """(R, D) -> (D)."""
    return paddle.matmul(paddle.ones([1, rows.shape[0]], rows.dtype), rows).reshape([-1])


def _repeat_row(row: paddle.Tensor, count: int) -> paddle.Tensor:
    """(D) -> (count, D)."""
    return paddle.matmul(paddle.ones([count, 1], row.dtype), row.unsqueeze(0))


def _repeat_column(column: paddle.Tensor, count: int) -> paddle.Tensor:
    """(R, 1) -> (R, count)."""
    return paddle.matmul(column, paddle.ones([1, count], column.dtype))


class _Linear(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor) -> paddle.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.input_learns, ctx.weight_learns = not x.stop_gradient, not weight.stop_gradient
        return _affine(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: paddle.Tensor) -> Tuple[Optional[paddle.Tensor], ...]:
        x, weight = ctx.saved_tensor()
        rows = _rows(gradient)
        dx = paddle.matmul(rows, weight, transpose_y=True).reshape(x.shape) if ctx.input_learns else None
        dw = paddle.matmul(_rows(x), rows, transpose_x=True) if ctx.weight_learns else None
        return dx, dw, _sum_rows(rows)


def _affine(x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor) -> paddle.Tensor:
    rows = _rows(x)
    y = paddle.matmul(rows, weight)
    return y.add_(_repeat_row(bias, rows.shape[0])).reshape([*x.shape[:-1], weight.shape[1]])


class _Scale(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor, scale: paddle.Tensor) -> paddle.Tensor:
        ctx.save_for_backward(x, scale)
        ctx.input_learns = not x.stop_gradient
        rows = _rows(x)
        return (rows * _repeat_row(scale, rows.shape[0])).reshape(x.shape)

    @staticmethod
    def backward(ctx: Any, gradient: paddle.Tensor) -> Tuple[Optional[paddle.Tensor], ...]:
        x, scale = ctx.saved_tensor()
        rows = _rows(gradient)
        dx = (rows * _repeat_row(scale, rows.shape[0])).reshape(x.shape) if ctx.input_learns else None
        return dx, _sum_rows(rows * _rows(x))


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
        ctx.epsilon, ctx.input_learns = epsilon, not x.stop_gradient
        return y.reshape(x.shape)

    @staticmethod
    def backward(ctx: Any, gradient: paddle.Tensor) -> Tuple[Optional[paddle.Tensor], ...]:
        x, weight, mean, variance = ctx.saved_tensor()
        rows, width = _rows(gradient), x.shape[-1]
        scale = paddle.rsqrt(variance + ctx.epsilon).unsqueeze(1)  # (R, 1)
        centred = _rows(x) - _repeat_column(mean.unsqueeze(1), width)  # (R, D)
        weighted = rows * centred
        dx = None
        if ctx.input_learns:
            # with n = scale centred: dx = scale (g w - mean(g w) - n mean(g w n)), means over D as products with w
            share = weight.unsqueeze(1) / width  # (D, 1)
            dx = rows * paddle.matmul(scale, weight.unsqueeze(0))
            dx.subtract_(centred.multiply_(_repeat_column(scale**3 * paddle.matmul(weighted, share), width)))
            dx = dx.subtract_(_repeat_column(scale * paddle.matmul(rows, share), width)).reshape(x.shape)
        return dx, paddle.matmul(scale, weighted, transpose_x=True).reshape([-1]), _sum_rows(rows)
