"""Signals that ask a process to stop: Ctrl-C, SIGTERM, SIGUSR1, and SIGHUP when its terminal is closed."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any, Dict, Iterator, Optional, TypeVar

from plsc import terminal

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name))

_Recorder = TypeVar("_Recorder", bound="SignalRecorder")


class SignalRecorder:
    """Remembers the first signal; a second Ctrl-C raises KeyboardInterrupt. May be entered repeatedly.

    SIGHUP stays ignored where it was ignored before, as under `nohup`.

    Args:
        notice: Line to print when the first signal comes.
    """

    def __init__(self, notice: str) -> None:
        self.notice = notice
        self.signal_number: Optional[int] = None
        self._previous: Dict[int, Any] = {}
        self._depth = 0

    def __enter__(self: _Recorder) -> _Recorder:
        self._depth += 1
        if self._depth > 1 or threading.current_thread() is not threading.main_thread():
            return self  # in another thread, the host program handles signals
        for number in SIGNALS:
            if number == getattr(signal, "SIGHUP", None) and signal.getsignal(number) == signal.SIG_IGN:
                continue
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        self._depth -= 1
        if self._depth:
            return
        for number, previous in self._previous.items():
            signal.signal(number, signal.SIG_DFL if previous is None else previous)
        self._previous.clear()

    def _handle(self, number: int, frame: Optional[FrameType]) -> None:
        if self.signal_number is not None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.signal_number = number
        terminal.tell_from_handler(f"\n{self.notice}\n")


@contextlib.contextmanager
def exit_during_imports() -> Iterator[None]:
    """Let Ctrl-C end the process at once, with code 130, while it imports a module; elsewhere it stays what it is.

    An extension module turns a KeyboardInterrupt of its import into another error or drops it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.getsignal(signal.SIGINT)
    if previous is not signal.default_int_handler:  # ignored, or handled by the host program
        yield
        return

    def handle(number: int, frame: Optional[FrameType]) -> None:
        if _is_importing(frame):
            terminal.tell_from_handler("\nstopped\n")
            os._exit(128 + number)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _is_importing(frame: Optional[FrameType]) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
