"""A run's output directory: whether it can be written to, whether another run has it, how much room there is."""

import contextlib
import datetime
import errno
import json
import os
import shutil
import socket
from pathlib import Path
from typing import IO, Iterator, List, Optional, Set

from plsc import strict_json

LOCK = ".lock"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HELD = (errno.EAGAIN, errno.EACCES)
_ELSEWHERE = "set Global.output_dir to another place"
_locked_here: Set[Path] = set()  # the kernel keeps other processes out, not this one


class OutputError(OSError):
    """Something of a run could not be written; the message says what, why, and what to do."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Inside, an OSError becomes an OutputError about `path`."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(_explained(path, error)) from error


def _explained(path: Path, error: OSError) -> str:
    free = _size(free_space(path))
    advice = f"make room there, or {_ELSEWHERE}" if error.errno in _FULL else f"make it writable, or {_ELSEWHERE}"
    return (
        f"{path} cannot be written: {error.strerror or error} ({free} are free); {advice}. What was saved before is "
        "whole, and the same command goes on from there"
    )


def free_space(path: Path) -> int:
    """Bytes that this user may still write where `path` is or would be."""
    return shutil.disk_usage(_existing(path)).free


def _existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    return next(place for place in (path, *path.resolve().parents) if place.exists())


def _size(count: int) -> str:
    unit = next((name for name, least in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)) if count >= least), "bytes")
    return f"{count / {'GiB': 2**30, 'MiB': 2**20, 'KiB': 2**10, 'bytes': 1}[unit]:.3g} {unit}"


def check_writable(directory: Path) -> None:
    """Raises OutputError unless `directory` is, or could become, a folder that files can be written into."""
    place = _existing(directory)
    if not place.is_dir():
        raise OutputError(f"{directory} cannot be an output directory: {place} is a file; {_ELSEWHERE}")
    if not os.access(place, os.W_OK | os.X_OK):
        read_only = os.statvfs(place).f_flag & os.ST_RDONLY
        why = "its file system is read-only" if read_only else "this user may not write there"
        raise OutputError(f"{place} cannot be written to: {why}; make it writable, or {_ELSEWHERE}")


def check_room(directory: Path, size: int, count: int) -> Optional[str]:
    """Compares free space with what checkpoints take.

    Args:
        directory: The run's output directory, which need not exist.
        size: Bytes of a checkpoint.
        count: How many more of them there will be at once.

    Returns:
        A warning if one fits but not all, else None.

    Raises:
        OutputError: If not even one fits.
    """
    free = free_space(directory)
    if free < size:
        raise OutputError(
            f"{directory}: a checkpoint takes {_size(size)} and {_size(free)} are free, so nothing could be saved; "
            f"make room there, or {_ELSEWHERE}"
        )
    if free < size * count:
        return (
            f"{directory}: {count} more checkpoints of {_size(size)} will be there at once (the last Global.keep_last, "
            f"the best, one being written), but {_size(free)} are free; make room, or the run stops when there is none"
        )
    return None


class RunLock:
    """Keeps other runs out of an output directory for as long as this process lives or until `release`.

    The kernel holds it, so a killed run leaves none behind. It is of the process, not of the open file (`lockf`, not
    `flock`): loader workers, forked from a killed run, do not hold it either. On file systems without locks, such as
    some network ones, two runs are not kept apart.

    Args:
        directory: The run's output directory.
    """

    def __init__(self, directory: Path) -> None:
        self.path = Path(directory) / LOCK
        self._file: Optional[IO[str]] = None
        self._made: List[Path] = []  # directories that were not there before, innermost first

    def acquire(self) -> None:
        """Takes the lock, unless it has it; creates the directory, if need be.

        Raises:
            OutputError: If another run has it, saying which, or the directory cannot be written to.
        """
        if self._file is not None:
            return
        if self.path.resolve() in _locked_here:
            raise OutputError(self._in_use("this very process"))
        self._made = [path for path in self.path.parents if not path.exists()]
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = open(self.path, "a+", encoding="utf-8")  # noqa: SIM115 - stays open: it is the lock
            try:
                if not _locked(file):
                    raise OutputError(self._in_use(_owner(file)))
                _sign(file)
            except BaseException:
                file.close()
                raise
        self._file = file
        _locked_here.add(self.path.resolve())

    def _in_use(self, owner: str) -> str:
        return (
            f"{self.path.parent} is in use by another run ({owner}); two would overwrite each other: wait for it, stop "
            f"it, or {_ELSEWHERE}"
        )

    def discard(self) -> None:
        """Removes the directory with all that is in it, if `acquire` has made it: for a run that took no step."""
        for path in self._made[:1]:
            shutil.rmtree(path, ignore_errors=True)
        for path in self._made[1:]:
            with contextlib.suppress(OSError):  # another run has begun in it
                path.rmdir()

    def release(self) -> None:
        """Lets others have the directory."""
        if self._file is not None:
            _locked_here.discard(self.path.resolve())
            self._file.close()
            self._file = None


def _locked(file: IO[str]) -> bool:
    """Locks an open file; false if another process has locked it, true where locks do not exist."""
    try:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        return True
    except OSError as error:
        return error.errno not in _HELD
    return True


def _sign(file: IO[str]) -> None:
    """Writes who holds a lock into its file."""
    since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
    file.truncate(0)
    file.write(strict_json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}) + "\n")
    file.flush()


def _owner(file: IO[str]) -> str:
    """Who has signed a lock's file."""
    file.seek(0)
    try:
        owner = json.loads(file.read())
        return f"process {owner['pid']} on {owner['host']} since {owner['since']}"
    except (ValueError, KeyError, TypeError):
        return "which has not said who it is"
