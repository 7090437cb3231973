"""Utilities shared by several networks."""

import math
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Tuple, Union

import numpy as np
import paddle
from paddle import nn

_SPARE, _REBUILT = 2**20, 4  # allowed parameters: a constant, plus a multiple of those of the checkpoint


def to_pair(value: Union[int, Tuple[int, int]], name: str) -> Tuple[int, int]:
    """Return (height, width) for one number or a pair.

    Raises:
        ValueError: If `value` is not one or two positive integers.
    """
    pair = tuple(value) if isinstance(value, (list, tuple)) else (value, value)
    if len(pair) != 2 or any(not isinstance(v, (int, np.integer)) or isinstance(v, bool) or v < 1 for v in pair):
        raise ValueError(f"{name} must be a positive whole number or two of them [height, width], got {value!r}")
    return int(pair[0]), int(pair[1])


def tensor_of(array: Any, dtype: Any = None) -> paddle.Tensor:
    """Return a tensor with the values of an array, in its dtype unless `dtype` is given.

    For everything that is called at each step: each call of `paddle.to_tensor`, and of the constructor of tensors,
    leaves an empty list and a string in memory for as long as the process lives (Paddle 3.3.1).
    """
    array = np.asarray(array)
    tensor = paddle.empty(array.shape, str(array.dtype))
    tensor.set_value(array)
    return tensor if dtype is None else tensor.astype(dtype)


def set_training(layer: nn.Layer, training: bool) -> None:
    """Set the mode of a layer and all its sublayers: training (True) or inference (False)."""
    for part in layer.sublayers(include_self=True):
        part.training = training


@contextmanager
def inference(layer: nn.Layer) -> Iterator[None]:
    """Context in inference mode; afterwards the mode of every sublayer is restored."""
    modes = [(part, part.training) for part in layer.sublayers(include_self=True)]
    set_training(layer, False)
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def freeze(layer: nn.Layer) -> None:
    """Exclude all parameters of a layer from training."""
    for parameter in layer.parameters():
        parameter.stop_gradient = True


def count_parameters(layer: nn.Layer) -> Dict[str, int]:
    """Number of elements of a layer: `trained`, `frozen` (parameters without gradient) and `buffers`."""
    counts = {"trained": 0, "frozen": 0, "buffers": sum(_size(buffer) for buffer in layer.buffers())}
    for parameter in layer.parameters():
        counts["frozen" if parameter.stop_gradient else "trained"] += _size(parameter)
    return counts


def _size(tensor: Any) -> int:
    return int(np.prod(tensor.shape, dtype=np.int64))


@contextmanager
def parameters_at_most(held: int, source: str) -> Iterator[None]:
    """Context that refuses to build a network with many more parameters than its checkpoint holds.

    A config of 30 bytes can describe a network that fills the memory. Parameters are counted in
    `Layer.create_parameter`, which creates every parameter of a network.

    Args:
        held: Number of parameters in the checkpoint.
        source: Name of the checkpoint, used in the message.

    Raises:
        ValueError: If the network becomes too large.
    """
    left = _SPARE + _REBUILT * held
    create = nn.Layer.create_parameter

    def counted(layer: nn.Layer, shape: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= math.prod(int(length) for length in shape)
        if left < 0:
            raise ValueError(
                f"{source} holds {held:,} parameters, but the model in its config has many more; "
                "use the config and the weights of the same model"
            )
        return create(layer, shape, *arguments, **options)

    nn.Layer.create_parameter = counted
    try:
        yield
    finally:
        nn.Layer.create_parameter = create
