"""Layout of checkpoint directories on disk, and crash-safe writing: a checkpoint is complete or absent.

    checkpoints/step_00001234/{model,optimizer,ema}.safetensors, config.yaml, state.json
    checkpoints/latest, checkpoints/best            text files that hold a directory's name

Arrays are safetensors, the rest is JSON and YAML: reading a checkpoint never executes code. Reading is in
plsc.checkpoint.reader.
"""

import json
import os
import re
import shutil
import zlib
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from plsc import strict_json
from plsc.checkpoint.arrays import write_arrays

FORMAT = 1
STATE = "state.json"
CONFIG = "config.yaml"
TEMPORARY = ".tmp-"
REPLACED, DISCARDED = f"{TEMPORARY}old-", f"{TEMPORARY}gone-"
KEPT = "kept-"  # prefix of the new name of anything that occupied the name of a checkpoint
POINTERS = ("latest", "best")
_STEP = re.compile(r"step_[0-9]{1,20}(?:_[0-9]{1,9})?")
_LEFTOVER = re.compile(rf"{re.escape(TEMPORARY)}((old-|gone-)?{_STEP.pattern}|({'|'.join(POINTERS)})\.txt)")


def step_name(step: int, recounted: int = 0) -> str:
    """The directory name of a step's checkpoint.

    Args:
        step: Optimizer steps taken.
        recounted: Number of times that a changed batch size restarted the counting of steps; earlier names stay in use.
    """
    return f"step_{step:08d}_{recounted}" if recounted else f"step_{step:08d}"


def recounts(directory: Path) -> int:
    """Number of times that the counting of steps was restarted in the run of a directory."""
    return max((_order(path)[0] for path in checkpoints(directory)), default=0)


def _order(path: Path) -> Tuple[int, int]:
    """Sort key of a checkpoint among those of its run."""
    step, _, recounted = path.name[len("step_") :].partition("_")
    return int(recounted or 0), int(step)


def write(
    directory: Path,
    step: int,
    arrays: Mapping[str, Mapping[str, np.ndarray]],
    state: Mapping[str, Any],
    config: str,
    make_parents: bool = True,
) -> Path:
    """Write a checkpoint under a temporary name, then rename it; a reader never sees an incomplete one.

    Args:
        directory: The run's `checkpoints` directory.
        step: Optimizer steps taken.
        arrays: Arrays by name, for each part: `model`, `optimizer`, `ema`, `fixed`.
        state: Plain data for state.json; `recounted` is part of the name, see `step_name`.
        config: The resolved config as YAML.
        make_parents: Create the run's directory too. False for a run in progress: a missing one has been moved.

    Returns:
        Directory of the checkpoint; `latest` names it.

    Raises:
        OSError: If it cannot be written. Earlier checkpoints are unchanged then.
    """
    directory.mkdir(parents=make_parents, exist_ok=True)
    _clear_up(directory)
    name = step_name(step, int(state.get("recounted", 0)))
    temporary = directory / f"{TEMPORARY}{name}"
    temporary.mkdir()
    target = directory / name
    try:
        _fill(temporary, arrays, {**state, "format": FORMAT, "step": step}, config)
        _put_aside(target, REPLACED)
        os.replace(temporary, target)
    except BaseException:
        _clear_up(directory)
        raise
    _flush(directory)
    point(directory, "latest", target)
    _clear_up(directory)
    return target


def _clear_up(directory: Path) -> None:
    """Remove the leftovers of a killed or failed write; restore a checkpoint that it had renamed."""
    for leftover in directory.glob(f"{TEMPORARY}*"):
        if not _LEFTOVER.fullmatch(leftover.name):
            continue
        target = directory / leftover.name[len(REPLACED) :]
        if leftover.name.startswith(REPLACED) and not os.path.lexists(target):
            os.replace(leftover, target)
        else:
            _delete(leftover)


