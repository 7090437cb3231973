"""Initialization of parameters by Paddle's global generator.

Parameters created under `paddle.LazyGuard` have a shape but no memory. They are not initialized, so counting the
parameters of a large model is cheap.
"""

import math
from typing import Callable, Iterable, Optional

import paddle
from paddle import nn

WIDE = 2.0  # limit of timm's `trunc_normal_`; far above the usual deviations, so practically a normal distribution
_MAX_PROBABILITY = 1 - 1e-6  # the inverse error function is infinite at 1


def truncated_normal_(parameter: paddle.Tensor, std: float, limit: Optional[float] = None) -> None:
    """Fill a parameter from a normal distribution of mean 0, truncated at +-`limit`.

    Args:
        parameter: Filled in place.
        std: Standard deviation before the truncation.
        limit: Largest absolute value; by default `std` as in CAE's pre-training, which gives a deviation of 0.54 `std`.
    """
    limit = std if limit is None else limit
    edge = min(math.erf(limit / std / math.sqrt(2.0)), _MAX_PROBABILITY)
    _fill(parameter, lambda p: paddle.erfinv(_uniform(p, edge)) * (math.sqrt(2.0) * std))


def xavier_uniform_(layer: nn.Layer) -> None:
    """Fill the weight uniformly from +-sqrt(6 / (inputs + outputs)) and the bias with zeros (Xavier, Glorot).

    Args:
        layer: A Linear, or a convolution with stride = kernel size, which is a Linear over the pixels of a patch.
    """
    shape = layer.weight.shape
    bound = math.sqrt(6.0 / (shape[0] + math.prod(shape[1:])))
    _fill(layer.weight, lambda p: _uniform(p, bound))
    zero_bias_(layer)


def uniform_by_inputs_(layer: nn.Layer) -> None:
    """Fill weight and bias uniformly from +-1 / sqrt(inputs), PyTorch's default.

    Args:
        layer: A convolution with weights (outputs, channels, height, width).
    """
    bound = 1.0 / math.sqrt(math.prod(layer.weight.shape[1:]))
    for parameter in (layer.weight, layer.bias):
        if parameter is not None:
            _fill(parameter, lambda p: _uniform(p, bound))


def truncated_normal_linear_(linear: nn.Linear, std: float, limit: Optional[float] = None) -> None:
    """Fill the weight by `truncated_normal_` and the bias with zeros."""
    truncated_normal_(linear.weight, std, limit)
    zero_bias_(linear)


def zero_bias_(layer: nn.Layer) -> None:
    """Fill the bias with zeros, if the layer has one."""
    if layer.bias is not None:
        _fill(layer.bias, paddle.zeros_like)


def rescale_by_depth_(outputs: Iterable[Iterable[nn.Linear]]) -> None:
    """Divide the output weights of the residual branches of block i by sqrt(2 (i + 1)), as in BEiT and CAE.

    Args:
        outputs: For each block in order, the linear layers at the end of its residual branches.
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
