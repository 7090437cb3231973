"""Initial weights from a checkpoint: which part of it goes where, and an honest account of what was taken."""

import math
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from plsc.checkpoint.formats import read_weights
from plsc.nn.pos_embed import resample_pos_embed, resample_relative_position_table
from plsc.settings import Init
from plsc.storage import CheckpointError

ENCODER = "encoder"  # in `take` and `into`: whatever the encoder is called there
Grid = Tuple[int, int]


@dataclass
class Report:
    """What `initialise` did, by names within the task."""

    source: str
    loaded: List[str] = field(default_factory=list)
    resampled: List[str] = field(default_factory=list)
    new: List[str] = field(default_factory=list)
    left: List[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"initialised from {self.source}: {len(self.loaded)} tensors taken"]
        for names, text in (
            (self.resampled, "resampled to another grid"),
            (self.new, "not in the checkpoint, newly initialised"),
            (self.left, "in the checkpoint, left there"),
        ):
            if names:
                lines.append(f"  {len(names)} {text}: {_shorten(names)}")
        return "\n".join(lines)


def initialise(task: Any, init: Init) -> Report:
    """Loads the part `init.take` of a checkpoint into the part `init.into` of a task.

    Args:
        task: Its `encoder` is what `into: encoder` means.
        init: `checkpoint` may be a run, a checkpoint directory, or a published file.

    Raises:
        CheckpointError: If something is missing, unexpected or of another shape that is not allowed to be; everything
            is listed at once.
    """
    source = read_weights(init.checkpoint)
    taken = below(source.arrays, source.encoder if init.take == ENCODER else init.take)
    if not taken:
        parts = sorted({name.split(".")[0] for name in source.arrays})
        raise CheckpointError(
            f"Init.take: {init.checkpoint} holds nothing below {init.take!r}; its names begin with {', '.join(parts)}"
        )
    target = below(task.state_dict(), encoder_prefix(task) if init.into == ENCODER else init.into)
    grid = getattr(task.encoder, "grid_size", None)
    report = Report(str(init.checkpoint))
    values, problems = _match(target, taken, grid, init, report)
    if problems:
        shown = "\n  ".join(problems[:40]) + (f"\n  and {len(problems) - 40} more" if len(problems) > 40 else "")
        raise CheckpointError(
            f"Init: {init.checkpoint} does not fit {init.into or 'the task'}:\n  {shown}\n"
            "change the model, or allow it with patterns in Init.allow_missing or Init.allow_unexpected"
        )
    for name, value in values.items():
        target[name].set_value(value)
    return report


def _match(
    target: Mapping[str, Any], taken: Mapping[str, np.ndarray], grid: Optional[Grid], init: Init, report: Report
) -> Tuple[Dict[str, np.ndarray], List[str]]:
    """Decides for every name what happens to it: the values to set, and what does not fit."""
    values, problems = {}, []
    for name, tensor in target.items():
        if name not in taken:
            if _allowed(name, init.allow_missing):
                report.new.append(name)
            else:
                problems.append(f"{name} {list(tensor.shape)} is not in the checkpoint")
            continue
        value, shape = taken[name], list(tensor.shape)
        if list(value.shape) != shape:
            value = _resample(name, value, shape, grid)
            (report.resampled if value is not None else []).append(name)
        if value is None:
            problems.append(f"{name} is {list(taken[name].shape)} in the checkpoint and {shape} in the model")
        else:
            values[name] = value.astype(str(tensor.dtype).split(".")[-1])
            report.loaded.append(name)
    for name, value in taken.items():
        if name in target:
            continue
        if _allowed(name, init.allow_unexpected):
            report.left.append(name)
        else:
            problems.append(f"{name} {list(value.shape)} of the checkpoint is not in the model")
    return values, problems


def _resample(name: str, value: np.ndarray, shape: List[int], grid: Optional[Grid]) -> Optional[np.ndarray]:
    """A position table on the grid of the model; None if it is no such table, or not that of a square grid."""
    if grid is None or value.ndim != len(shape) or value.shape[-1] != shape[-1]:
        return None
    if name.endswith("pos_embed"):
        side = math.isqrt(value.shape[1] - 1)
        if side * side != value.shape[1] - 1:
            return None
        return resample_pos_embed(value, (side, side), grid)
    if name.endswith("relative_position_bias.table"):
        side = (math.isqrt(value.shape[0] - 3) + 1) // 2
        if (2 * side - 1) ** 2 + 3 != value.shape[0]:
            return None
        return resample_relative_position_table(value, (side, side), grid)
    return None


def below(state: Mapping[str, Any], prefix: str) -> Dict[str, Any]:
    """The entries below a prefix of the names, without it; all for an empty prefix."""
    if not prefix:
        return dict(state)
    return {name[len(prefix) + 1 :]: value for name, value in state.items() if name.startswith(prefix + ".")}


def _allowed(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


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
    raise ValueError(f"{type(task).__name__}.encoder is no sub-layer of the task")
