"""Where checkpoints are on disk, which is the newest whole one, and how one is written so that it is whole or absent.

    checkpoints/step_00001234/{model,optimizer,ema}.safetensors, config.yaml, state.json
    checkpoints/latest, checkpoints/best            text files that hold a directory's name

Arrays are safetensors, the rest is JSON and YAML: nothing in a checkpoint can run code.
"""

import json
import os
import re
import shutil
import warnings
import zlib
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

import numpy as np

from plsc import strict_json
from plsc.checkpoint.arrays import CheckpointError, read_safetensors, write_arrays
from plsc.runs.directory import CheckpointWarning

FORMAT = 1
STATE = "state.json"
CONFIG = "config.yaml"
TEMPORARY = ".tmp-"
REPLACED, DISCARDED = f"{TEMPORARY}old-", f"{TEMPORARY}gone-"
KEPT = "kept-"  # how the names of what was in the way of a checkpoint begin
POINTERS = ("latest", "best")
_OLDER = "; use an older checkpoint"
_STEP = re.compile(r"step_[0-9]{1,20}(?:_[0-9]{1,9})?")
_LEFTOVER = re.compile(rf"{re.escape(TEMPORARY)}((old-|gone-)?{_STEP.pattern}|({'|'.join(POINTERS)})\.txt)")


def step_name(step: int, recounted: int = 0) -> str:
    """The directory name of a step's checkpoint.

    Args:
        step: Optimizer steps taken.
        recounted: How often the steps were counted anew, as the batch had changed; the names before stay taken.
    """
    return f"step_{step:08d}_{recounted}" if recounted else f"step_{step:08d}"


def recounts(directory: Path) -> int:
    """How often the steps of the run in a directory were counted anew so far."""
    return max((_order(path)[0] for path in checkpoints(directory)), default=0)


