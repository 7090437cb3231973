"""Learning-rate schedules: functions of the number of optimizer steps taken."""

import math
from typing import Literal, Sequence

from plsc import checks
from plsc.config.registry import LR_SCHEDULERS

Scale = Literal["absolute", "per_256"]


def warmup(step: int, base: float, steps: int, start: float = 0.0, both_ends: bool = True) -> float:
    """Linear increase from `start` to `base` over `steps` steps.

    Args:
        step: Steps taken, in [0, steps).
        base: Value after the warm-up.
        steps: Length of the warm-up in steps.
        start: Value at step 0.
        both_ends: Space the values like linspace, so that `base` occurs twice; see `Schedule`.
    """
    intervals = max(steps - 1, 1) if both_ends else steps
    return base if step == intervals else start + step * ((base - start) / intervals)


def cosine(step: float, base: float, final: float, steps: int) -> float:
    """Half a cosine from `base` at step 0 to `final` at step `steps`, constant afterwards."""
    return final + 0.5 * (base - final) * (1 + math.cos(math.pi * min(step, steps) / max(steps, 1)))


def absolute_rate(learning_rate: float, scale: str, global_batch_size: int) -> float:
    """Learning rate for the global batch: unchanged (`absolute`), or scaled from 256 images (`per_256`)."""
    return learning_rate * global_batch_size / 256 if scale == "per_256" else learning_rate


class Schedule:
    """Base class of schedules: a linear warm-up, then `after_warmup`.

    Args:
        learning_rate: Learning rate after the warm-up, above 0.
        scale: `absolute`; or `per_256`: the learning rate is multiplied by global batch size / 256.
        warmup_epochs: Length of the warm-up in epochs.
        warmup_start: Learning rate of the first step, after scaling.
        warmup_both_ends: true: the last step of the warm-up already has the full learning rate, so it occurs twice
            (CAE's official code); false: the next step has it first (PLSC, timm, MAE).
        epochs: Length of the run in epochs.
        steps_per_epoch: Optimizer steps per epoch.
        global_batch_size: Images per optimizer step.

    Raises:
        ValueError: If a rate is out of range or not finite, or the warm-up is longer than the run.
    """

    min_lr: float = 0.0  # the rate at the end, for a schedule that has it
    milestones: Sequence[float] = ()  # epochs at which the rate falls, for a schedule that has them

    def __init__(
        self,
        learning_rate: float,
        scale: Scale = "absolute",
        warmup_epochs: float = 0,
        warmup_start: float = 0.0,
        warmup_both_ends: bool = True,
        epochs: float = 1,
        steps_per_epoch: int = 1,
        global_batch_size: int = 256,
    ) -> None:
        checks.above(0, learning_rate=learning_rate)
        checks.at_least(0, warmup_start=warmup_start, warmup_epochs=warmup_epochs)
        if warmup_epochs > epochs:
            raise ValueError(
                f"warmup_epochs is {warmup_epochs:g}, but the run has {epochs:g} epochs; "
                "shorten the warm-up or lengthen the run"
            )
        self.base = absolute_rate(learning_rate, scale, global_batch_size)
        checks.finite(learning_rate=self.base)
        if warmup_start > self.base:
            scaled = "" if scale == "absolute" else f" x {global_batch_size} / 256"
            raise ValueError(
                f"warmup_start must be at most the learning_rate {learning_rate:g}{scaled}, got {warmup_start:g}"
            )
        self.warmup_start = warmup_start
        self.warmup_both_ends = warmup_both_ends
        self.steps_per_epoch = steps_per_epoch
        self.warmup_steps = round(warmup_epochs * steps_per_epoch)
        self.total_steps = round(epochs * steps_per_epoch)

    def __call__(self, step: int) -> float:
        """Learning rate of the optimizer step after `step` steps."""
        if step < self.warmup_steps:
            return warmup(step, self.base, self.warmup_steps, self.warmup_start, self.warmup_both_ends)
        return self.after_warmup(step)

    def after_warmup(self, step: int) -> float:
        """Learning rate after the warm-up; `step` counts from the start of the run."""
        raise NotImplementedError


@LR_SCHEDULERS.register()
class WarmupCosine(Schedule):
    """Linear warm-up, then half a cosine to `min_lr` (CAE, `utils.cosine_scheduler`).

    Args:
        min_lr: Learning rate at the end of the run, not scaled by the batch size.
    """

    def __init__(
        self,
        learning_rate: float,
        warmup_epochs: float = 0,
        min_lr: float = 0.0,
        scale: Scale = "absolute",
        warmup_start: float = 0.0,
        warmup_both_ends: bool = True,
        epochs: float = 1,
        steps_per_epoch: int = 1,
        global_batch_size: int = 256,
    ) -> None:
        super().__init__(
            learning_rate,
            scale,
            warmup_epochs,
            warmup_start,
            warmup_both_ends,
            epochs,
            steps_per_epoch,
            global_batch_size,
        )
        checks.at_least(0, min_lr=min_lr)
        checks.finite(min_lr=min_lr)
        self.min_lr = min_lr

    def after_warmup(self, step: int) -> float:
        return cosine(step - self.warmup_steps, self.base, self.min_lr, self.total_steps - self.warmup_steps)


@LR_SCHEDULERS.register()
class WarmupStep(Schedule):
    """Linear warm-up, then the learning rate is multiplied by `gamma` at each milestone.

    Args:
        milestones: Epochs at which the learning rate changes, ascending.
        gamma: Factor at each milestone, in [0, 1].
    """

    def __init__(
        self,
        learning_rate: float,
        milestones: Sequence[float],
        gamma: float = 0.1,
        warmup_epochs: float = 0,
        scale: Scale = "absolute",
        warmup_start: float = 0.0,
        warmup_both_ends: bool = True,
        epochs: float = 1,
        steps_per_epoch: int = 1,
        global_batch_size: int = 256,
    ) -> None:
        super().__init__(
            learning_rate,
            scale,
            warmup_epochs,
            warmup_start,
            warmup_both_ends,
            epochs,
            steps_per_epoch,
            global_batch_size,
        )
        checks.above(0, gamma=gamma)
        checks.share(gamma=gamma)
        if sorted(set(milestones)) != list(milestones) or min(milestones, default=1) <= 0:
            raise ValueError(f"milestones must be above 0 and ascending, got {list(milestones)}")
        self.milestones = list(milestones)
        self.gamma = gamma

    def after_warmup(self, step: int) -> float:
        passed = sum(step >= milestone * self.steps_per_epoch for milestone in self.milestones)
        return self.base * self.gamma**passed


@LR_SCHEDULERS.register()
class Constant(Schedule):
    """Linear warm-up, then a constant learning rate."""

    def after_warmup(self, step: int) -> float:
        return self.base
