"""Length of a run and composition of its batches."""

import math
from dataclasses import dataclass

from plsc.config import settings
from plsc.config.tree import ConfigError


@dataclass(frozen=True)
class Plan:
    """Length of a run in optimizer steps, and composition of its batches.

    Args:
        steps_per_epoch: Optimizer steps in one pass over the training set.
        total_steps: Length of the run and of its schedules.
        stop_step: Step at which the run ends; below `total_steps` if `Global.max_train_step` is.
        accumulate: Micro-batches per optimizer step.
        global_batch_size: Images per optimizer step over all processes.
        by_steps: True if the length was given in steps, False if in epochs.
    """

    steps_per_epoch: int
    total_steps: int
    stop_step: int
    accumulate: int
    global_batch_size: int
    by_steps: bool = False

    @property
    def epochs(self) -> float:
        """Length of the run in epochs."""
        return self.total_steps / self.steps_per_epoch


def accumulation(run: settings.Global, loader: settings.Loader, processes: int) -> int:
    """Return the micro-batches per optimizer step, from `accumulate_steps` or from `global_batch_size`.

    Raises:
        ConfigError: If the global batch is not a multiple of the batch that all processes take at once.
    """
    if run.global_batch_size is None:
        return run.accumulate_steps
    at_once = loader.batch_size * processes
    if run.global_batch_size % at_once:
        raise ConfigError(
            f"Global.global_batch_size: {run.global_batch_size} is not a multiple of {at_once} "
            f"({loader.batch_size} images x {processes} processes); "
            "change it or DataLoader.Train.loader.batch_size"
        )
    return run.global_batch_size // at_once


def make_plan(run: settings.Global, steps_per_epoch: int, accumulate: int, global_batch_size: int) -> Plan:
    """Return the plan of a run; epochs are rounded up to whole steps."""
    total = run.steps or math.ceil(run.epochs * steps_per_epoch)
    stop = min(total, run.max_train_step or total)
    return Plan(steps_per_epoch, total, stop, accumulate, global_batch_size, run.steps is not None)
