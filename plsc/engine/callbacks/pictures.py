"""Images drawn during training."""

from typing import Dict

import numpy as np
import paddle

from plsc import checks, distributed
from plsc.config.registry import CALLBACKS
from plsc.engine.callback import Callback
from plsc.engine.callbacks.progress import restart_clock
from plsc.engine.trainer import Trainer


@CALLBACKS.register()
class Pictures(Callback):
    """Writes the task's images of the first training samples to VisualDL every k epochs.

    Args:
        every_epochs: Epochs between two images.
        count: Training samples in an image.

    Raises:
        ValueError: If an argument is below 1.
    """

    def __init__(self, every_epochs: int = 1, count: int = 8) -> None:
        checks.at_least(1, every_epochs=every_epochs, count=count)
        self.every_epochs = every_epochs
        self.count = count

    def on_step_end(self, trainer: Trainer) -> None:
        due = trainer.at_epoch_end and round(trainer.epoch) % self.every_epochs == 0
        if (due or trainer.finished) and distributed.is_main():
            pictures = draw(trainer, self.count)
            trainer.log.pictures(trainer.step, pictures)
            restart_clock(trainer)


def draw(trainer: Trainer, count: int) -> Dict[str, np.ndarray]:
    """Draw the task's images of the first training samples, as in epoch 0; uint8 (count, H, W, 3)."""
    trainer.loader.set_position(0, 0)
    batches = iter(trainer.loader)
    batch = {key: value[:count] for key, value in next(batches).items()}
    batches.close()
    with paddle.no_grad():
        return trainer.task.pictures(trainer.train_step.prepare(batch, np.random.default_rng(0)))
