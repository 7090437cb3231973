"""Images drawn during training."""

from typing import Dict, Mapping

import numpy as np
import paddle

from plsc import checks, distributed
from plsc.config.registry import CALLBACKS
from plsc.engine.callback import Callback
from plsc.engine.callbacks.progress import restart_clock
from plsc.engine.trainer import Trainer


@CALLBACKS.register()
class Pictures(Callback):
    """Writes images of the task for the first training samples to VisualDL every k epochs.

    Args:
        every_epochs: Epochs between two sets of images.
        count: Number of training samples.

    Raises:
        ValueError: If a value is below 1.
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
    """Images of the first training samples, as the next epoch would see them, by caption; uint8 (count, H, W, 3)."""
    trainer.loader.set_position(0, 0)
    batches = iter(trainer.loader)
    batch = {key: value[:count] for key, value in next(batches).items()}
    batches.close()
    with paddle.no_grad():
        return as_images(trainer.task.pictures(trainer.train_step.prepare(batch, np.random.default_rng(0))))


def as_images(tensors: Mapping[str, paddle.Tensor]) -> Dict[str, np.ndarray]:
    """Arrays to look at of the tensors that `Task.pictures` returns.

    Args:
        tensors: Images (B, 3, H, W), and masks bool (B, rows, columns); the first is an image.

    Returns:
        uint8 (B, H, W, 3) by caption. Black and white are 0 and 1, or the extremes of the first image if it goes
        beyond them. A mask becomes the first image with its masked patches in gray.
    """
    if not tensors:
        return {}
    first = next(iter(tensors.values())).astype("float32")
    low, high = float(first.min()), float(first.max())
    low, high = (low, high) if low < 0 or high > 1 else (0.0, 1.0)
    original = _pixels(first, low, high)
    return {
        caption: _masked(original, value.numpy()) if value.dtype == paddle.bool else _pixels(value, low, high)
        for caption, value in tensors.items()
    }


def _pixels(image: paddle.Tensor, low: float, high: float) -> np.ndarray:
    """(B, 3, H, W) -> uint8 (B, H, W, 3)."""
    values = image.astype("float32").transpose([0, 2, 3, 1]).numpy()
    return (((values - low) / max(high - low, 1e-6)).clip(0, 1) * 255).round().astype("uint8")


def _masked(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Images uint8 (B, H, W, 3) with the patches of masks (B, rows, columns) in gray."""
    height, width = image.shape[1] // mask.shape[1], image.shape[2] // mask.shape[2]
    large = mask.repeat(height, axis=1).repeat(width, axis=2)
    return np.where(large[..., None], np.uint8(127), image)