def _order(path: Path) -> Tuple[int, int]:
    """The place of a checkpoint among those of its run."""
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
    """Writes a checkpoint under a temporary name, then renames it; a reader never sees a part of it.

    Args:
        directory: The run's `checkpoints` directory.
        step: Optimizer steps taken.
        arrays: Arrays by name, for each of `model`, `optimizer`, `ema`.
        state: Plain data for state.json; `recounted` is part of the name, see `step_name`.
        config: The resolved config as YAML.
        make_parents: Whether to make the run's directory too; a run that has begun finds it gone if it was moved.

    Returns:
        The checkpoint's directory; `latest` names it.

    Raises:
        OSError: If it cannot be written; what was there before is there still.
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
    """Removes what a write that was killed or failed has left; a checkpoint that it had put aside comes back."""
    for leftover in directory.glob(f"{TEMPORARY}*"):
        if not _LEFTOVER.fullmatch(leftover.name):
            continue
        target = directory / leftover.name[len(REPLACED) :]
        if leftover.name.startswith(REPLACED) and not os.path.lexists(target):
            os.replace(leftover, target)
        else:
            _delete(leftover)


def _fill(folder: Path, arrays: Mapping[str, Mapping[str, np.ndarray]], state: Mapping[str, Any], config: str) -> None:
    """Writes the files of a checkpoint, state.json last, and waits until they are on the disk."""
    for part, tensors in arrays.items():
        write_arrays(folder / f"{part}.safetensors", tensors)
    (folder / CONFIG).write_text(config, encoding="utf-8")
    files = {path.name: fingerprint(path) for path in sorted(folder.iterdir())}
    (folder / STATE).write_text(strict_json.dumps({**state, "files": files}, indent=2) + "\n", encoding="utf-8")
    for path in (*folder.iterdir(), folder):
        _flush(path)


def point(directory: Path, pointer: str, target: Path) -> None:
    """Makes `latest` or `best` name a checkpoint, atomically."""
    temporary = directory / f"{TEMPORARY}{pointer}.txt"
    temporary.write_text(target.name + "\n", encoding="utf-8")
    _flush(temporary)
    os.replace(temporary, directory / pointer)


def keep_last(directory: Path, count: int) -> None:
    """Deletes all but the newest `count` checkpoints; never those that `latest` and `best` name.

    Of a checkpoint that is a link, only the link is deleted. A directory that is not a checkpoint of plsc, or holds
    anything besides one, stays.
    """
    kept = {target.name for target in (_pointed(directory / name) for name in POINTERS) if target is not None}
    for path in checkpoints(directory)[: -count if count > 0 else None]:
        if path.name not in kept and (path.is_symlink() or is_checkpoint(path)):
            _put_aside(path, DISCARDED)
    _clear_up(directory)


def checkpoints(directory: Path) -> List[Path]:
    """The checkpoint directories of a run, oldest first, whole or not.

    That is the order of steps, among those whose steps are counted alike: a run whose batch changes counts anew.
    """
    found = [path for path in directory.glob("step_*") if path.is_dir() and _STEP.fullmatch(path.name)]
    return sorted(found, key=_order)


def is_checkpoint(path: Path) -> bool:
    """Whether a path is a directory that holds a checkpoint of plsc, whole or not, and nothing else."""
    if path.is_symlink() or not (path / STATE).is_file():
        return False
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
        names = {STATE, *state["files"]}
        int(state["format"]), int(state["step"])
    except (OSError, KeyError, ValueError, TypeError, OverflowError, RecursionError):
        return False
    return all(entry.name in names and not entry.is_dir() for entry in path.iterdir())


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
                f"{path} names {_shown_name(path)}, which is no checkpoint any more; there {_listed(path.parent)}"
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


def check_pointers(directory: Path) -> None:
    """Raises CheckpointError if `latest` or `best` names no checkpoint."""
    for pointer in (directory / name for name in POINTERS):
        if os.path.lexists(pointer) and _pointed(pointer) is None:
            raise CheckpointError(_dangling(pointer))


def find_latest_whole(directory: Path) -> Optional[Path]:
    """The checkpoint written last, or if it is damaged the newest one that is whole; None if there is none.

    One that was to be replaced, by a write that was killed in between, counts too. A CheckpointWarning says which ones
    are damaged, why, and which is used instead, and if `best` names no checkpoint.
    """
    directory = Path(directory)
    latest, passed = _pointed(directory / "latest"), []
    if latest is None and os.path.lexists(directory / "latest"):
        passed.append(_dangling(directory / "latest"))
    replaced = sorted(directory.glob(f"{REPLACED}*"))
    listed = ([latest] if latest is not None else []) + checkpoints(directory)[::-1] + replaced
    for path in dict.fromkeys(listed):
        problem = _damage(path)
        if problem is None:
            if passed:
                warnings.warn(f"{'; '.join(passed)}; {path} is used instead", CheckpointWarning, stacklevel=2)
            _warn_about_best(directory)
            return path
        passed.append(problem)
    return None


def best_or_latest(run: Path) -> Path:
    """The best checkpoint of a run directory, or as `resolve` finds it, with a CheckpointWarning if `best` is damaged.

    Raises:
        CheckpointError: If no checkpoint is whole.
    """
    best = _pointed(run / "checkpoints" / "best")
    problem = None if best is None else _damage(best)
    if best is not None and problem is None:
        return best
    path = resolve(run)
    if problem is not None:
        warnings.warn(f"the best checkpoint: {problem}; {path} is used instead", CheckpointWarning, stacklevel=2)
    return path


def _damage(path: Path) -> Optional[str]:
    """The reason for which a checkpoint cannot be read; None if it is whole."""
    try:
        check_content(path, read_state(path))
    except CheckpointError as error:
        return str(error).replace(_OLDER, "")
    return None


def _warn_about_best(directory: Path) -> None:
    pointer = directory / "best"
    if os.path.lexists(pointer) and _pointed(pointer) is None:
        warnings.warn(f"{_dangling(pointer)}: the best one is not known", CheckpointWarning, stacklevel=3)


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
            raise CheckpointError(f"{path} is damaged: {name} is missing{_OLDER}")
        if (path / name).stat().st_size != expected["size"]:
            raise CheckpointError(f"{path} is damaged: {name} has been cut off or changed{_OLDER}")
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
        if fingerprint(path / name) != expected:
            raise CheckpointError(f"{path} is damaged: the content of {name} has changed{_OLDER}")


def _pointed(pointer: Path) -> Optional[Path]:
    """The checkpoint beside `pointer` that it names, or that it is a link to; None if it names none."""
    name = _pointed_name(pointer)
    target = pointer.parent / name
    if not _STEP.fullmatch(name) or not (target / STATE).is_file():
        return None
    return None if pointer.is_dir() and not os.path.samefile(pointer, target) else target


def _pointed_name(pointer: Path) -> str:
    """What `latest` or `best` says, at most 200 letters of it; empty if there is no such file."""
    if pointer.is_symlink() and pointer.is_dir():
        return os.path.basename(os.path.realpath(pointer))
    if not pointer.is_file():
        return ""
    with open(pointer, "rb") as file:
        return file.read(200).decode("utf-8", "replace").strip()


def _shown_name(pointer: Path) -> str:
    """`_pointed_name` for messages."""
    return ascii(_pointed_name(pointer))[1:-1] or "nothing"


def _dangling(pointer: Path) -> str:
    return f"{pointer} names {_shown_name(pointer)}, which is not a checkpoint in this folder"


def _listed(directory: Path) -> str:
    names = [found.name for found in checkpoints(directory)] + [n for n in POINTERS if (directory / n).is_file()]
    return f"is {', '.join(names)}" if names else "is none"


def _put_aside(path: Path, prefix: str) -> None:
    """Renames a checkpoint, if it exists, so that no reader meets a part of it while it is deleted.

    What is not a checkpoint, or holds more, is in the way: it is renamed to a free name and stays.
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
    """The checksum of a checkpoint directory, of all its files, or of a file.

    Raises:
        OSError: If it cannot be read.
    """
    found = fingerprint(path / STATE if path.is_dir() else path)  # state.json holds the checksums of the others
    return f"checksum {found['crc32']:08x}"


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
