"""Progress lines: metrics, learning rate, speed, and time spent waiting for data."""

import os
import time
from typing import Any, Dict, Mapping

import numpy as np
import paddle

from plsc import distributed
from plsc.engine.callback import Callback
from plsc.engine.due import pack, unpack
from plsc.engine.trainer import Trainer

TOO_MUCH_WAITING, WORTH_SHOWING = 0.2, 0.02  # fractions of the time
MOST_IN_LINE = 12  # metrics of an evaluation in one line


class ProgressLog(Callback):
    """Logs the mean of every scalar since the last line, the learning rate and the speed.

    It waits for the device only when it writes a line.

    Args:
        every_steps: Steps between two lines.
    """

    def __init__(self, every_steps: int) -> None:
        self.every_steps = every_steps
        self._sums: Dict[str, paddle.Tensor] = {}
        self._advised = False
        self._data_seconds = 0.0  # trainer.data_seconds at the last step
        self._reset()

    def _reset(self) -> None:
        """Start an interval between two lines."""
        self._sums.clear()
        self._steps = self._count = 0  # since the last line: all steps, and those that changed the weights
        self._since = time.perf_counter()
        self._waited = 0.0  # seconds spent waiting for data since the last line

    def state_dict(self) -> Dict[str, Any]:
        """Return the sums since the last line, so that the next line is the same after a resume."""
        seconds = time.perf_counter() - self._since
        counts = {"steps": self._steps, "count": self._count, "seconds": seconds, "waited": self._waited}
        return {"sums": pack(self._sums), **counts} if self._steps else {}

    def set_state_dict(self, state: Mapping[str, Any]) -> None:
        self._reset()
        if state:
            self._sums.update(unpack([state["sums"]]))
            self._steps, self._count = int(state["steps"]), int(state["count"])
            self._since -= float(state["seconds"])
            self._waited = float(state["waited"])

    def on_train_begin(self, trainer: Trainer) -> None:
        trainer.log.open_bar(trainer.plan.stop_step, trainer.step, "train")
        if not self._steps:
            self._reset()
        self._data_seconds = trainer.data_seconds

    def on_step_end(self, trainer: Trainer) -> None:
        self._steps += 1
        self._waited += trainer.data_seconds - self._data_seconds
        self._data_seconds = trainer.data_seconds
        if not trainer.metrics.skipped:
            for name, value in trainer.metrics.scalars.items():
                self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._count += 1
        trainer.log.advance()
        if trainer.step % self.every_steps == 0 or trainer.at_epoch_end or trainer.finished:
            self._flush(trainer)

    def on_train_end(self, trainer: Trainer) -> None:
        trainer.log.close_bar()

    def on_rewind(self, trainer: Trainer) -> None:
        self._data_seconds = trainer.data_seconds
        trainer.log.close_bar()
        trainer.log.open_bar(trainer.plan.stop_step, trainer.step, "train")

    def _flush(self, trainer: Trainer) -> None:
        if not self._count:
            self._reset()
            return
        values = {name: float(total) / self._count for name, total in self._sums.items()}
        means = distributed.sum_over_processes(np.array(list(values.values()))) / distributed.world_size()
        shown = dict(zip(values, map(float, means)))
        seconds = time.perf_counter() - self._since
        shown["lr"] = trainer.train_step.schedule(trainer.step - 1)
        nonfinite = trainer.train_step.nonfinite
        skipped = len(nonfinite.left_out) + nonfinite.overflows
        if skipped:
            shown["skipped_steps"] = float(skipped)
        if trainer.loader.bad_images.share():
            shown["bad_images"] = float(len(trainer.loader.bad_images.found))
        shown["data_wait"] = min(1.0, self._waited / max(seconds, 1e-9))
        shown["images_per_second"] = self._steps * trainer.plan.global_batch_size / max(seconds, 1e-9)
        trainer.log.record("train", trainer.step, trainer.epoch, shown, _line(trainer, shown, seconds / self._steps))
        self._advise(trainer, shown["data_wait"])
        self._reset()

    def _advise(self, trainer: Trainer, waited: float) -> None:
        """Log once that the loader is too slow; the first two intervals do not count, as workers start in them."""
        if waited < TOO_MUCH_WAITING or self._steps < self.every_steps or trainer.step <= 2 * self.every_steps:
            return
        if not self._advised:
            trainer.log.say(
                f"{waited:.0%} of the time was spent waiting for data: raise DataLoader.Train.loader.num_workers (now "
                f"{trainer.loader.num_workers}; this machine has {os.cpu_count()} cores), or set the dataset's "
                "decoder: fast (docs/data.md)"
            )
        self._advised = True

    def restart_clock(self) -> None:
        """Exclude the time since the last line from the speed."""
        self._since = time.perf_counter()


def restart_clock(trainer: Trainer) -> None:
    """Exclude the time since the last line from the speed; called by callbacks after work that is not training."""
    for callback in trainer.callbacks:
        if isinstance(callback, ProgressLog):
            callback.restart_clock()


_APART = ("lr", "images_per_second", "data_wait")


def _line(trainer: Trainer, shown: Dict[str, float], seconds_per_step: float) -> str:
    plan = trainer.plan
    left = (plan.stop_step - trainer.step) * seconds_per_step
    named = [f"{name} {value:.4g}" for name, value in shown.items() if name not in _APART]
    waiting = f" (data wait {shown['data_wait']:.0%})" if shown["data_wait"] >= WORTH_SHOWING else ""
    return (
        f"step {trainer.step}/{plan.stop_step} (epoch {trainer.epoch:.2f}/{plan.epochs:.4g})  {'  '.join(named)}  "
        f"lr {shown['lr']:.3g}  {shown['images_per_second']:.0f} img/s{waiting}  left {_duration(left)}"
    )


def _duration(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{seconds:02d}s"
