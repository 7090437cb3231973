"""Initial weights from a checkpoint, with a report of the tensors that were loaded, resampled or left out."""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from plsc.checkpoint import heads
from plsc.checkpoint.arrays import CheckpointError
from plsc.checkpoint.formats import PREFIX, Source, read_weights
from plsc.checkpoint.weights import assign, check_finite
from plsc.config.settings import Init
from plsc.nn.pos_embed import likely_grid, resample_pos_embed, resample_relative_position_table, rounding

POSITIONS = "pos_embed"
ENCODER = "encoder"  # in `take` and `into`: the encoder, whatever its name is
Grid = Tuple[int, int]


@dataclass
class Report:
    """Result of `initialise`.

    Args:
        source: The checkpoint.
        into: The part of the task that was filled.
        loaded: Names within the task that got a value from the checkpoint, including resampled ones.
        resampled: The subset of `loaded` that was resampled to another grid.
        new: Names within the task that keep their initial values because the checkpoint has no values for them.
        untouched: Names of the task outside `into`, which keep their initial values too.
        left: Names within the checkpoint that were not used.
        notes: Sentences about what was left out or assumed, and about the classes of a head.
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
        lines = [f"initialized from {self.source}: {len(self.loaded)} tensors taken{into}"]
        for names, text in (
            (self.resampled, "of them resampled to another grid"),
            (self.new, "not in the checkpoint, newly initialized"),
            (self.untouched, f"outside {self.into}, newly initialized"),
            (self.left, "of the checkpoint not used"),
        ):
            if names:
                lines.append(f"  {len(names)} {text}: {_shorten(names)}")
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


def initialise(
    task: Any, init: Init, classes: Optional[Sequence[str]] = None, opened: Optional[Source] = None
) -> Report:
    """Load the part `init.take` of a checkpoint into the part `init.into` of a task.

    Args:
        task: The task to fill; `into: encoder` means its `encoder`.
        init: `checkpoint` may be a run, a checkpoint directory, or a published file. Patterns in `allow_missing` and
            `allow_unexpected` are compared with whole names and with names below `into` and `take`.
        classes: Names of the run's classes, in the order of its labels; None if unknown. Outputs of a head are matched
            with those of the checkpoint by name; a head of other classes is not loaded.
        opened: The source that `init.checkpoint` names, if the caller has opened it already.

    Raises:
        CheckpointError: If a tensor is missing, unexpected, not finite or of another shape and that is not allowed, or
            the checkpoint has other attention heads. All problems are listed, and the task is unchanged.
    """
    source = read_weights(init.checkpoint if opened is None else opened)
    into = init.take if init.into is None else init.into
    take = source.encoder if init.take == ENCODER else init.take or ""
    into = encoder_prefix(task) if into == ENCODER else into or ""
    state = task.state_dict()
    taken = _part(source.arrays, take, "Init.take", str(init.checkpoint))
    target = _part(state, into, "Init.into", "the task")
    report = Report(str(init.checkpoint), into, notes=list(source.notes))
    report.untouched = [name for name in state if not _is_below(name, into)]
    _match_classes(_class_tensors(task, into), target, taken, (source.classes, classes), into, report)
    _note_unmatched("allow_missing", init.allow_missing, [*target, *(_join(into, name) for name in target)], report)
    _note_unmatched("allow_unexpected", init.allow_unexpected, [*taken, *(_join(take, name) for name in taken)], report)
    fixed = below({PREFIX + name: value for name, value in source.fixed.items()}, take)
    for name in (name for name in fixed if name in target and _is_table(name)):  # fixed there, learned here
        taken.setdefault(name, fixed[name])
    known = source.grid if init.grid is None else (init.grid[0], init.grid[1])
    grids = known, getattr(task.encoder, "grid_size", None)
    values, problems = _match(target, taken, grids, init, report, (take, into))
    problems += heads.mismatches(task, source.heads, take, into)
    assumed = heads.assumed(task, source.heads, take, into)
    report.notes += [assumed] if assumed else []
    for name in fixed:
        if name not in target and _join(into, name) == _join(encoder_prefix(task), POSITIONS):
            problems += _unlike(fixed[name], task.encoder, report)
    if problems:
        shown = "\n  ".join(problems[:40]) + (f"\n  and {len(problems) - 40} more" if len(problems) > 40 else "")
        raise CheckpointError(
            f"Init: {take or 'all'} of {init.checkpoint} does not fit {into or 'the task'}:\n  {shown}\n"
            "change the model, or allow it with patterns in Init.allow_missing or Init.allow_unexpected"
        )
    if not report.loaded:
        raise CheckpointError(
            f"Init: nothing of {init.checkpoint} was taken: none of its names below {take!r} is a name below {into!r} "
            f"in the task; its names are {_shorten(list(taken))}; set Init.take and Init.into"
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
    """Names below `into` of the tensors with one output per class: those of `linear` in each head."""
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
    """Reorder the outputs of heads to the run's order of classes; remove heads of other classes from both sides."""
    names = [name for name in names if name in target and name in taken]
    if not names:
        return
    theirs, ours = (None if named is None or len(set(named)) < len(named) else list(named) for named in classes)
    shown = _shorten([_join(into, name) for name in names])
    if theirs is None or ours is None:
        who = "the checkpoint" if theirs is None else "the run's dataset"
        report.notes.append(f"classes of {shown} are matched by position: {who} does not name each of them")
    elif set(theirs) != set(ours):
        for name in names:
            del target[name], taken[name]
            report.new.append(_join(into, name))
        report.notes.append(
            f"{shown} not loaded, newly initialized: its classes are {_shorten(theirs)}, those of this run "
            f"{_shorten(ours)}"
        )
    elif theirs != ours:
        order = [theirs.index(name) for name in ours]
        for name in names:
            value = taken[name]
            if value.shape and value.shape[-1] >= len(order):  # otherwise its shape is rejected later
                taken[name] = np.concatenate([value[..., order], value[..., len(order) :]], axis=-1)
        report.notes.append(f"outputs of {shown} were reordered to this run's order of classes")


