"""A moving average of a model's weights, evaluated and saved beside them."""

from contextlib import contextmanager
from typing import Any, Dict, Iterator

import paddle
from paddle import nn


class WeightEMA:
    """Keeps `average = decay * average + (1 - decay) * weight` of every trainable parameter; buffers are copied.

    Args:
        model: Whose weights.
        decay: In [0, 1).
        warmup: Use min(decay, (1 + updates) / (10 + updates)), so that early weights fade sooner.

    Raises:
        ValueError: If `decay` is out of range.
    """

    def __init__(self, model: nn.Layer, decay: float, warmup: bool = False) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"EMA.decay must be in [0, 1), got {decay}")
        self.decay = decay
        self.warmup = warmup
        self.updates = 0
        self.averages: Dict[str, paddle.Tensor] = {name: value.clone().detach() for name, value in _weights(model)}

    @paddle.no_grad()
    def update(self, model: nn.Layer) -> None:
        """Moves the average towards the current weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay
        self.updates += 1
        for name, value in _weights(model):
            average = self.averages[name]
            if value.dtype in (paddle.float32, paddle.float64, paddle.float16, paddle.bfloat16):
                average.scale_(decay).add_(value * (1 - decay))
            else:
                average.set_value(value)

    @contextmanager
    def swap(self, model: nn.Layer) -> Iterator[None]:
        """The model has the averaged weights inside this context, its own after it."""
        own = {name: value.clone() for name, value in _weights(model)}
        self._put(model, self.averages)
        try:
            yield
        finally:
            self._put(model, own)

    @staticmethod
    def _put(model: nn.Layer, values: Dict[str, paddle.Tensor]) -> None:
        with paddle.no_grad():
            for name, value in _weights(model):
                value.set_value(values[name])

    def state_dict(self) -> Dict[str, Any]:
        """The averages by structured name, and the number of updates as `updates`."""
        return {**self.averages, "updates": paddle.to_tensor([self.updates], dtype="int64")}

    def set_state_dict(self, state: Dict[str, Any]) -> None:
        """Restores `state_dict()`, given as tensors or arrays.

        Raises:
            ValueError: If it is of another model.
        """
        wrong = sorted(set(self.averages) ^ (set(state) - {"updates"}))
        if wrong:
            raise ValueError(f"the moving average is of another model; these names differ: {wrong[:5]}")
        for name, average in self.averages.items():
            average.set_value(paddle.to_tensor(state[name]))
        self.updates = int(paddle.to_tensor(state["updates"]).item())


def _weights(model: nn.Layer) -> Iterator[Any]:
    yield from model.named_parameters()
    yield from model.named_buffers()
