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
CONFIG = "config.yaml"
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
    directory.mkdir(parents=True, exist_ok=True)
    for leftover in directory.glob(f"{TEMPORARY}*"):
        _delete(leftover)
    temporary = directory / f"{TEMPORARY}{step_name(step)}"
    temporary.mkdir()
    try:
        _fill(temporary, arrays, {**state, "format": FORMAT, "step": step}, config)
        target = directory / step_name(step)
        old = _put_aside(target)
        os.replace(temporary, target)
    except BaseException:
        _delete(temporary)
        raise
    _delete(old)
    _flush(directory)
    point(directory, "latest", target)
    return target


def _fill(folder: Path, arrays: Mapping[str, Mapping[str, np.ndarray]], state: Mapping[str, Any], config: str) -> None:
    """Writes the files of a checkpoint, state.json last, and waits until they are on the disk."""
    from safetensors.numpy import save_file

    for part, tensors in arrays.items():
        save_file({name: np.asarray(a, order="C") for name, a in tensors.items()}, folder / f"{part}.safetensors")
    (folder / CONFIG).write_text(config, encoding="utf-8")
    files = {path.name: _fingerprint(path) for path in sorted(folder.iterdir())}
    (folder / STATE).write_text(json.dumps({**state, "files": files}, indent=2) + "\n", encoding="utf-8")
    for path in (*folder.iterdir(), folder):
        _flush(path)


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
            _delete(_put_aside(path))


def checkpoints(directory: Path) -> List[Path]:
    """The checkpoint directories of a run, oldest first, whole or not."""
    found = [path for path in directory.glob("step_*") if path.is_dir() and path.name[5:].isdecimal()]
    return sorted(found, key=lambda path: int(path.name[5:]))


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
            raise CheckpointError(
                f"{path} names {path.read_text(encoding='utf-8').strip()}, which is no checkpoint any more; "
                f"there {_listed(path.parent)}"
            )
        return target
    for folder in (path / "checkpoints", path):
        found = find_latest_whole(folder)
        if found is not None:
            return found
        check_newest(folder)
    if path.is_file():
        raise CheckpointError(
            f"{path} is a file, not a checkpoint directory; Init.checkpoint takes the weights of such a file, and "
            "`plsc convert FILE DIR --to own` makes a checkpoint of it"
        )
    there = f"holds no whole checkpoint; there {_listed(path)}" if path.is_dir() else "does not exist"
    raise CheckpointError(
        f"{path} {there}; give a run's output directory, its checkpoints/latest or checkpoints/best, "
        "or a step_... directory"
    )


def check_newest(directory: Path) -> None:
    """Raises CheckpointError, which says why, if the newest checkpoint of a directory is not whole."""
    for path in checkpoints(directory)[-1:]:
        check_content(path, read_state(path))


def find_latest_whole(directory: Path) -> Optional[Path]:
    """The checkpoint written last, or if it is damaged the newest one that is whole; None if there is none."""
    directory = Path(directory)
    latest = _pointed(directory / "latest")
    for path in ([latest] if latest is not None else []) + checkpoints(directory)[::-1]:
        try:
            check_content(path, read_state(path))
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
        version, _ = int(state["format"]), int(state["step"])
        sizes = {str(name): int(entry["size"]) for name, entry in state["files"].items()}
    except KeyError as error:
        raise CheckpointError(f"{path} is no checkpoint of plsc: its {STATE} has no {error}") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is no whole checkpoint: {STATE} cannot be read ({error})") from None
    if version > FORMAT:
        raise CheckpointError(f"{path} was written by a newer plsc (format {version}); update plsc to read it")
    for name, size in sizes.items():
        if not (path / name).is_file():
            raise CheckpointError(f"{path} is damaged: {name} is missing; use an older checkpoint")
        if (path / name).stat().st_size != size:
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


def _listed(directory: Path) -> str:
    names = [found.name for found in checkpoints(directory)] + [n for n in POINTERS if (directory / n).is_file()]
    return f"is {', '.join(names)}" if names else "is none"


def _put_aside(path: Path) -> Path:
    """Renames a checkpoint that is to be deleted, if it exists, so that no reader meets a part of it."""
    aside = path.with_name(f"{TEMPORARY}old-{path.name}")
    if path.exists():
        os.replace(path, aside)
    return aside


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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
