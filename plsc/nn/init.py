"""Initial weights, drawn from Paddle's global generator."""

import math

import paddle
from paddle import nn


def truncated_normal_(parameter: paddle.Tensor, std: float = 0.02, cut: float = 1.0) -> None:
    """Fills a parameter from N(0, std^2) without what lies beyond `cut` standard deviations.

    CAE clips its 0.02 at +-0.02, so the real deviation is about 0.54 * 0.02.
    """
    inside = math.erf(cut / math.sqrt(2))
    uniform = paddle.uniform(parameter.shape, dtype="float64", min=-inside, max=inside)
    parameter.set_value((paddle.erfinv(uniform) * (std * math.sqrt(2))).astype(parameter.dtype))


def xavier_uniform_(parameter: paddle.Tensor, fan_in: int = 0, fan_out: int = 0) -> None:
    """Fills a Linear weight (in, out) from U(-a, a), a = sqrt(6 / (fan_in + fan_out)); the fans are its shape's."""
    bound = math.sqrt(6 / ((fan_in or parameter.shape[0]) + (fan_out or parameter.shape[1])))
    parameter.set_value(paddle.uniform(parameter.shape, dtype="float64", min=-bound, max=bound).astype(parameter.dtype))


def zero_(parameter: paddle.Tensor) -> None:
    """Fills a parameter with zeros."""
    parameter.set_value(paddle.zeros_like(parameter))


def truncated_normal_linears(layer: nn.Layer, std: float = 0.02) -> None:
    """Truncated normal weights and zero biases for every Linear in `layer`."""
    for part in layer.sublayers(include_self=True):
        if isinstance(part, nn.Linear):
            truncated_normal_(part.weight, std)
            if part.bias is not None:
                zero_(part.bias)


def xavier_linears(layer: nn.Layer) -> None:
    """Xavier weights and zero biases for every Linear in `layer`.

    The three products of a self-attention are one (D, 3D) matrix in the reference, so they count as that.
    """
    from plsc.nn.attention import SelfAttention

    joint = set()
    for part in layer.sublayers(include_self=True):
        if isinstance(part, SelfAttention):
            joint.update(id(product) for product in (part.q, part.k, part.v))
    for part in layer.sublayers(include_self=True):
        if isinstance(part, nn.Linear):
            wide = 3 * part.weight.shape[1] if id(part) in joint else 0
            xavier_uniform_(part.weight, fan_out=wide)
            if part.bias is not None:
                zero_(part.bias)
