"""A polite request to stop: Ctrl-C, SIGTERM or SIGUSR1 ask the run to save and end at the next whole step."""

import signal
import sys
from typing import Dict, Optional

from plsc import distributed

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Interrupted(Exception):  # noqa: N818 - the end of a run that was asked to stop is no error
    """The run was asked to stop, has saved, and can go on from there."""

    def __init__(self, step: int, signal_number: int) -> None:
        self.step = step
        self.signal_number = signal_number
        super().__init__(f"stopped by {signal.Signals(signal_number).name} after step {step}")


class StopRequest:
    """Remembers a signal until the run asks; a second Ctrl-C ends the process at once. May be entered repeatedly."""

    def __init__(self) -> None:
        self.signal_number: Optional[int] = None
        self._previous: Dict[int, object] = {}
        self._depth = 0

    def __enter__(self) -> "StopRequest":
        self._depth += 1
        if self._depth > 1:
            return self
        for number in SIGNALS:
            try:
                self._previous[number] = signal.signal(number, self._handle)
            except ValueError:  # not in the main thread: the host program handles signals
                return self
        return self

    def __exit__(self, *exc: object) -> None:
        self._depth -= 1
        if self._depth:
            return
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous.clear()

    def _handle(self, number: int, frame: object) -> None:
        if self.signal_number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = number
        print("\nstopping after this step; press Ctrl-C again to stop without saving", file=sys.stderr, flush=True)

    def pending(self) -> bool:
        """Whether any process of the job was asked to stop; every process must ask at the same step."""
        return distributed.any_process(self.signal_number is not None)
