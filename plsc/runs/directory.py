"""Output directory of a run: checks of access and free space, lock against other runs, and safe writes."""

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
OVERWRITTEN = (LOCK, "config.yaml", "env.json")  # every start of a run writes these
FILES = (*OVERWRITTEN, "metrics.jsonl", "train.log", "report.html")
FOLDERS = ("checkpoints", "configs", "vdl", "pictures", "nonfinite", "profile")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HELD = (errno.EAGAIN, errno.EACCES)
_ELSEWHERE = "set Global.output_dir to another path"
_locked_here: Set[Path] = set()  # the kernel's lock does not exclude this process


class OutputError(PlscError, OSError):
    """Error while a run writes a file; the message gives the file, the reason and the solution."""


class CheckpointWarning(UserWarning):
    """Warning about a damaged or missing checkpoint that names its replacement."""


@contextlib.contextmanager
def warnings_to(say: Callable[[str], None]) -> Iterator[None]:
    """Pass the text of every CheckpointWarning in this context to `say`; other warnings are not changed."""
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
    """Convert an OSError in this context into an OutputError about `path`."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(_explained(path, error)) from error


def _explained(path: Path, error: OSError) -> str:
    free = _size(free_space(path))
    advice = f"free some space, or {_ELSEWHERE}" if error.errno in _FULL else f"make it writable, or {_ELSEWHERE}"
    return (
        f"{path} cannot be written: {error.strerror or error} ({free} free); {advice}. Earlier checkpoints are "
        "intact, and the same command resumes from them"
    )


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; if the block succeeds, the file written there replaces `path`.

    A reader finds either the old file or the complete new one, also if the disk is full. Links are followed. Devices
    and pipes are written directly.
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
    """Write a text file as UTF-8, completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=errors)


class Place:
    """Directory that can be renamed or moved while a run writes into it.

    Args:
        path: The directory; it must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._now = path
        self._handle: Optional[int] = None
        with contextlib.suppress(OSError):  # directories cannot be opened on this system
            self._handle = os.open(path, os.O_RDONLY)

    def now(self) -> Path:
        """Return the current path of the directory.

        Raises:
            OutputError: If it was removed or moved to another file system.
        """
        if self._handle is not None and not self._is_at(self._now):
            found = _path_of(self._handle)
            if found is None or not (self._is_at(found) or found == Path(os.path.realpath(self._now))):
                raise OutputError(
                    f"{self._now} was removed, or moved to another file system, while the run was writing into it. "
                    "Steps after its last checkpoint are lost. If it was moved, set Global.output_dir to its new "
                    "path; the same command then resumes from the last checkpoint"
                )
            self._now = found
        return self._now

    def _is_at(self, path: Path) -> bool:
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._handle if self._handle is not None else -1))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def locate(self, path: Path) -> Path:
        """Return the current path of a file that has, or would have, the path `path` in the original directory.

        Raises:
            OutputError: As `now`.
        """
        now = self.now()
        inside = now != self.path and (path == self.path or self.path in path.parents)
        return now / path.relative_to(self.path) if inside else path

    def anchor(self) -> Path:
        """Return a path that stays valid in this process if the directory moves; without procfs its current path."""
        anchor = Path(f"/proc/self/fd/{self._handle}")
        return anchor if self._handle is not None and anchor.is_dir() else self._now

    def close(self) -> None:
        """Close the directory."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _path_of(handle: int) -> Optional[Path]:
    """Return the current path of an open directory; None if it was removed or the path is unknown."""
    with contextlib.suppress(OSError):
        path = os.readlink(f"/proc/self/fd/{handle}")
        return None if path.endswith(" (deleted)") and not os.path.exists(path) else Path(path)
    with contextlib.suppress(OSError, ImportError, AttributeError):
        import fcntl

        found = fcntl.fcntl(handle, fcntl.F_GETPATH, bytes(1024))  # type: ignore[attr-defined,unused-ignore] # macOS
        return Path(os.fsdecode(found.rstrip(b"\0")))
    return None


def free_space(path: Path) -> int:
    """Return the bytes that this user may still write on the file system of `path`, which need not exist."""
    return shutil.disk_usage(_existing(path)).free


def _existing(path: Path) -> Path:
    """Return the path if it exists, else the nearest parent folder that does."""
    return next(place for place in (path, *path.resolve().parents) if place.exists())


def _size(count: int) -> str:
    unit = next((name for name, least in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)) if count >= least), "bytes")
    return f"{count / {'GiB': 2**30, 'MiB': 2**20, 'KiB': 2**10, 'bytes': 1}[unit]:.3g} {unit}"


def check_writable(directory: Path) -> None:
    """Raise OutputError unless `directory` is, or can be created as, a writable folder."""
    place = _existing(directory)
    if not place.is_dir():
        raise OutputError(f"{directory} cannot be an output directory: {place} is a file; {_ELSEWHERE}")
    if not os.access(place, os.W_OK | os.X_OK):
        read_only = os.statvfs(place).f_flag & os.ST_RDONLY
        why = "its file system is read-only" if read_only else "this user may not write there"
        raise OutputError(f"{place} cannot be written to: {why}; make it writable, or {_ELSEWHERE}")


