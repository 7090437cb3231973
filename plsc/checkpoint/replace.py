"""Crash-safe replacement of files and folders; only what plsc has written is replaced.

A command writes into a temporary folder on the same file system and renames the result into place at the end. A command
that fails leaves the old content unchanged and removes its temporary files.
"""

import json
import os
import shutil
import tempfile
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

from plsc import strict_json
from plsc.checkpoint import files as checkpoint_files

STAGING = ".plsc-"  # prefix of the names of temporary folders
MANIFEST = "export.json"
PNG_START = b"\x89PNG\r\n"


@contextmanager
def staging(parent: Path) -> Iterator[Path]:
    """Create a temporary folder in `parent` for the block; if the block fails, a new `parent` is removed too."""
    made = [path for path in (parent, *parent.parents) if not path.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=STAGING, dir=parent))
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        for path in made:
            with suppress(OSError):  # another process uses it by now
                path.rmdir()
        raise
    shutil.rmtree(folder, ignore_errors=True)


def check_replaceable(target: Path, source: Path) -> None:
    """Check that `target` may be replaced: a regular file, an empty folder or a checkpoint directory of plsc.

    Args:
        target: An existing path.
        source: Input of the command; it, its parts and folders that contain it may not be replaced.

    Raises:
        FileExistsError: If `target` may not be replaced; with the reason.
    """
    reason = _foreign(target) or _in_use(target, source)
    if reason is not None:
        raise FileExistsError(f"{target} is not replaced, even with --force: {reason}; choose another name")


def _foreign(target: Path) -> Optional[str]:
    """Reason why the content of a path may not be replaced; None if it may."""
    if target.is_symlink():
        return f"it is a link to {os.readlink(target)}"
    if target.is_file():
        return None
    if not target.is_dir():
        return "it is neither a file nor a folder"
    if checkpoint_files.is_checkpoint(target) or not any(target.iterdir()):
        return None
    others = [path for path in target.iterdir() if path.name not in checkpoint_files.POINTERS]
    if len(others) == 1 and checkpoint_files.is_checkpoint(others[0]):
        return None
    names = sorted(path.name for path in others if not checkpoint_files.is_checkpoint(path))
    held = f"it is a folder that holds {_listed(names)}" if names else f"it holds {len(others)} checkpoints"
    return f"{held}, and only a folder that holds one checkpoint of plsc and nothing else is replaced"


def _in_use(target: Path, source: Path) -> Optional[str]:
    """Reason why a path is needed by the command; None if it is not."""
    real, working = _real(target), _real(Path.cwd())
    if real in (working, *working.parents):
        return "it contains the working directory"
    source = source.parent if source.name in checkpoint_files.POINTERS else source
    read = {_real(path) for path in _read_from(source)}
    if any(real in (path, *path.parents) for path in read):
        return f"it holds the source {source}" if target.is_dir() else f"it is the source {source}"
    if source.exists() and (os.path.samefile(target, source) or read.intersection(real.parents)):
        return f"it is a part of the source {source}"
    return None