def _match(
    target: Mapping[str, Any],
    taken: Mapping[str, np.ndarray],
    grids: Tuple[Optional[Grid], Optional[Grid]],
    init: Init,
    report: Report,
    prefixes: Tuple[str, str],
) -> Tuple[Dict[str, np.ndarray], List[str]]:
    """Match the tensors of the task with those of the checkpoint.

    Args:
        target: Tensors of the task by name below `into`.
        taken: Arrays of the checkpoint by name below `take`.
        grids: Grid of the checkpoint and grid of the model; None where unknown.
        init: Its patterns allow missing and unexpected tensors.
        report: Filled.
        prefixes: `take` and `into`.

    Returns:
        Values to set by name, and one sentence for each problem.
    """
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
        value, reason = _on_grid(name, taken[name], shape, grids, report)
        if list(value.shape) != shape:
            given = list(taken[name].shape)
            problems.append(f"{full} is {given} in the checkpoint and {shape} in the model{reason}")
            continue
        if reason:
            problems.append(f"{full} is {shape}{reason}")
            continue
        if value is not taken[name]:
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


def _on_grid(
    name: str, value: np.ndarray, shape: List[int], grids: Tuple[Optional[Grid], Optional[Grid]], report: Report
) -> Tuple[np.ndarray, str]:
    """Resample a position table to the grid of the model; return the reason if its own grid is unknown."""
    known, wanted = grids
    relative = name.endswith("relative_position_bias.table")
    if not (relative or _is_table(name)) or wanted is None or value.ndim != len(shape) or value.shape[-1] != shape[-1]:
        return value, ""
    grid, note = likely_grid(value.shape[0 if relative else 1], known, wanted, relative)
    if grid is None:
        return value, f", {note}; set Init.grid to its [rows, columns]"
    if note and note not in report.notes:
        report.notes.append(note)
    if grid == wanted:
        return value, ""
    return (resample_relative_position_table if relative else resample_pos_embed)(value, grid, wanted), ""


def _is_table(name: str) -> bool:
    return name == POSITIONS or name.endswith(f".{POSITIONS}")


def _unlike(table: np.ndarray, encoder: Any, report: Report) -> List[str]:
    """Compare a fixed position table of the checkpoint with the one that the encoder computes; list problems."""
    own = getattr(encoder, POSITIONS, None)
    if own is None:
        report.notes.append("the checkpoint has a fixed table of positions; the model has pos_embed: none")
        return []
    if list(own.shape) != list(table.shape) or np.allclose(own.numpy(), table, atol=rounding(table), rtol=0):
        return []
    return [
        "the fixed table of positions in the checkpoint differs from the one that the model computes: it has another "
        "grid or another order; set Model.encoder.pos_embed to the other one of sincos and sincos_official"
    ]


def _part(names: Mapping[str, Any], prefix: str, key: str, holder: str) -> Dict[str, Any]:
    found = below(names, prefix)
    if not found:
        parts = ", ".join(sorted({name.split(".")[0] for name in names}))
        raise CheckpointError(f"{key}: {holder} has no tensors below {prefix!r}; its names begin with {parts}")
    return found


def below(state: Mapping[str, Any], prefix: str) -> Dict[str, Any]:
    """Entries below a prefix of the names, with the prefix removed; all entries for an empty prefix."""
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
    """Prefix of the names of a task's encoder, such as `model.encoder`.

    Raises:
        ValueError: If `task.encoder` is not a sub-layer of the task.
    """
    for name, layer in task.named_sublayers():
        if layer is task.encoder:
            return name
    raise ValueError(f"{type(task).__name__}.encoder is not a sub-layer of the task; return one of its layers")