def check_contents(directory: Path) -> None:
    """Check that a run can write into an existing directory without replacing files that no run has written.

    Raises:
        OutputError: With all obstacles: a file where the run needs a folder, a folder where it needs a file, links
            whose targets would be overwritten, and a config.yaml that no run has written.
    """
    problems = [text for name in (*FILES, *FOLDERS) for text in _obstacles(directory / name)]
    pointers = [directory / "checkpoints" / name for name in ("latest", "best")]
    problems += [f"{path} is a folder" for path in pointers if path.is_dir() and not path.is_symlink()]
    problems += [f"{path} was not written by a run of plsc and would be overwritten" for path in _foreign(directory)]
    if problems:
        raise OutputError(f"{'; '.join(problems)}: remove or rename it, or {_ELSEWHERE}")


def _foreign(directory: Path) -> List[Path]:
    """Return the files of a directory that no run has written and that the start of a run would change."""
    lock, config, metrics = (directory / name for name in (LOCK, "config.yaml", "metrics.jsonl"))
    signed = _is_signed(lock)
    if lock.is_file() and not signed:
        return [lock]
    if signed or (config.is_file() and metrics.is_file()):
        return []
    return [path for path in (config, directory / "env.json", metrics) if path.is_file()]


def _is_signed(lock: Path) -> bool:
    """Return True if a run has signed a lock file, or was killed before it could."""
    try:
        text = lock.read_text(encoding="utf-8")
        return not text or "pid" in json.loads(text)
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def _obstacles(path: Path) -> Iterator[str]:
    """Yield the reasons why a run cannot write a file or folder of its output directory."""
    if not os.path.lexists(path):
        return
    if not path.exists():
        yield f"{path} is a broken link"
    elif path.name in FOLDERS and not path.is_dir():
        yield f"{path} is a file, but the run needs a folder of this name"
    elif path.name in FILES and path.is_dir():
        yield f"{path} is a folder, but the run needs a file of this name"
    elif path.name in OVERWRITTEN and path.is_symlink():
        yield f"{path} is a link to {os.path.realpath(path)}, which would be overwritten"
    elif not os.access(path, os.W_OK):
        yield f"{path} cannot be written to by this user"


def check_room(directory: Path, size: int, count: int) -> Optional[str]:
    """Compare the free space with the size of the checkpoints.

    Args:
        directory: Output directory of the run; it need not exist.
        size: Size of a checkpoint, bytes.
        count: Maximal number of additional checkpoints that exist at once.

    Returns:
        A warning if one checkpoint fits but not all, else None.

    Raises:
        OutputError: If one checkpoint does not fit.
    """
    free = free_space(directory)
    if free < size:
        raise OutputError(
            f"{directory}: a checkpoint needs {_size(size)}, but only {_size(free)} are free; the run could not save; "
            f"free some space, or {_ELSEWHERE}"
        )
    if free < size * count:
        return (
            f"{directory}: the run needs space for {count} more checkpoints of {_size(size)} (the last "
            f"Global.keep_last, the best, one being written), but only {_size(free)} are free; free some space, or the "
            "run stops when the disk is full"
        )
    return None


class RunLock:
    """Lock of an output directory against other runs, held until `release` or the end of this process.

    The kernel holds the lock, so it ends with a killed run. It belongs to the process and not to the open file
    (`lockf`, not `flock`), so loader workers of a killed run do not hold it either. It has no effect on file systems
    without locks, such as some network file systems.

    Args:
        directory: The run's output directory.
    """

    def __init__(self, directory: Path) -> None:
        self.path = Path(directory) / LOCK
        self._file: Optional[IO[str]] = None
        self._made: List[Path] = []  # directories that `acquire` has created, innermost first

    def acquire(self) -> None:
        """Take the lock, and create the directory if it is missing; do nothing if the lock is already held.

        Raises:
            OutputError: If another run holds the lock, with its process and host, or the directory is not writable.
        """
        if self._file is not None:
            return
        if self.path.resolve() in _locked_here:
            raise OutputError(self._in_use("this process"))
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
            f"{self.path.parent} is in use by another run ({owner}), and two runs would overwrite each other's "
            f"files; wait for it, stop it, or {_ELSEWHERE}"
        )

    def discard(self) -> None:
        """Remove the directory with the files of a run if `acquire` has created it; for a run that took no step."""
        for path in self._made[:1]:
            for name in FOLDERS:
                shutil.rmtree(path / name, ignore_errors=True)
            for name in FILES:
                with contextlib.suppress(OSError):
                    (path / name).unlink()
        for path in self._made:
            with contextlib.suppress(OSError):  # it contains files that are not of this run
                path.rmdir()

    def release(self) -> None:
        """Release the lock."""
        if self._file is not None:
            _locked_here.discard(self.path.resolve())
            self._file.close()
            self._file = None


def _open_no_link(path: str, flags: int) -> int:
    """Open a file without following links."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _locked(file: IO[str]) -> bool:
    """Lock an open file; return False if another process holds the lock, True on systems without locks."""
    try:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        return True
    except OSError as error:
        return error.errno not in _HELD
    return True


def _sign(file: IO[str]) -> None:
    """Write the process, host and time of a lock into its file."""
    since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
    file.truncate(0)
    file.write(strict_json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}) + "\n")
    file.flush()


def _owner(file: IO[str]) -> str:
    """Return a description of the process that holds a lock."""
    file.seek(0)
    try:
        owner = json.loads(file.read())
        return f"process {owner['pid']} on {owner['host']} since {owner['since']}"
    except (ValueError, KeyError, TypeError):
        return "process unknown"
