"""Initial weights from a checkpoint: which part of it goes where, and an honest account of what was taken."""

import math
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from plsc.checkpoint.formats import read_weights
from plsc.checkpoint.store import assign, check_finite
from plsc.nn.pos_embed import resample_pos_embed, resample_relative_position_table
from plsc.settings import Init
from plsc.storage import CheckpointError

ENCODER = "encoder"  # in `take` and `into`: whatever the encoder is called there
Grid = Tuple[int, int]


@dataclass
class Report:
    """What `initialise` did.

    Args:
        source: The checkpoint.
        into: The part of the task that was filled.
        loaded: Names within the task that have a value from the checkpoint, resampled ones included.
        resampled: Those of them that were resampled to another grid.
        new: Names within the task that keep their initial values because the checkpoint has none for them.
        untouched: Names of the task outside `into`, which keep their initial values too.
        left: Names within the checkpoint that were not used.
        notes: What was done with the classes of a head.
    """

    source: str
    into: str
    loaded: List[str] = field(default_factory=list)
    resampled: List[str] = field(default_factory=list)
    new: List[str] = field(default_factory=list)
    untouched: List[str] = field(default_factory=list)
    left: List[str] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)

    def __str__(self) -> str:
        into = f" into {self.into}" if self.into else ""
        lines = [f"initialised from {self.source}: {len(self.loaded)} tensors taken{into}"]
        for names, text in (
            (self.resampled, "of them resampled to another grid"),
            (self.new, "not in the checkpoint, newly initialised"),
            (self.untouched, f"outside {self.into}, newly initialised"),
            (self.left, "of the checkpoint not used"),
        ):
            if names:
                lines.append(f"  {len(names)} {text}: {_shorten(names)}")
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


def initialise(task: Any, init: Init, classes: Optional[Sequence[str]] = None) -> Report:
    """Loads the part `init.take` of a checkpoint into the part `init.into` of a task.

    Args:
        task: Its `encoder` is what `into: encoder` means.
        init: `checkpoint` may be a run, a checkpoint directory, or a published file. Patterns in `allow_missing` and
            `allow_unexpected` are compared with whole names and with names below `into` and `take`.
        classes: Names of the run's classes, in the order of its labels; None if unknown. Outputs of a head are matched
            with those of the checkpoint by name; a head of other classes is not loaded.

    Raises:
        CheckpointError: If something is missing, unexpected, not finite or of another shape that is not allowed to be;
            everything is listed at once, and the task is as before.
    """
    source = read_weights(init.checkpoint)
    into = init.take if init.into is None else init.into
    take = source.encoder if init.take == ENCODER else init.take or ""
    into = encoder_prefix(task) if into == ENCODER else into or ""
    state = task.state_dict()
    taken = _part(source.arrays, take, "Init.take", str(init.checkpoint))
    target = _part(state, into, "Init.into", "the task")
    report = Report(str(init.checkpoint), into)
    report.untouched = [name for name in state if not _is_below(name, into)]
    _match_classes(_class_tensors(task, into), target, taken, (source.classes, classes), into, report)
    _note_unmatched("allow_missing", init.allow_missing, [*target, *(_join(into, name) for name in target)], report)
    _note_unmatched("allow_unexpected", init.allow_unexpected, [*taken, *(_join(take, name) for name in taken)], report)
    values, problems = _match(target, taken, getattr(task.encoder, "grid_size", None), init, report, (take, into))
    if problems:
        shown = "\n  ".join(problems[:40]) + (f"\n  and {len(problems) - 40} more" if len(problems) > 40 else "")
        raise CheckpointError(
            f"Init: {take or 'all'} of {init.checkpoint} does not fit {into or 'the task'}:\n  {shown}\n"
            "change the model, or allow it with patterns in Init.allow_missing or Init.allow_unexpected"
        )
    check_finite(values, str(init.checkpoint))
    report.left += [name for name in source.arrays if not _is_below(name, take)]
    for name, value in values.items():
        assign(target[name], value)
    return report


def _note_unmatched(key: str, patterns: Sequence[str], names: Sequence[str], report: Report) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            report.notes.append(f"Init.{key}: the pattern {pattern!r} matches no name")


def _class_tensors(task: Any, into: str) -> List[str]:
    """Names below `into` of the tensors whose last axis is the classes: those of `linear` in each head."""
    heads = [name for name, layer in task.named_sublayers() if hasattr(layer, "num_classes")]
    names = [f"{head}.linear.{kind}" for head in heads for kind in ("weight", "bias")]
    return list(below(dict.fromkeys(names), into))


