"""Where checkpoints are on disk, which is the newest whole one, and how one is written so that it is whole or absent.

    checkpoints/step_00001234/{model,optimizer,ema}.safetensors, config.yaml, state.json
    checkpoints/latest, checkpoints/best            text files that hold a directory's name

Arrays are safetensors, the rest is JSON and YAML: nothing in a checkpoint can run code.
"""

import json
import os
import shutil
import zlib
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Union

import numpy as np

FORMAT = 1
STATE = "state.json"
TEMPORARY = ".tmp-"
POINTERS = ("latest", "best")


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or of something else."""


def step_name(step: int) -> str:
    """The directory name of a step's checkpoint."""
    return f"step_{step:08d}"


def write(
    directory: Path, step: int, arrays: Mapping[str, Mapping[str, np.ndarray]], state: Mapping[str, Any], config: str
) -> Path:
    """Writes a checkpoint under a temporary name, then renames it; a reader never sees a part of it.

    Args:
        directory: The run's `checkpoints` directory.
        step: Optimizer steps taken.
        arrays: Arrays by name, for each of `model`, `optimizer`, `ema`.
        state: Plain data for state.json.
        config: The resolved config as YAML.

    Returns:
        The checkpoint's directory; `latest` names it.
    """
    from safetensors.numpy import save_file

    directory.mkdir(parents=True, exist_ok=True)
    for leftover in directory.glob(f"{TEMPORARY}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = directory / f"{TEMPORARY}{step_name(step)}"
    temporary.mkdir()
    try:
        for part, tensors in arrays.items():
            save_file({name: np.ascontiguousarray(a) for name, a in tensors.items()}, temporary / f"{part}.safetensors")
        (temporary / "config.yaml").write_text(config, encoding="utf-8")
        files = {path.name: _fingerprint(path) for path in sorted(temporary.iterdir())}
        content = {"format": FORMAT, "step": step, "files": files, **state}
        (temporary / STATE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        for path in temporary.iterdir():
            _flush(path)
        target = directory / step_name(step)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _flush(directory)
    point(directory, "latest", target)
    return target


def point(directory: Path, pointer: str, target: Path) -> None:
    """Makes `latest` or `best` name a checkpoint, atomically."""
    temporary = directory / f"{TEMPORARY}{pointer}.txt"
    temporary.write_text(target.name + "\n", encoding="utf-8")
    _flush(temporary)
    os.replace(temporary, directory / pointer)


def keep_last(directory: Path, count: int) -> None:
    """Deletes all but the newest `count` checkpoints; never those that `latest` and `best` name."""
    kept = {target.name for target in (_pointed(directory / name) for name in POINTERS) if target is not None}
    for path in checkpoints(directory)[: -count if count > 0 else None]:
        if path.name not in kept:
            shutil.rmtree(path)


def checkpoints(directory: Path) -> List[Path]:
    """The checkpoint directories of a run, oldest first, whole or not."""
    return sorted(path for path in directory.glob("step_*") if path.is_dir())


def resolve(path: Union[str, Path]) -> Path:
    """The checkpoint directory that a path means: itself, a pointer, a `checkpoints` directory or a run directory.

    Raises:
        CheckpointError: If there is no checkpoint; the message says what is there.
    """
    path = Path(path)
    if (path / STATE).is_file():
        return path
    if path.is_file() and path.name in POINTERS:
        target = _pointed(path)
        if target is None:
            raise CheckpointError(f"{path} names a checkpoint that is not there; choose another one beside it")
        return target
    for folder in (path / "checkpoints", path):
        found = find_latest_whole(folder)
        if found is not None:
            return found
    there = "exists, but holds no whole checkpoint" if path.exists() else "does not exist"
    raise CheckpointError(
        f"{path} {there}; give a run's output directory, its checkpoints/latest or checkpoints/best, "
        "or a step_... directory"
    )


def find_latest_whole(directory: Path) -> Optional[Path]:
    """The newest checkpoint that is whole; older ones stand in for damaged ones. None if there is none."""
    for path in reversed(checkpoints(Path(directory))):
        try:
            read_state(path)
        except CheckpointError:
            continue
        return path
    return None


def read_state(path: Path) -> Dict[str, Any]:
    """The content of state.json of a checkpoint whose files are as they were written.

    Raises:
        CheckpointError: If it is damaged, newer than this version, or no checkpoint.
    """
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
        version, files = state["format"], dict(state["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is no whole checkpoint: {STATE} cannot be read ({error})") from None
    if version > FORMAT:
        raise CheckpointError(f"{path} was written by a newer plsc (format {version}); update plsc to read it")
    for name, expected in files.items():
        if not (path / name).is_file():
            raise CheckpointError(f"{path} is damaged: {name} is missing; use an older checkpoint")
        if (path / name).stat().st_size != expected["size"]:
            raise CheckpointError(f"{path} is damaged: {name} has been cut off or changed; use an older checkpoint")
    return state


def check_content(path: Path, state: Mapping[str, Any]) -> None:
    """Compares the content of every file with its checksum.

    Raises:
        CheckpointError: If one differs.
    """
    for name, expected in state["files"].items():
        if _fingerprint(path / name) != expected:
            raise CheckpointError(f"{path} is damaged: the content of {name} has changed; use an older checkpoint")


def _pointed(pointer: Path) -> Optional[Path]:
    if not pointer.is_file():
        return None
    target = pointer.parent / Path(pointer.read_text(encoding="utf-8").strip()).name
    return target if (target / STATE).is_file() else None


def _fingerprint(path: Path) -> Dict[str, int]:
    checksum = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return {"size": path.stat().st_size, "crc32": checksum}


def _flush(path: Path) -> None:
    """Makes sure that a file or directory survives a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_arrays(path: Path, part: str) -> Optional[Dict[str, np.ndarray]]:
    """The arrays of one part of a checkpoint, `model`, `optimizer` or `ema`; None if it does not have it."""
    from safetensors.numpy import load_file

    file = path / f"{part}.safetensors"
    return load_file(file) if file.is_file() else None
