"""Initial values of parameters, drawn from Paddle's global generator.

Parameters made under `paddle.LazyGuard` have a shape but no memory. They are left so, which makes it cheap to count
the parameters of a large model.
"""

import math
from typing import Callable, Iterable, Optional

import paddle
from paddle import nn

WIDE = 2.0  # limit of timm's `trunc_normal_`, far from the usual deviations: practically a normal distribution
_MAX_PROBABILITY = 1 - 1e-6  # the inverse error function is infinite at 1


def truncated_normal_(parameter: paddle.Tensor, std: float, limit: Optional[float] = None) -> None:
    """Draws a parameter from a normal distribution of mean 0 that is cut at +-`limit`.

    Args:
        parameter: Filled in place.
        std: Deviation of the distribution before it is cut.
        limit: Largest absolute value; by default `std`, as CAE's pre-training has it, which makes the real deviation
            0.54 `std`.
    """
    limit = std if limit is None else limit
    edge = min(math.erf(limit / std / math.sqrt(2.0)), _MAX_PROBABILITY)
    _fill(parameter, lambda p: paddle.erfinv(_uniform(p, edge)) * (math.sqrt(2.0) * std))


def xavier_uniform_(layer: nn.Layer) -> None:
    """Draws a weight uniformly from +-sqrt(6 / (inputs + outputs)) and sets the bias to zero.

    Args:
        layer: A Linear, or a convolution whose windows do not overlap, which is a Linear over their pixels.
    """
    shape = layer.weight.shape
    bound = math.sqrt(6.0 / (shape[0] + math.prod(shape[1:])))
    _fill(layer.weight, lambda p: _uniform(p, bound))
    zero_bias_(layer)


def uniform_by_inputs_(layer: nn.Layer) -> None:
    """Draws weight and bias uniformly from +-1 / sqrt(inputs), as PyTorch does by default.

    Args:
        layer: A convolution with weights (outputs, channels, height, width).
    """
    bound = 1.0 / math.sqrt(math.prod(layer.weight.shape[1:]))
    for parameter in (layer.weight, layer.bias):
        if parameter is not None:
            _fill(parameter, lambda p: _uniform(p, bound))


def truncated_normal_linear_(linear: nn.Linear, std: float, limit: Optional[float] = None) -> None:
    """Draws a weight with `truncated_normal_` and sets the bias to zero."""
    truncated_normal_(linear.weight, std, limit)
    zero_bias_(linear)


def zero_bias_(layer: nn.Layer) -> None:
    """Sets the bias to zero, if there is one."""
    if layer.bias is not None:
        _fill(layer.bias, paddle.zeros_like)


def rescale_by_depth_(outputs: Iterable[Iterable[nn.Linear]]) -> None:
    """Divides the weights that end the residual branches of block i by sqrt(2 (i + 1)), as BEiT and CAE do.

    Args:
        outputs: For each block, from the first, the linear layers that write to its residual stream.
    """
    for index, linears in enumerate(outputs):
        factor = 1.0 / math.sqrt(2.0 * (index + 1))
        for linear in linears:
            _fill(linear.weight, lambda p, factor=factor: p * factor)


def _uniform(parameter: paddle.Tensor, bound: float) -> paddle.Tensor:
    return paddle.uniform(parameter.shape, dtype=parameter.dtype, min=-bound, max=bound)


@paddle.no_grad()
def _fill(parameter: paddle.Tensor, values: Callable[[paddle.Tensor], paddle.Tensor]) -> None:
    if parameter._is_initialized():
        parameter.set_value(values(parameter))
