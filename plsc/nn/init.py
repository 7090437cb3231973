"""Initial values of parameters."""

import math
from typing import Iterable, Optional

import paddle
from paddle import nn

_MAX_PROBABILITY = 1 - 1e-6  # the inverse error function is infinite at 1


@paddle.no_grad()
def truncated_normal_(parameter: paddle.Tensor, std: float, limit: Optional[float] = None) -> None:
    """Draws a parameter from a normal distribution of mean 0 that is cut at +-`limit`.

    CAE cuts at one `std`, its default here, so that the real deviation is 0.54 `std`.

    Args:
        parameter: Filled in place; draws come from Paddle's global generator.
        std: Deviation of the distribution before it is cut.
        limit: Largest absolute value; by default `std`.
    """
    limit = std if limit is None else limit
    edge = min(math.erf(limit / std / math.sqrt(2.0)), _MAX_PROBABILITY)
    uniform = paddle.uniform(parameter.shape, dtype=parameter.dtype, min=-edge, max=edge)
    parameter.set_value(paddle.erfinv(uniform) * (math.sqrt(2.0) * std))


@paddle.no_grad()
def xavier_uniform_(linear: nn.Linear) -> None:
    """Draws a weight uniformly from +-sqrt(6 / (inputs + outputs)) and sets the bias to zero."""
    bound = math.sqrt(6.0 / sum(linear.weight.shape))
    linear.weight.set_value(paddle.uniform(linear.weight.shape, dtype=linear.weight.dtype, min=-bound, max=bound))
    zero_bias_(linear)


def truncated_normal_linear_(linear: nn.Linear, std: float) -> None:
    """Draws a weight with `truncated_normal_` and sets the bias to zero."""
    truncated_normal_(linear.weight, std)
    zero_bias_(linear)


@paddle.no_grad()
def zero_bias_(layer: nn.Layer) -> None:
    """Sets the bias to zero, if there is one."""
    if layer.bias is not None:
        layer.bias.set_value(paddle.zeros_like(layer.bias))


@paddle.no_grad()
def rescale_by_depth_(outputs: Iterable[Iterable[nn.Linear]]) -> None:
    """Divides the weights that end the residual branches of block i by sqrt(2 (i + 1)), as BEiT and CAE do.

    Args:
        outputs: For each block, from the first, the linear layers that write to its residual stream.
    """
    for index, linears in enumerate(outputs):
        for linear in linears:
            linear.weight.set_value(linear.weight / math.sqrt(2.0 * (index + 1)))
