"""Checks and averages of the weights during training."""

from typing import Any, Dict

import paddle

from plsc import distributed
from plsc.engine.callback import Callback
from plsc.engine.trainer import Trainer


class SyncCheck(Callback):
    """Compares the weights of all processes, which must be the same bit for bit.

    Args:
        every_steps: Steps between two comparisons.
    """

    def __init__(self, every_steps: int) -> None:
        self.every_steps = every_steps

    def on_step_end(self, trainer: Trainer, metrics: Dict[str, paddle.Tensor]) -> None:
        if trainer.step % self.every_steps:
            return
        different = distributed.differing_tensors(trainer.task.state_dict())
        if different:
            shown = ", ".join(f"{name} (process {', '.join(map(str, r))})" for name, r in list(different.items())[:5])
            raise RuntimeError(
                f"{len(different)} tensors differ between processes at step {trainer.step}: {shown}. Nothing trained "
                "since the last comparison can be trusted; resume from a checkpoint before it"
            )


class WeightAverage(Callback):
    """Moves the average of the weights after every optimizer step.

    Args:
        ema: A plsc.optim.ema.WeightEMA of the task.
    """

    def __init__(self, ema: Any) -> None:
        self.ema = ema

    def on_step_end(self, trainer: Trainer, metrics: Dict[str, paddle.Tensor]) -> None:
        self.ema.update(trainer.task)
