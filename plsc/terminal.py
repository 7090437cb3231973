"""Standard output and error that may fail: a closed terminal, a pipe whose reader has ended, a full disk."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from typing import Any, Callable, Iterable, Iterator

from plsc.errors import PlscError

_DROPPED = (OSError, ValueError, RuntimeError)  # cannot be written; is closed; was interrupted in the middle of a write


class SafeStream:
    """A text stream whose failed writes are dropped.

    Args:
        stream: The stream to write to; None, as in a process started without it, drops everything.
    """

    def __init__(self, stream: Any) -> None:
        self._stream: Any = stream._stream if isinstance(stream, SafeStream) else stream

    def write(self, text: str) -> int:
        """Write text; characters that the stream cannot encode are escaped."""
        try:
            self._stream.write(text)
        except UnicodeEncodeError as error:
            self.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
        except (*_DROPPED, AttributeError):
            pass
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hand on what is buffered."""
        with contextlib.suppress(*_DROPPED, AttributeError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Return True for a terminal."""
        try:
            return bool(self._stream.isatty())
        except (*_DROPPED, AttributeError):
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __eq__(self, other: object) -> bool:
        return self._stream == getattr(other, "_stream", other)

    def __hash__(self) -> int:
        return hash(self._stream)


def stderr() -> SafeStream:
    """Return the present standard error, for writes that must not fail."""
    return SafeStream(sys.stderr)


class ResultsLost(PlscError):  # noqa: N818 - a reader may have seen enough
    """Standard output of a verb that prints results cannot be written.

    Args:
        error: Of the write.
    """

    def __init__(self, error: OSError) -> None:
        self.reader_ended = isinstance(error, BrokenPipeError)
        super().__init__(f"standard output cannot be written: {error.strerror or error}")


class ResultStream(SafeStream):
    """A text stream whose failed writes raise ResultsLost, which is told from other errors of the system."""

    def write(self, text: str) -> int:
        """Write text."""
        try:
            self._stream.write(text)
        except OSError as error:
            raise ResultsLost(error) from error
        return len(text)

    def flush(self) -> None:
        """Hand on what is buffered."""
        try:
            self._stream.flush()
        except OSError as error:
            raise ResultsLost(error) from error


@contextlib.contextmanager
def safe(name: str, kind: Callable[[Any], SafeStream] = SafeStream) -> Iterator[None]:
    """Replace a stream of `sys` inside the block, so that no `print` in it fails.

    Args:
        name: `stdout` or `stderr`.
        kind: SafeStream or ResultStream.
    """
    before = getattr(sys, name)
    setattr(sys, name, kind(before))
    try:
        yield
    finally:
        setattr(sys, name, before)


def open_missing() -> None:
    """Open /dev/null as standard input, output or error where the process was started without it.

    The next file that is opened would get the free number otherwise, and be written to as if it were the terminal.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for the whole process


def settle() -> None:
    """Flush standard output and error for the last time.

    A stream that cannot be written goes to /dev/null: Python would fail to flush it at exit and end with code 120.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except _DROPPED:
            with contextlib.suppress(*_DROPPED):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)


def tell_from_handler(text: str) -> None:
    """Write to standard error from a signal handler: unbuffered, never raises, and does not wait for a slow reader."""
    with contextlib.suppress(OSError, ValueError):
        if select.select([], [2], [], 0)[1]:
            os.write(2, text.encode())
