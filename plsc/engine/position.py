"""Position of a run: the data, batches and random values that a number of steps refers to, and its conversion.

A run may continue with another number of processes, another batch or another length. Its position is converted if this
is exact: no image of an epoch is used twice or left out, and the same images were used. Otherwise the run stops.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from plsc import distributed
from plsc.data.fingerprint import fingerprint
from plsc.engine.callbacks.evaluation import Evaluation

_SHOWN = 5  # names of classes in a message


@dataclass(frozen=True)
class Position:
    """Everything that a number of steps refers to; None: unknown.

    Attributes:
        steps_per_epoch: Optimizer steps in one pass over the training set.
        total_steps: Length of the run and of its schedules.
        by_steps: True if the length was given in steps, False if in epochs.
        global_batch_size: Images per optimizer step over all processes.
        accumulate: Micro-batches per optimizer step and process.
        processes: Number of processes.
        seed: Seed of all random values.
        shuffle: True if every epoch has another order.
        samples: Number of images of the training set.
        digest: Digest of the names and labels of its samples.
        classes: Names of its classes.
        evaluated: Digest of the evaluation set.
        monitor: Metric that decides `best`.
        monitor_mode: `max` or `min`.
        ema: True if the run keeps a moving average of the weights.
    """

    steps_per_epoch: Optional[int] = None
    total_steps: Optional[int] = None
    by_steps: Optional[bool] = None
    global_batch_size: Optional[int] = None
    accumulate: Optional[int] = None
    processes: Optional[int] = None
    seed: Optional[int] = None
    shuffle: Optional[bool] = None
    samples: Optional[int] = None
    digest: Optional[str] = None
    classes: Optional[List[str]] = None
    evaluated: Optional[str] = None
    monitor: Optional[str] = None
    monitor_mode: Optional[str] = None
    ema: Optional[bool] = None

    def state_dict(self) -> Dict[str, Any]:
        """Return plain data for state.json, without the classes, which state.json has in another entry."""
        return {name: value for name, value in asdict(self).items() if name != "classes"}


def position_of(trainer: Any, monitor: Optional[str], monitor_mode: str, ema: bool) -> Position:
    """Return the position data of a run that has been built."""
    plan, loader = trainer.plan, trainer.loader
    data = fingerprint(loader.dataset)
    evaluations = (callback for callback in trainer.callbacks if isinstance(callback, Evaluation))
    evaluated = [callback.dataset for callback in evaluations if callback.dataset is not None]
    return Position(
        plan.steps_per_epoch,
        plan.total_steps,
        plan.by_steps,
        plan.global_batch_size,
        plan.accumulate,
        distributed.world_size(),
        trainer.train_step.seed,
        loader.sampler.shuffle,
        data["samples"],
        data["digest"],
        data["classes"],
        fingerprint(evaluated[0])["digest"] if evaluated else None,
        monitor,
        monitor_mode,
        ema,
    )


def saved_position(state: Mapping[str, Any], ema: bool) -> Position:
    """Return the position data of a checkpoint; those of an earlier version are mostly unknown.

    Args:
        state: Content of state.json.
        ema: True if the checkpoint has a moving average.
    """
    known = {field.name for field in fields(Position)}
    saved = {name: value for name, value in dict(state.get("position") or {}).items() if name in known}
    return Position(**{"seed": state.get("seed"), **saved, "classes": state.get("classes"), "ema": ema})


@dataclass
class Resumed:
    """Position at which a run continues.

    Attributes:
        step: Optimizer steps taken, as this run counts them.
        converted: True if this number differs from the saved one, or counts other steps.
        best_holds: True if the best value so far can be compared with later ones.
        notes: Changes since the checkpoint, one line each.
    """

    step: int
    converted: bool
    best_holds: bool
    notes: List[str]


def compare(saved: Position, now: Position, step: int, later: Sequence[int] = ()) -> Resumed:
    """Find the position of a checkpoint in a run that may have changed.

    Args:
        saved: Position data of the checkpoint.
        now: Position data of this run.
        step: Optimizer steps of the checkpoint.
        later: Steps after it that are still to be left out, as the checkpoint counts them.

    Raises:
        ValueError: If the run cannot continue exactly; the message lists all differences with old and new values.
    """
    problems, notes = _data(saved, now), []
    per_epoch = saved.steps_per_epoch or now.steps_per_epoch or 1
    epoch, into_epoch = divmod(step, per_epoch)
    orders = [("Global.seed", saved.seed, now.seed), ("DataLoader.Train.loader.shuffle", saved.shuffle, now.shuffle)]
    for key, old, new in orders:
        if _differ(old, new) and into_epoch:
            problems.append(
                f"{key} was {_text(old)} and is {_text(new)}: the order of the images changes in the middle of epoch "
                f"{epoch + 1}, so some would be used twice and others not at all"
            )
        elif _differ(old, new):
            notes.append(f"{key} was {_text(old)} and is {_text(new)}: later epochs draw other random numbers")
    wrong, said, new_step = _converted(saved, now, step)
    problems += wrong
    notes += said
    converted = _counts_differ(saved, now)
    if converted and later:
        problems.append(
            f"step {', '.join(map(str, later))} of the old count is still to be left out (Global.on_nonfinite), but "
            "has no equivalent in the new count"
        )
    if problems:
        raise ValueError("\n  ".join(["the run cannot continue exactly from this checkpoint:", *problems]))
    holds, said = _best(saved, now)
    return Resumed(new_step, converted, holds, [*notes, *said])


def _differ(old: Any, new: Any) -> bool:
    return old is not None and new is not None and old != new


def _text(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _data(saved: Position, now: Position) -> List[str]:
    """Return problems with the training set; only the classes if they differ, as they explain the rest."""
    if _differ(saved.classes, now.classes):
        return [_classes(saved.classes, now.classes)]
    if _differ(saved.samples, now.samples):
        return [
            f"DataLoader.Train.dataset had {saved.samples} images and has {now.samples}: an epoch would have "
            "another length, and the learning rate another value"
        ]
    if _differ(saved.digest, now.digest):
        return [
            f"DataLoader.Train.dataset has {now.samples} images as before, but not the same ones: names, labels or "
            "their order have changed"
        ]
    return []


def _classes(old: Sequence[str], new: Sequence[str]) -> str:
    removed, added = ([name for name in one if name not in set(other)] for one, other in ((old, new), (new, old)))
    changes = [f"{what} {_some(names)}" for what, names in (("removed:", removed), ("new:", added)) if names]
    said = "; ".join(changes) or "in another order: " + _some([f"{a} is now {b}" for a, b in zip(old, new) if a != b])
    return f"DataLoader.Train.dataset had {len(old)} classes and has {len(new)} ({said}), so labels would change"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(repr(name) for name in names[:_SHOWN]) + more


def _counts_differ(saved: Position, now: Position) -> bool:
    """Return whether a number of steps refers to other images than before."""
    return _differ(saved.global_batch_size, now.global_batch_size) or _differ(
        saved.steps_per_epoch, now.steps_per_epoch
    )


def _converted(saved: Position, now: Position, step: int) -> Tuple[List[str], List[str], int]:
    """Return problems with the step counts, notes about them, and the step in this run's count."""
    if saved.global_batch_size is None or saved.steps_per_epoch is None or saved.total_steps is None:
        note = "the checkpoint is of an earlier version and has no data about its steps: data, batch and length are "
        return [], [f"{note}assumed to be the same, step {step} of {now.total_steps}"], step
    old, new = saved.global_batch_size, now.global_batch_size
    division = f"{_division(now)} instead of {_division(saved)}"
    if not _counts_differ(saved, now):
        notes = [] if _division(saved) == _division(now) else [f"{division}: the global batch is {new} as before"]
        if saved.total_steps != now.total_steps:
            notes.append(
                f"the run has {now.total_steps} steps instead of {saved.total_steps}; from here on, the schedules "
                "follow the new length"
            )
        return [], notes, step
    epoch, into_epoch = divmod(step, saved.steps_per_epoch)
    if into_epoch * old % new:
        return [_not_even(saved, now, epoch, into_epoch * old)], [], step
    if saved.by_steps and now.by_steps and saved.total_steps * old != now.total_steps * new:
        return [_other_length(saved, now)], [], step
    new_step = epoch * now.steps_per_epoch + into_epoch * old // new
    return (
        [],
        [
            f"a step has {new} images instead of {old} ({division}), an epoch {now.steps_per_epoch} steps instead of "
            f"{saved.steps_per_epoch}: step {step} of {saved.total_steps} becomes step {new_step} of "
            f"{now.total_steps}, the same {epoch} epochs and {into_epoch * old} images"
        ],
        new_step,
    )


