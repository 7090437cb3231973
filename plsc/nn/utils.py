"""Small helpers that several networks share."""

import math
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Tuple, Union

import numpy as np
from paddle import nn

_SPARE, _REBUILT = 2**20, 4  # parameters that may be made and replaced: a few, and some times those of the checkpoint


def to_pair(value: Union[int, Tuple[int, int]], name: str) -> Tuple[int, int]:
    """A height and width from one number or two.

    Raises:
        ValueError: If `value` is neither a positive whole number nor two of them.
    """
    pair = tuple(value) if isinstance(value, (list, tuple)) else (value, value)
    if len(pair) != 2 or any(not isinstance(v, (int, np.integer)) or isinstance(v, bool) or v < 1 for v in pair):
        raise ValueError(f"{name} must be a positive whole number or two of them [height, width], got {value!r}")
    return int(pair[0]), int(pair[1])


def set_training(layer: nn.Layer, training: bool) -> None:
    """Puts a layer and everything in it into training mode (True) or inference mode (False)."""
    for part in layer.sublayers(include_self=True):
        part.training = training


@contextmanager
def inference(layer: nn.Layer) -> Iterator[None]:
    """Inference mode inside the block; afterwards every part of the layer is in the mode it was in before."""
    modes = [(part, part.training) for part in layer.sublayers(include_self=True)]
    set_training(layer, False)
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def freeze(layer: nn.Layer) -> None:
    """Takes all parameters of a layer out of training."""
    for parameter in layer.parameters():
        parameter.stop_gradient = True


def count_parameters(layer: nn.Layer) -> Dict[str, int]:
    """How many numbers a layer holds: `trained`, `frozen` (parameters without gradient) and `buffers`."""
    counts = {"trained": 0, "frozen": 0, "buffers": sum(_size(buffer) for buffer in layer.buffers())}
    for parameter in layer.parameters():
        counts["frozen" if parameter.stop_gradient else "trained"] += _size(parameter)
    return counts


def _size(tensor: Any) -> int:
    return int(np.prod(tensor.shape, dtype=np.int64))


@contextmanager
def parameters_at_most(held: int, source: str) -> Iterator[None]:
    """Within it, no network is built that has far more parameters than the checkpoint it is built for.

    A config of 30 bytes can describe a network that fills the memory. Every parameter of a network goes through
    `Layer.create_parameter`, where they are counted.

    Args:
        held: Parameters in the checkpoint.
        source: What to call it in the message.

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
                f"{source} holds {held:,} parameters, and the model that its config describes has many more; "
                "the config and the weights are not of the same model"
            )
        return create(layer, shape, *arguments, **options)

    nn.Layer.create_parameter = counted
    try:
        yield
    finally:
        nn.Layer.create_parameter = create