def _match_classes(
    names: Sequence[str],
    target: Dict[str, Any],
    taken: Dict[str, np.ndarray],
    classes: Tuple[Optional[Sequence[str]], Optional[Sequence[str]]],
    into: str,
    report: Report,
) -> None:
    """Puts the outputs of heads into the run's order of classes; takes heads of other classes out of both sides."""
    names = [name for name in names if name in target and name in taken]
    if not names:
        return
    theirs, ours = (None if named is None or len(set(named)) < len(named) else list(named) for named in classes)
    shown = _shorten([_join(into, name) for name in names])
    if theirs is None or ours is None:
        who = "the checkpoint" if theirs is None else "the run's dataset"
        report.notes.append(f"classes of {shown} are matched by position: {who} does not give each of them a name")
    elif set(theirs) != set(ours):
        for name in names:
            del target[name], taken[name]
            report.new.append(_join(into, name))
        report.notes.append(
            f"{shown} not loaded, newly initialised: its classes are {_shorten(theirs)}, those of this run "
            f"{_shorten(ours)}"
        )
    elif theirs != ours:
        order = [theirs.index(name) for name in ours]
        for name in names:
            value = taken[name]
            if value.shape and value.shape[-1] >= len(order):  # else its shape is refused later
                taken[name] = np.concatenate([value[..., order], value[..., len(order) :]], axis=-1)
        report.notes.append(f"outputs of {shown} put into this run's order of classes")


def _match(
    target: Mapping[str, Any],
    taken: Mapping[str, np.ndarray],
    grid: Optional[Grid],
    init: Init,
    report: Report,
    prefixes: Tuple[str, str],
) -> Tuple[Dict[str, np.ndarray], List[str]]:
    """Decides for every name what happens to it: the values to set, and what does not fit."""
    take, into = prefixes
    values, problems = {}, []
    for name, tensor in target.items():
        full, shape = _join(into, name), list(tensor.shape)
        if name not in taken:
            if _allowed((name, full), init.allow_missing):
                report.new.append(full)
            else:
                problems.append(f"{full} {shape} is not in the checkpoint")
            continue
        value = taken[name]
        if list(value.shape) != shape:
            value = _resample(name, value, shape, grid)
            if value is None:
                problems.append(f"{full} is {list(taken[name].shape)} in the checkpoint and {shape} in the model")
                continue
            report.resampled.append(full)
        values[name] = value
        report.loaded.append(full)
    for name, value in taken.items():
        full = _join(take, name)
        if name not in target and _allowed((name, full), init.allow_unexpected):
            report.left.append(full)
        elif name not in target:
            problems.append(f"{full} {list(value.shape)} of the checkpoint is not in the model")
    return values, problems


def _resample(name: str, value: np.ndarray, shape: List[int], grid: Optional[Grid]) -> Optional[np.ndarray]:
    """A position table on the grid of the model; None if it is no such table, or not that of a square grid."""
    if grid is None or value.ndim != len(shape) or value.shape[-1] != shape[-1]:
        return None
    if name.endswith("pos_embed"):
        side = math.isqrt(value.shape[1] - 1)
        square, resample = side * side == value.shape[1] - 1, resample_pos_embed
    elif name.endswith("relative_position_bias.table"):
        side = (math.isqrt(max(value.shape[0] - 3, 0)) + 1) // 2
        square, resample = (2 * side - 1) ** 2 == value.shape[0] - 3, resample_relative_position_table
    else:
        return None
    resampled = resample(value, (side, side), grid) if square else None
    return resampled if resampled is not None and list(resampled.shape) == shape else None


def _part(names: Mapping[str, Any], prefix: str, key: str, holder: str) -> Dict[str, Any]:
    found = below(names, prefix)
    if not found:
        parts = ", ".join(sorted({name.split(".")[0] for name in names}))
        raise CheckpointError(f"{key}: {holder} holds nothing below {prefix!r}; its names begin with {parts}")
    return found


def below(state: Mapping[str, Any], prefix: str) -> Dict[str, Any]:
    """The entries below a prefix of the names, without it; all for an empty prefix."""
    skipped = len(prefix) + 1 if prefix else 0
    return {name[skipped:]: value for name, value in state.items() if _is_below(name, prefix)}


def _is_below(name: str, prefix: str) -> bool:
    return not prefix or name.startswith(prefix + ".")


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _allowed(names: Sequence[str], patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _shorten(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def encoder_prefix(task: Any) -> str:
    """Where a task's encoder is among its names: `model.encoder`.

    Raises:
        ValueError: If `task.encoder` is no sub-layer of the task.
    """
    for name, layer in task.named_sublayers():
        if layer is task.encoder:
            return name
    raise ValueError(f"{type(task).__name__}.encoder is no sub-layer of the task; return one of its own layers")
