"""A run's output directory: whether it can be written to, whether another run has it, how much room there is."""

import contextlib
import datetime
import errno
import json
import os
import shutil
import socket
import warnings
from pathlib import Path
from typing import IO, Any, Callable, Iterator, List, Optional, Set

from plsc import strict_json
from plsc.errors import PlscError

LOCK = ".lock"
OVERWRITTEN = (LOCK, "config.yaml", "env.json")  # by every start of a run
FILES = (*OVERWRITTEN, "metrics.jsonl", "train.log", "report.html")
FOLDERS = ("checkpoints", "configs", "vdl", "pictures", "nonfinite", "profile")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HELD = (errno.EAGAIN, errno.EACCES)
_ELSEWHERE = "set Global.output_dir to another place"
_locked_here: Set[Path] = set()  # the kernel keeps other processes out, not this one


class OutputError(PlscError, OSError):
    """Something of a run could not be written; the message says what, why, and what to do."""


class CheckpointWarning(UserWarning):
    """A checkpoint that is damaged or missing, and what is used instead."""


@contextlib.contextmanager
def warnings_to(say: Callable[[str], None]) -> Iterator[None]:
    """Inside, the text of every CheckpointWarning goes to `say`; other warnings go where they went before."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def forward(message: Any, category: Any, *more: Any, **options: Any) -> None:
            if issubclass(category, CheckpointWarning):
                say(str(message))
            else:
                show(message, category, *more, **options)

        warnings.simplefilter("always", CheckpointWarning)
        warnings.showwarning = forward
        yield


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


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block succeeds, the file written there takes the place of `path`.

    A reader finds the old file or the whole new one, also if the disk is full. Links are followed. Devices and pipes
    are written directly.
    """
    if (path.exists() and not path.is_file()) or path.parts[:2] == ("/", "dev"):
        yield path
        return
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".tmp-{os.getpid()}{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, errors: str = "strict") -> None:
    """Write a text file as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=errors)


class Place:
    """A directory that is found again if it is renamed or moved while a run writes into it.

    Args:
        path: The directory, which must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._now = path
        self._handle: Optional[int] = None
        with contextlib.suppress(OSError):  # a system on which directories cannot be opened
            self._handle = os.open(path, os.O_RDONLY)

    def now(self) -> Path:
        """Return the directory's present path.

        Raises:
            OutputError: If it was removed or moved to another file system.
        """
        if self._handle is not None and not self._is_at(self._now):
            found = _path_of(self._handle)
            if found is None or not (self._is_at(found) or found == Path(os.path.realpath(self._now))):
                raise OutputError(
                    f"{self._now} was removed, or moved to another file system, while the run was writing into it. "
                    "Steps after its last checkpoint are lost. If it was moved, set Global.output_dir to its new "
                    "place; the same command then goes on from the last checkpoint"
                )
            self._now = found
        return self._now

    def _is_at(self, path: Path) -> bool:
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._handle if self._handle is not None else -1))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def locate(self, path: Path) -> Path:
        """Return the present path of a file that was, or would have been, at `path` in the directory.

        Raises:
            OutputError: As `now`.
        """
        now = self.now()
        inside = now != self.path and (path == self.path or self.path in path.parents)
        return now / path.relative_to(self.path) if inside else path

    def anchor(self) -> Path:
        """Return a path for this process that leads to the directory wherever it is; its present path off Linux."""
        anchor = Path(f"/proc/self/fd/{self._handle}")
        return anchor if self._handle is not None and anchor.is_dir() else self._now

    def close(self) -> None:
        """Let go of the directory."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _path_of(handle: int) -> Optional[Path]:
    """Return the present path of an open directory; None if it has been removed or the system cannot tell."""
    with contextlib.suppress(OSError):
        path = os.readlink(f"/proc/self/fd/{handle}")
        return None if path.endswith(" (deleted)") and not os.path.exists(path) else Path(path)
    with contextlib.suppress(OSError, ImportError, AttributeError):
        import fcntl

        found = fcntl.fcntl(handle, fcntl.F_GETPATH, bytes(1024))  # type: ignore[attr-defined,unused-ignore] # macOS
        return Path(os.fsdecode(found.rstrip(b"\0")))
    return None


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


def check_contents(directory: Path) -> None:
    """Makes sure that a run can write into a directory that exists, over nothing but what a run has written.

    Raises:
        OutputError: With everything that is in the way: a file where the run needs a folder or a folder where it needs
            a file, links whose targets would be overwritten, and a config.yaml that no run has written.
    """
    problems = [text for name in (*FILES, *FOLDERS) for text in _obstacles(directory / name)]
    pointers = [directory / "checkpoints" / name for name in ("latest", "best")]
    problems += [f"{path} is a folder" for path in pointers if path.is_dir() and not path.is_symlink()]
    problems += [f"no run of plsc has written {path}, which would be overwritten" for path in _foreign(directory)]
    if problems:
        raise OutputError(f"{'; '.join(problems)}: remove or rename it, or {_ELSEWHERE}")


def _foreign(directory: Path) -> List[Path]:
    """Files of a directory that the start of a run would change and that no run has written."""
    lock, config, metrics = (directory / name for name in (LOCK, "config.yaml", "metrics.jsonl"))
    signed = _is_signed(lock)
    if lock.is_file() and not signed:
        return [lock]
    if signed or (config.is_file() and metrics.is_file()):
        return []
    return [path for path in (config, directory / "env.json", metrics) if path.is_file()]


def _is_signed(lock: Path) -> bool:
    """Whether a run has signed a lock's file, or was killed before it could."""
    try:
        text = lock.read_text(encoding="utf-8")
        return not text or "pid" in json.loads(text)
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def _obstacles(path: Path) -> Iterator[str]:
    """Reasons for which a run could not write a file or folder of its output directory."""
    if not os.path.lexists(path):
        return
    if not path.exists():
        yield f"{path} is a link to nothing"
    elif path.name in FOLDERS and not path.is_dir():
        yield f"{path} is a file, but the run needs a folder of this name"
    elif path.name in FILES and path.is_dir():
        yield f"{path} is a folder, but the run needs a file of this name"
    elif path.name in OVERWRITTEN and path.is_symlink():
        yield f"{path} is a link to {os.path.realpath(path)}, which would be overwritten"
    elif not os.access(path, os.W_OK):
        yield f"{path} cannot be written to by this user"


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
            file = open(self.path, "a+", encoding="utf-8", opener=_open_no_link)  # noqa: SIM115 - it is the lock
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
        """Removes what a run writes and the directory, if `acquire` has made it: for a run that took no step."""
        for path in self._made[:1]:
            for name in FOLDERS:
                shutil.rmtree(path / name, ignore_errors=True)
            for name in FILES:
                with contextlib.suppress(OSError):
                    (path / name).unlink()
        for path in self._made:
            with contextlib.suppress(OSError):  # it holds what is not of this run
                path.rmdir()

    def release(self) -> None:
        """Lets others have the directory."""
        if self._file is not None:
            _locked_here.discard(self.path.resolve())
            self._file.close()
            self._file = None


def _open_no_link(path: str, flags: int) -> int:
    """Opens a file, not one that a link of this name leads to."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


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
