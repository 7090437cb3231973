"""Where checkpoints are on disk, which is the newest whole one, and how one is written so that it is whole or absent.

    checkpoints/step_00001234/{model,optimizer,ema}.safetensors, config.yaml, state.json
    checkpoints/latest, checkpoints/best            text files that hold a directory's name

Arrays are safetensors, the rest is JSON and YAML: nothing in a checkpoint can run code.
"""

import errno
import json
import os
import re
import shutil
import zlib
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Union

import numpy as np

FORMAT = 1
STATE = "state.json"
CONFIG = "config.yaml"
TEMPORARY = ".tmp-"
REPLACED, DISCARDED = f"{TEMPORARY}old-", f"{TEMPORARY}gone-"
POINTERS = ("latest", "best")
_STEP = re.compile(r"step_[0-9]{1,20}")


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or of something else."""


def step_name(step: int) -> str:
    """The directory name of a step's checkpoint."""
    return f"step_{step:08d}"


def write(
    directory: Path,
    step: int,
    arrays: Mapping[str, Mapping[str, np.ndarray]],
    state: Mapping[str, Any],
    config: str,
    make_parents: bool = True,
) -> Path:
    """Writes a checkpoint under a temporary name, then renames it; a reader never sees a part of it.

    Args:
        directory: The run's `checkpoints` directory.
        step: Optimizer steps taken.
        arrays: Arrays by name, for each of `model`, `optimizer`, `ema`.
        state: Plain data for state.json.
        config: The resolved config as YAML.
        make_parents: Whether to make the run's directory too; a run that has begun finds it gone if it was moved.

    Returns:
        The checkpoint's directory; `latest` names it.

    Raises:
        OSError: If it cannot be written; what was there before is there still.
    """
    directory.mkdir(parents=make_parents, exist_ok=True)
    _clear_up(directory)
    temporary = directory / f"{TEMPORARY}{step_name(step)}"
    temporary.mkdir()
    target = directory / step_name(step)
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
    """Removes what a write that was killed or failed has left; a checkpoint that it had put aside comes back."""
    for leftover in directory.glob(f"{TEMPORARY}*"):
        target = directory / leftover.name[len(REPLACED) :]
        if leftover.name.startswith(REPLACED) and not target.exists():
            os.replace(leftover, target)
        else:
            _delete(leftover)


def _fill(folder: Path, arrays: Mapping[str, Mapping[str, np.ndarray]], state: Mapping[str, Any], config: str) -> None:
    """Writes the files of a checkpoint, state.json last, and waits until they are on the disk."""
    for part, tensors in arrays.items():
        write_arrays(folder / f"{part}.safetensors", tensors)
    (folder / CONFIG).write_text(config, encoding="utf-8")
    files = {path.name: _fingerprint(path) for path in sorted(folder.iterdir())}
    (folder / STATE).write_text(json.dumps({**state, "files": files}, indent=2) + "\n", encoding="utf-8")
    for path in (*folder.iterdir(), folder):
        _flush(path)


def write_arrays(file: Path, arrays: Mapping[str, np.ndarray], metadata: Optional[Dict[str, str]] = None) -> None:
    """Writes arrays by name as a safetensors file.

    Raises:
        OSError: If that is not possible; safetensors has an error of its own.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, file, metadata)
    except SafetensorError as error:
        found = re.search(r"(?:os error |code: )(\d+)", str(error))  # as newer and older versions say it
        number = int(found[1]) if found else errno.EIO
        raise OSError(number, f"{file.name}: {os.strerror(number) if found else error}") from error


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
            _put_aside(path, DISCARDED)
    _clear_up(directory)


def checkpoints(directory: Path) -> List[Path]:
    """The checkpoint directories of a run, oldest first, whole or not."""
    found = [path for path in directory.glob("step_*") if path.is_dir() and _STEP.fullmatch(path.name)]
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
                f"{path} names {_pointed_name(path)}, which is no checkpoint any more; "
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
    """The checkpoint written last, or if it is damaged the newest one that is whole; None if there is none.

    One that was to be replaced, by a write that was killed in between, counts too.
    """
    directory = Path(directory)
    latest = _pointed(directory / "latest")
    replaced = sorted(directory.glob(f"{REPLACED}*"))
    for path in ([latest] if latest is not None else []) + checkpoints(directory)[::-1] + replaced:
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
        files = {name: _described(name, said) for name, said in state["files"].items()}
    except KeyError as error:
        raise CheckpointError(f"{path} is no checkpoint of plsc: its {STATE} has no {error}") from None
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path} is no whole checkpoint: {STATE} cannot be read ({error})") from None
    if version > FORMAT:
        raise CheckpointError(f"{path} was written by a newer plsc (format {version}); update plsc to read it")
    for name, expected in files.items():
        if not (path / name).is_file():
            raise CheckpointError(f"{path} is damaged: {name} is missing; use an older checkpoint")
        if (path / name).stat().st_size != expected["size"]:
            raise CheckpointError(f"{path} is damaged: {name} has been cut off or changed; use an older checkpoint")
    return state


def _described(name: str, said: Mapping[str, int]) -> Dict[str, int]:
    """What state.json says about one of the files beside it."""
    if Path(name).name != name:
        raise ValueError(f"it names {name!r}, which is no file beside it")
    return {"size": int(said["size"]), "crc32": int(said["crc32"])}


def check_content(path: Path, state: Mapping[str, Any]) -> None:
    """Compares the content of every file with its checksum.

    Raises:
        CheckpointError: If one differs.
    """
    for name, expected in state["files"].items():
        if _fingerprint(path / name) != expected:
            raise CheckpointError(f"{path} is damaged: the content of {name} has changed; use an older checkpoint")


def _pointed(pointer: Path) -> Optional[Path]:
    """The checkpoint beside `pointer` that it names; None if it names none."""
    name = _pointed_name(pointer)
    target = pointer.parent / name
    return target if _STEP.fullmatch(name) and (target / STATE).is_file() else None


def _pointed_name(pointer: Path) -> str:
    """What `latest` or `best` says, at most 200 letters of it; empty if there is no such file."""
    if not pointer.is_file():
        return ""
    with open(pointer, "rb") as file:
        return file.read(200).decode("utf-8", "replace").strip()


def _listed(directory: Path) -> str:
    names = [found.name for found in checkpoints(directory)] + [n for n in POINTERS if (directory / n).is_file()]
    return f"is {', '.join(names)}" if names else "is none"


def _put_aside(path: Path, prefix: str) -> None:
    """Renames a checkpoint, if it exists, so that no reader meets a part of it while it is deleted."""
    if path.exists():
        os.replace(path, path.with_name(prefix + path.name))


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
    """The arrays of one part of a checkpoint, `model`, `optimizer` or `ema`; None if it does not have it.

    Raises:
        CheckpointError: If its file is damaged.
    """
    file = path / f"{part}.safetensors"
    return read_safetensors(file) if file.is_file() else None


def read_safetensors(file: Path) -> Dict[str, np.ndarray]:
    """The arrays of a safetensors file.

    Raises:
        CheckpointError: If it is damaged, or holds numbers of a type that numpy does not have.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise CheckpointError(f"{file} is damaged: {error}") from None
    except Exception as error:  # noqa: BLE001 - which one depends on the version of safetensors
        raise CheckpointError(
            f"{file} holds numbers of a type that numpy does not have ({error}); save them as float32"
        ) from None
