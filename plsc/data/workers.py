"""Worker processes under watch: one that dies or hangs ends the reading with a message that names the image.

Paddle would raise an error at whatever line the training happens to be, wait without end for a worker that hangs, and
take the end of its own queue for that of the epoch in some cases.
"""

import contextlib
import gc
import mmap
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import paddle

SHARED_MEMORY = Path("/dev/shm")
_INTERVAL = 0.5  # seconds between two looks
_LOOKS = 20  # after Paddle has failed for a reason that is not known yet
_IDLE = -1
_ADVICE = {
    signal.SIGKILL: "often by the system, when memory is short: fewer num_workers or a smaller prefetch need less",
    signal.SIGBUS: "usually because /dev/shm is full: give the container more (--shm-size), or num_workers: 0",
    signal.SIGSEGV: "the decoder crashed: look at the file, or set the dataset's decoder to the other one",
}


class Whereabouts:
    """Which sample each worker is at and since when, in memory that they share with the process that forks them.

    Args:
        workers: How many.
    """

    def __init__(self, workers: int) -> None:
        memory = mmap.mmap(-1, workers * 16)
        self._table = np.frombuffer(memory, dtype=np.int64).reshape(workers, 2)
        self._table[:, 0] = _IDLE

    def enter(self, index: int) -> None:
        """Called by a worker before it reads a sample."""
        self._table[paddle.io.get_worker_info().id] = index, time.monotonic_ns()

    def leave(self) -> None:
        """Called by a worker that has made a batch, or failed to."""
        self._table[paddle.io.get_worker_info().id, 0] = _IDLE

    def index(self, worker: int) -> Optional[int]:
        """The sample that a worker is at, None if it waits for work."""
        index = int(self._table[worker, 0])
        return None if index == _IDLE else index

    def seconds(self, worker: int) -> float:
        """For how long a worker has been at its sample; 0 if it waits for work."""
        index, since = self._table[worker]
        return 0.0 if index == _IDLE else (time.monotonic_ns() - int(since)) / 1e9


class Watch:
    """Ends the reading when a worker has died or is too long at one sample, or none is at one and no batch comes.

    Args:
        reader: Iterator of `paddle.io.DataLoader` with workers.
        whereabouts: Of the workers.
        timeout: Seconds for one sample, and for a batch that no worker reads.
        name: Name of a sample, by index.
    """

    def __init__(self, reader: Any, whereabouts: Whereabouts, timeout: float, name: Callable[[int], str]) -> None:
        self.failure: Optional[str] = None
        self._reader = reader
        self._whereabouts = whereabouts
        self._timeout = timeout
        self._name = name
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._waits_since: Optional[float] = None
        self._pids: List[int] = [worker.pid for worker in reader._workers]
        self._thread = threading.Thread(target=self._run, name="worker watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(_INTERVAL):
            if self.look() is not None:
                return

    def next(self) -> Any:
        """The reader's next batch, None after the last."""
        self._waits_since = time.monotonic()
        try:
            return next(self._reader, None)
        finally:
            self._waits_since = None

    def look(self) -> Optional[str]:
        """What is wrong with a worker, if anything; then all of them are ended, and whoever waits for a batch wakes."""
        problems = [self._problem(number) for number in range(len(self._pids))] + [self._stalled()]
        return self._fail(next((problem for problem in problems if problem is not None), None))

    def give_up(self, reason: str) -> None:
        """Ends the workers for what is wrong with one of them, or else for `reason`."""
        for _ in range(_LOOKS):  # a worker that is about to end takes its batches from shared memory first
            if self.look() is not None:
                return
            time.sleep(_INTERVAL / 5)
        self._fail(reason)

    def _fail(self, problem: Optional[str]) -> Optional[str]:
        with self._lock:
            if self.failure is None and problem is not None and not self._ended.is_set():
                self.failure = problem
                self._kill()
            return self.failure

    def _problem(self, number: int) -> Optional[str]:
        who = f"loader worker {number + 1} of {len(self._pids)}"
        index = self._whereabouts.index(number)
        doing = "waiting for work" if index is None else f"reading {self._name(index)}"
        code = self._reader._workers[number].exitcode
        if code or (code == 0 and index is not None):
            ended, advice = _how_it_ended(code)
            return f"{who} {ended} while {doing}{advice}"
        if self._whereabouts.seconds(number) > self._timeout:
            return (
                f"{who} has been {doing} for more than {self._timeout:g} seconds; if its disk or network is that slow, "
                "raise the loader's timeout"
            )
        return None

    def _stalled(self) -> Optional[str]:
        since = self._waits_since
        if since is None or time.monotonic() - since <= self._timeout:
            return None
        if any(self._whereabouts.index(number) is not None for number in range(len(self._pids))):
            return None
        return (
            f"no batch has come for {self._timeout:g} seconds, although no loader worker is reading a file; the same "
            "command goes on from the last checkpoint, with num_workers: 0 without workers"
        )

    def _kill(self) -> None:
        for worker in self._reader._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
        self._reader._exit_thread_unexpectedly()

    def end(self) -> None:
        """Stops watching."""
        self._ended.set()
        self._thread.join()

    def clear_up(self) -> None:
        """Removes what workers that were killed have left in shared memory."""
        for pid in self._pids if self.failure is not None else ():
            for segment in SHARED_MEMORY.glob(f"paddle_{pid}_*"):
                segment.unlink(missing_ok=True)


def _how_it_ended(code: int) -> Tuple[str, str]:
    """An exit code in words, and what to do about it."""
    if code >= 0:
        return f"ended with code {code}", ""
    name = signal.Signals(-code)
    return f"was ended by {name.name}", f"; {_ADVICE[name]}" if name in _ADVICE else ""


@contextlib.contextmanager
def safe_fork(signals: Sequence[int]) -> Iterator[None]:
    """Inside, Paddle may fork workers.

    Garbage of this process is kept from them: they would wait without end for threads that only this process has, if
    they destroyed a queue of Paddle's. And this process's handler of SIGCHLD is afterwards what it was: Paddle's raises
    SystemError for a dead worker at whatever line the main thread is, be it that of saving. A new worker starts with
    `signals` blocked, so that one which arrives before it has chosen to ignore them does not end it.

    Args:
        signals: Signals that the workers will ignore and then unblock.
    """
    before = signal.getsignal(signal.SIGCHLD)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGCHLD, before)