def _read_from(source: Path) -> Iterator[Path]:
    """Paths that may be read to get the weights of `source`, including the targets of links in a run."""
    yield source
    for folder in (source, source / "checkpoints"):
        for path in checkpoint_files.checkpoints(folder):
            yield from (path, *path.iterdir())


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _listed(names: List[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def put(new: Path, target: Path, aside: Path) -> None:
    """Rename `new` to `target`; an existing folder is renamed to `aside`, and restored if that fails."""
    if not os.path.lexists(target) or not (new.is_dir() or target.is_dir()):
        os.replace(new, target)
        return
    os.replace(target, aside)
    try:
        os.replace(new, target)
    except BaseException:
        os.replace(aside, target)
        raise


@contextmanager
def replacing_file(path: Path, ours: Callable[[Path], bool], what: str) -> Iterator[Path]:
    """Yield a path to write a file to, which becomes `path` at the end of the block; see `check_file`.

    If `path` is a link, its target is replaced. Devices and pipes are written to directly.
    """
    check_file(path, ours, what)
    if _is_stream(path):
        yield path
        return
    real = _real(path) if path.is_symlink() else path
    with staging(real.parent) as folder:
        yield folder / real.name
        if real.exists():
            shutil.copymode(real, folder / real.name)
        os.replace(folder / real.name, real)


def check_file(path: Path, ours: Callable[[Path], bool], what: str) -> None:
    """Check that a file may be written as `path`.

    Args:
        path: File to write; it may exist.
        ours: Returns True if an existing file is of the kind that is written; only then it may be replaced.
        what: Name of that kind in the message.

    Raises:
        ValueError: If it is a folder.
        FileExistsError: If it is a file of another kind.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name the file to write")
    if path.is_file() and path.stat().st_size and not _is_stream(path) and not ours(path):
        leads = f", a link to {_real(path)}," if path.is_symlink() else ""
        raise FileExistsError(f"{path}{leads} exists and is not {what}; remove it or choose another name")


def _is_stream(path: Path) -> bool:
    return path.parts[:2] == ("/", "dev") or (path.exists() and not path.is_file())


def begins_with(start: bytes) -> Callable[[Path], bool]:
    """Make a test that returns True if the content of a file begins with some bytes."""

    def test(path: Path) -> bool:
        with open(path, "rb") as file:
            return file.read(len(start)) == start

    return test


def json_with(*keys: str) -> Callable[[Path], bool]:
    """Make a test that returns True if a file is a JSON object with one of some keys."""

    def test(path: Path) -> bool:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            return False
        return isinstance(found, dict) and any(key in found for key in keys)

    return test


def npz_with(*names: str) -> Callable[[Path], bool]:
    """Make a test that returns True if a file is an .npz archive with one of some arrays."""

    def test(path: Path) -> bool:
        try:
            with zipfile.ZipFile(path) as archive:
                found = set(archive.namelist())
        except (zipfile.BadZipFile, OSError, ValueError):
            return False
        return any(f"{name}.npy" in found for name in names)

    return test


def check_json(path: Path, *keys: str) -> None:
    """Check that a JSON object, recognized by one of its keys, may be written as `path`; see `check_file`."""
    check_file(path, json_with(*keys), f"JSON with {' or '.join(keys)}")


def write_json(path: Path, content: Any, *keys: str) -> None:
    """Write JSON as `path`; only an object with one of `keys`, by default those of `content`, is replaced."""
    known = keys or tuple(content)
    with replacing_file(path, json_with(*known), f"JSON with {' or '.join(known)}") as file:
        file.write_text(strict_json.dumps(content, indent=2) + "\n", encoding="utf-8")


@contextmanager
def replacing_files(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder, whose files become those of `folder` at the end of the block; see `check_folder`.

    A manifest of the files is written too, so that a later call recognizes them.

    Raises:
        FileExistsError: If the folder holds other files than an earlier set, or the earlier set has files that this one
            does not have.
    """
    folder = _real(folder) if folder.is_symlink() else folder
    check_folder(folder)
    with staging(folder if folder.is_dir() else folder.parent) as temporary:
        new, old = temporary / "new", temporary / "old"
        new.mkdir()
        yield new
        files = {path.name: checkpoint_files.fingerprint(path) for path in sorted(new.iterdir())}
        (new / MANIFEST).write_text(strict_json.dumps({"files": files}, indent=2) + "\n", encoding="utf-8")
        if not folder.is_dir():
            os.replace(new, folder)
            return
        earlier = check_folder(folder)
        left = sorted(name for name in earlier if name not in files)
        if left:
            raise FileExistsError(
                f"{folder} holds an earlier export with {_listed(left)}, which this one does not write; remove it or "
                "choose another folder"
            )
        old.mkdir()
        _exchange(folder, new, old)


def _exchange(folder: Path, new: Path, old: Path) -> None:
    """Move all files of `new` into `folder`, and the replaced files into `old`; undo everything if one fails."""
    before = [name for name in os.listdir(folder) if not name.startswith(STAGING)]
    moved: List[Any] = []
    try:
        for name in before:
            os.replace(folder / name, old / name)
            moved.append((old / name, folder / name))
        for name in sorted(os.listdir(new), key=lambda name: name == MANIFEST):
            os.replace(new / name, folder / name)
            moved.append((folder / name, new / name))
    except BaseException:
        for where, back in reversed(moved):
            os.replace(where, back)
        raise


def check_folder(folder: Path) -> Dict[str, Any]:
    """Files that an earlier `replacing_files` wrote into a folder, by name; empty if it is empty or missing.

    Raises:
        FileExistsError: If it holds other files, or one of the files was changed since, or `folder` is a file.
    """
    if not os.path.lexists(folder):
        return {}
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; choose another folder")
    files: Dict[str, Any] = {}
    with suppress(OSError, ValueError, TypeError, RecursionError):
        files = dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"])
    there = [path for path in folder.iterdir() if not path.name.startswith(STAGING)]
    foreign = sorted(path.name for path in there if path.name != MANIFEST or not files)
    foreign = [name for name in foreign if not _unchanged(folder / name, files.get(name))]
    if foreign:
        raise FileExistsError(
            f"{folder} holds {_listed(foreign)}, which no export wrote, or which was changed since; only an "
            "earlier export is replaced: choose another folder"
        )
    return files


def _unchanged(path: Path, expected: Any) -> bool:
    return path.is_file() and not path.is_symlink() and checkpoint_files.fingerprint(path) == expected
