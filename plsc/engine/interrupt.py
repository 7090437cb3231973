"""A request to stop: Ctrl-C, SIGTERM, SIGUSR1 or SIGHUP ask the run to save and end at the next whole step."""

import signal

from plsc import distributed
from plsc.signals import SignalRecorder


class Interrupted(Exception):  # noqa: N818 - the end of a run that was asked to stop is no error
    """The run was asked to stop, has saved, and can go on from there."""

    def __init__(self, step: int, signal_number: int) -> None:
        self.step = step
        self.signal_number = signal_number
        super().__init__(f"stopped by {signal.Signals(signal_number).name} after step {step}")


class StopRequest(SignalRecorder):
    """Remembers a signal until the run asks; a second Ctrl-C ends the process at once. May be entered repeatedly."""

    def __init__(self) -> None:
        super().__init__("stopping after this step; press Ctrl-C again to stop without saving")

    def pending(self) -> bool:
        """Whether any process of the job was asked to stop; every process must ask at the same step."""
        return distributed.any_process(self.signal_number is not None)