def _division(position: Position) -> str:
    processes, accumulate = position.processes or 1, position.accumulate or 1
    return f"{processes} x {accumulate} x {(position.global_batch_size or 0) // (processes * accumulate)}"


def _not_even(saved: Position, now: Position, epoch: int, images: int) -> str:
    return (
        f"a step had {saved.global_batch_size} images ({_division(saved)}: processes x accumulated x batch_size) and "
        f"has {now.global_batch_size} ({_division(now)}): the {images} images that epoch {epoch + 1} has used are not "
        f"a multiple of {now.global_batch_size}; set Global.global_batch_size to {saved.global_batch_size}; "
        "it can be changed at the end of an epoch"
    )


def _other_length(saved: Position, now: Position) -> str:
    images = saved.total_steps * saved.global_batch_size
    steps, rest = divmod(images, now.global_batch_size)
    advice = f"Global.steps: {steps} is the same number of images" if not rest else "give the length as Global.epochs"
    return (
        f"a step had {saved.global_batch_size} images and has {now.global_batch_size}, but Global.steps gives "
        f"{now.total_steps} of them ({saved.total_steps} before), so the schedules would have another length; {advice}"
    )


def _best(saved: Position, now: Position) -> Tuple[bool, List[str]]:
    """Return whether the best value so far can be compared with later ones, and notes about it."""
    notes, reasons = [], []
    if saved.ema is False and now.ema:
        notes.append("EMA.decay is new: the average starts at the weights of the checkpoint")
    if saved.ema and now.ema is False:
        notes.append("EMA.decay was removed: the average of the checkpoint is dropped")
    if saved.monitor_mode is not None and (saved.monitor, saved.monitor_mode) != (now.monitor, now.monitor_mode):
        old, new = ((f"{one.monitor} ({one.monitor_mode})" if one.monitor else "null") for one in (saved, now))
        reasons.append(f"Global.monitor was {old} and is {new}")
    if _differ(saved.ema, now.ema):
        reasons.append("other weights are evaluated")
    if _differ(saved.evaluated, now.evaluated):
        reasons.append("the images of DataLoader.Eval are not the same")
    if reasons and now.monitor is not None:
        notes.append(f"best starts again: {'; '.join(reasons)}")
    return not reasons, notes


def converted_state(state: Mapping[str, Any], resumed: Resumed) -> Dict[str, Any]:
    """Return the state of a checkpoint as this run counts its steps; a copy if the counts are equal."""
    if not resumed.converted:
        return dict(state)
    nonfinite, callbacks = dict(state.get("nonfinite", {})), dict(state.get("callbacks", {}))
    # Steps that were left out count towards the limit, but do not come again: their numbers become negative.
    nonfinite["left_out"] = [-1 - place for place, _ in enumerate(nonfinite.get("left_out", ()))]
    if "processes" in callbacks:  # sums over steps of another size are dropped
        callbacks["processes"] = [{**one, "states": {}} for one in callbacks["processes"]]
    return {**state, "step": resumed.step, "nonfinite": nonfinite, "callbacks": callbacks}
