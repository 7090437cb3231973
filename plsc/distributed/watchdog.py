"""Ends another process that waits without end inside a library: `watchdog.py PID SECONDS MESSAGE`, run as a script.

A thread could not do it: the library may hold the interpreter's lock while it waits.
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
    """Ends this process with a message unless the block is left in time; for calls that wait for others without end."""
    command = [sys.executable, "-S", "-E", os.path.abspath(__file__), str(os.getpid()), str(seconds), message]
    watcher = subprocess.Popen(command)
    try:
        yield
    finally:
        watcher.kill()
        watcher.wait()


def watch(parent: int, seconds: float, message: str) -> None:
    """Waits; then prints `message` and kills `parent`, unless it has ended before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.getppid() != parent:
            return
        time.sleep(0.1)
    try:
        print(message, file=sys.stderr, flush=True)
    finally:  # nobody may be there to read it
        os.kill(parent, signal.SIGKILL)


if __name__ == "__main__":
    watch(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3])
