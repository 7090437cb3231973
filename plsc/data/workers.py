"""Monitoring of loader workers: if one dies or hangs, reading stops with a message that names the image.

Paddle alone would raise an error at an arbitrary line of the main thread, wait forever for a worker that hangs, and in
some cases end the epoch early.
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
_INTERVAL = 0.5  # seconds between two checks
_LOOKS = 20  # checks for a cause after Paddle has reported a failure
_IDLE = -1
_ADVICE = {
    signal.SIGKILL: "often by the system when memory is low: use fewer num_workers or a smaller prefetch",
    signal.SIGBUS: "usually because /dev/shm is full: give the container more (--shm-size), or set num_workers: 0",
    signal.SIGSEGV: "the decoder crashed: check the file, or set the dataset's decoder to the other one",
}


class Whereabouts:
    """Table of the sample each worker is reading and since when, in memory shared with the workers.

    Args:
        workers: Number of workers.
    """

    def __init__(self, workers: int) -> None:
        memory = mmap.mmap(-1, workers * 16)
        self._table = np.frombuffer(memory, dtype=np.int64).reshape(workers, 2)
        self._table[:, 0] = _IDLE

    def enter(self, index: int) -> None:
        """Record that this worker starts to read a sample."""
        self._table[paddle.io.get_worker_info().id] = index, time.monotonic_ns()

    def leave(self) -> None:
        """Record that this worker has finished a batch, or failed."""
        self._table[paddle.io.get_worker_info().id, 0] = _IDLE

    def index(self, worker: int) -> Optional[int]:
        """Index of the sample that a worker is reading; None if it is idle."""
        index = int(self._table[worker, 0])
        return None if index == _IDLE else index

    def seconds(self, worker: int) -> float:
        """Seconds since a worker started to read its sample; 0 if it is idle."""
        index, since = self._table[worker]
        return 0.0 if index == _IDLE else (time.monotonic_ns() - int(since)) / 1e9


class Watch:
    """Thread that stops the reading if a worker dies, exceeds the timeout, or if all are idle and no batch arrives.

    Args:
        reader: Iterator of `paddle.io.DataLoader` with workers.
        whereabouts: Samples that the workers are reading.
        timeout: Seconds allowed for one sample, and for a batch while all workers are idle.
        name: Returns the name of a sample by its index.
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
        """Return the reader's next batch; None after the last."""
        self._waits_since = time.monotonic()
        try:
            return next(self._reader, None)
        finally:
            self._waits_since = None

    def look(self) -> Optional[str]:
        """Check the workers. After a problem, end all workers, wake the waiting main thread and return the message."""
        problems = [self._problem(number) for number in range(len(self._pids))] + [self._stalled()]
        return self._fail(next((problem for problem in problems if problem is not None), None))

    def give_up(self, reason: str) -> None:
        """End the workers, with the problem of one of them as the reason, or else `reason`."""
        for _ in range(_LOOKS):  # a worker that is ending removes its batches from shared memory first
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
                f"{who} has been {doing} for more than {self._timeout:g} seconds; if the disk or network is slow, "
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
            f"no batch arrived for {self._timeout:g} seconds, although no loader worker is reading a file; repeat the "
            "command to continue from the last checkpoint, or set num_workers: 0 to read without workers"
        )

    def _kill(self) -> None:
        for worker in self._reader._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
        self._reader._exit_thread_unexpectedly()

    def end(self) -> None:
        """Stop watching."""
        self._ended.set()
        self._thread.join()

    def clear_up(self) -> None:
        """Remove the shared memory of the workers, once they have ended: of batches that nobody has taken."""
        for pid in self._pids:
            for segment in SHARED_MEMORY.glob(f"paddle_{pid}_*"):
                segment.unlink(missing_ok=True)


def _how_it_ended(code: int) -> Tuple[str, str]:
    """Describe an exit code, and give advice."""
    if code >= 0:
        return f"ended with code {code}", ""
    name = signal.Signals(-code)
    return f"was ended by {name.name}", f"; {_ADVICE[name]}" if name in _ADVICE else ""


@contextlib.contextmanager
def safe_fork(signals: Sequence[int]) -> Iterator[None]:
    """Context in which Paddle can safely fork workers.

    The garbage of this process is frozen: a worker that collected one of Paddle's queues would wait forever for threads
    that exist only in this process. Afterwards this process's SIGCHLD handler is restored: Paddle's raises SystemError
    for a dead worker at an arbitrary line of the main thread, for example while a checkpoint is written. New workers
    start with `signals` blocked, so that a signal does not end a worker that does not ignore it yet.

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
