"""The watchdog kills a process that hangs, and no other."""

import signal
import subprocess
import sys

import pytest

from plsc.distributed import watchdog

START = """
import os, subprocess, sys, time
subprocess.Popen([sys.executable, sys.argv[1], sys.argv[2] or str(os.getpid()), "0.2", "waited too long"])
time.sleep(60)
"""


def waiting(parent=""):
    command = [sys.executable, "-c", START, watchdog.__file__, parent]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("somebody_reads", [True, False])
def test_it_kills_its_parent_with_a_message_even_if_stderr_is_closed(somebody_reads):
    process = waiting()
    if somebody_reads:
        assert process.stderr.read() == "waited too long\n"
    process.stderr.close()
    assert process.wait(timeout=30) == -signal.SIGKILL


def test_it_kills_no_other_process():
    process = waiting(parent="1")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    process.kill()
    process.communicate()
