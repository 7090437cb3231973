"""Checks and averages of the weights during training."""

from typing import Any

from plsc import distributed
from plsc.engine.callback import Callback
from plsc.engine.trainer import Trainer


class SyncCheck(Callback):
    """Compares the weights of all processes, which must be equal bit for bit.

    Args:
        every_steps: Steps between two comparisons.
    """

    def __init__(self, every_steps: int) -> None:
        self.every_steps = every_steps

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.step % self.every_steps:
            return
        different = distributed.differing_tensors(trainer.task.state_dict())
        if different:
            shown = ", ".join(f"{name} (process {', '.join(map(str, r))})" for name, r in list(different.items())[:5])
            raise RuntimeError(
                f"{len(different)} tensors differ between processes at step {trainer.step}: {shown}. The weights "
                "trained since the last comparison are wrong; resume from a checkpoint before it"
            )


class WeightAverage(Callback):
    """Updates the moving average of the weights after every optimizer step.

    Args:
        ema: Moving average of the task's weights, a plsc.optim.ema.WeightEMA.
    """

    def __init__(self, ema: Any) -> None:
        self.ema = ema

    def on_step_end(self, trainer: Trainer) -> None:
        self.ema.update(trainer.task)
