"""Exponential moving average (EMA) of a model's weights."""

from contextlib import contextmanager
from typing import Any, Dict, Iterator, Mapping

import paddle
from paddle import nn

UPDATES = "updates"  # key of the number of updates in a state


class WeightEMA:
    """Exponential moving average of all tensors of a model's state: average = decay * average + (1 - decay) * weight.

    As in timm's ModelEma: parameters and floating-point buffers are averaged, other buffers are copied.

    Args:
        model: Model whose weights are averaged.
        decay: Weight of the old average, in [0, 1).
        warmup: Use min(decay, (1 + updates) / (10 + updates)), so that early weights have less influence.

    Raises:
        ValueError: If `decay` is out of range.
    """

    def __init__(self, model: nn.Layer, decay: float, warmup: bool = False) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"EMA.decay must be in [0, 1), or null for none, got {decay}")
        self.decay = decay
        self.warmup = warmup
        self.updates = 0
        self.averages: Dict[str, paddle.Tensor] = _copies(model)

    @paddle.no_grad()
    def update(self, model: nn.Layer) -> None:
        """Update the average with the current weights; called once per optimizer step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay
        self.updates += 1
        for name, value in model.state_dict().items():
            average = self.averages[name]
            if value.is_floating_point():
                average.scale_(decay).add_(value * (1 - decay))
            else:
                average.set_value(value)

    def restart(self, model: nn.Layer) -> None:
        """Reset the average to the current weights, and restart the warm-up."""
        self.averages, self.updates = _copies(model), 0

    @contextmanager
    def swap(self, model: nn.Layer) -> Iterator[None]:
        """Context in which the model has the averaged weights. Do not save checkpoints inside it."""
        own = _copies(model)
        _put(model, self.averages)
        try:
            yield
        finally:
            _put(model, own)

    def state_dict(self) -> Dict[str, paddle.Tensor]:
        """Averages by structured name, and the number of updates as `updates`."""
        return {**self.averages, UPDATES: paddle.to_tensor([self.updates], dtype="int64")}

    def set_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of `state_dict()`, given as tensors or arrays.

        Raises:
            ValueError: If the state belongs to another model; the message lists names.
        """
        wrong = sorted(set(self.averages) ^ (set(state) - {UPDATES}))
        wrong += [n for n, a in self.averages.items() if n in state and list(a.shape) != list(state[n].shape)]
        if wrong or UPDATES not in state:
            raise ValueError(
                "the moving average in the checkpoint belongs to another model; names or shapes that differ: "
                f"{', '.join(wrong[:10]) or UPDATES}; resume with the config it was saved with"
            )
        for name, average in self.averages.items():
            average.set_value(paddle.to_tensor(state[name], dtype=average.dtype))
        self.updates = int(paddle.to_tensor(state[UPDATES]).item())


def _copies(model: nn.Layer) -> Dict[str, paddle.Tensor]:
    return {name: value.clone().detach() for name, value in model.state_dict().items()}


@paddle.no_grad()
def _put(model: nn.Layer, values: Mapping[str, paddle.Tensor]) -> None:
    for name, value in model.state_dict().items():
        value.set_value(values[name])