def _fill(folder: Path, arrays: Mapping[str, Mapping[str, np.ndarray]], state: Mapping[str, Any], config: str) -> None:
    """Write the files of a checkpoint, state.json last, and flush them to the disk."""
    for part, tensors in arrays.items():
        write_arrays(folder / f"{part}.safetensors", tensors)
    (folder / CONFIG).write_text(config, encoding="utf-8")
    files = {path.name: fingerprint(path) for path in sorted(folder.iterdir())}
    (folder / STATE).write_text(strict_json.dumps({**state, "files": files}, indent=2) + "\n", encoding="utf-8")
    for path in (*folder.iterdir(), folder):
        _flush(path)


def point(directory: Path, pointer: str, target: Path) -> None:
    """Make `latest` or `best` name a checkpoint, atomically."""
    temporary = directory / f"{TEMPORARY}{pointer}.txt"
    temporary.write_text(target.name + "\n", encoding="utf-8")
    _flush(temporary)
    os.replace(temporary, directory / pointer)


def keep_last(directory: Path, count: int) -> None:
    """Delete all but the newest `count` checkpoints; never those that `latest` and `best` name.

    For a checkpoint that is a link, only the link is deleted. A directory that is not a checkpoint of plsc, or holds
    other files too, is kept.
    """
    kept = {target.name for target in (pointed(directory / name) for name in POINTERS) if target is not None}
    for path in checkpoints(directory)[: -count if count > 0 else None]:
        if path.name not in kept and (path.is_symlink() or is_checkpoint(path)):
            _put_aside(path, DISCARDED)
    _clear_up(directory)


def checkpoints(directory: Path) -> List[Path]:
    """Checkpoint directories of a run, oldest first, complete or not.

    They are ordered by how often the counting of steps was restarted, then by step.
    """
    found = [path for path in directory.glob("step_*") if path.is_dir() and _STEP.fullmatch(path.name)]
    return sorted(found, key=_order)


def is_checkpoint(path: Path) -> bool:
    """Return True if a path is a directory that holds a checkpoint of plsc, complete or not, and nothing else."""
    if path.is_symlink() or not (path / STATE).is_file():
        return False
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
        names = {STATE, *state["files"]}
        int(state["format"]), int(state["step"])
    except (OSError, KeyError, ValueError, TypeError, OverflowError, RecursionError):
        return False
    return all(entry.name in names and not entry.is_dir() for entry in path.iterdir())


def pointed(pointer: Path) -> Optional[Path]:
    """Checkpoint beside `pointer` that it names or links to; None if it does not name a checkpoint."""
    name = pointed_name(pointer)
    target = pointer.parent / name
    if not _STEP.fullmatch(name) or not (target / STATE).is_file():
        return None
    return None if pointer.is_dir() and not os.path.samefile(pointer, target) else target


def pointed_name(pointer: Path) -> str:
    """Content of `latest` or `best`, at most 200 bytes; empty if the file does not exist."""
    if pointer.is_symlink() and pointer.is_dir():
        return os.path.basename(os.path.realpath(pointer))
    if not pointer.is_file():
        return ""
    with open(pointer, "rb") as file:
        return file.read(200).decode("utf-8", "replace").strip()


def _put_aside(path: Path, prefix: str) -> None:
    """Rename a checkpoint, if it exists, so that no reader sees it while it is being deleted.

    Anything that is not a checkpoint, or holds other files too, is renamed to a free name and kept.
    """
    if path.is_symlink() or is_checkpoint(path):
        os.replace(path, path.with_name(prefix + path.name))
    elif path.exists():
        free = (path.with_name(f"{KEPT}{path.name}{number}") for number in ("", *(f"-{n}" for n in range(2, 1000))))
        os.replace(path, next(name for name in free if not os.path.lexists(name)))


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def fingerprint(path: Path) -> Dict[str, int]:
    """Size and CRC-32 of a file."""
    checksum = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return {"size": path.stat().st_size, "crc32": checksum}


def identity(path: Path) -> str:
    """Checksum, for comparison between processes, of a file or of all files of a checkpoint directory.

    Raises:
        OSError: If it cannot be read.
    """
    found = fingerprint(path / STATE if path.is_dir() else path)  # state.json holds the checksums of the others
    return f"checksum {found['crc32']:08x}"


def _flush(path: Path) -> None:
    """Flush a file or directory to the disk, so that it survives a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
