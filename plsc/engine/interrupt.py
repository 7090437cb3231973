"""Requests to stop: Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP make a run save and end after the current step."""

import signal

from plsc import distributed
from plsc.signals import SignalRecorder


class Interrupted(Exception):  # noqa: N818 - a requested stop is not an error
    """Raised when the run was asked to stop; its last checkpoint can be resumed."""

    def __init__(self, step: int, signal_number: int) -> None:
        self.step = step
        self.signal_number = signal_number
        super().__init__(f"stopped by {signal.Signals(signal_number).name} after step {step}")


class StopRequest(SignalRecorder):
    """Records a signal until the run asks for it; a second Ctrl-C ends the process at once. Re-entrant."""

    def __init__(self) -> None:
        super().__init__("stopping after this step; press Ctrl-C again to stop without saving")

    def pending(self) -> bool:
        """Return whether any process of the job was asked to stop; every process must call it at the same step."""
        return distributed.any_process(self.signal_number is not None)
