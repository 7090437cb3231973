"""Watchdog that kills another process which hangs inside a library: `watchdog.py PID SECONDS MESSAGE`, run as a script.

A thread is not sufficient, because the library may hold the interpreter lock while it waits.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import Iterator


@contextmanager
def deadline(seconds: float, message: str) -> Iterator[None]:
    """Kill this process with a message if the block takes longer than `seconds`; for calls that have no timeout."""
    command = [sys.executable, "-S", "-E", os.path.abspath(__file__), str(os.getpid()), str(seconds), message]
    watcher = subprocess.Popen(command)
    try:
        yield
    finally:
        watcher.kill()
        watcher.wait()


def watch(parent: int, seconds: float, message: str) -> None:
    """Wait, then print `message` and kill `parent`, unless it has ended before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.getppid() != parent:
            return
        time.sleep(0.1)
    try:
        print(message, file=sys.stderr, flush=True)
    finally:  # standard error may be closed
        os.kill(parent, signal.SIGKILL)


if __name__ == "__main__":
    watch(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3])
