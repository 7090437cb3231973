"""Streams that fail, and signal handlers in the middle of a write."""

import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from plsc import terminal
from plsc.signals import SignalRecorder
from plsc.terminal import ResultsLost, ResultStream, SafeStream

ROOT = Path(__file__).parent.parent


class Broken(io.StringIO):
    encoding = "ascii"

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error

    flush = isatty = lambda self: self.write("")


FAILURES = [OSError(number, os.strerror(number)) for number in (errno.EPIPE, errno.EIO, errno.ENOSPC, errno.EAGAIN)]
FAILURES += [ValueError("I/O operation on closed file"), RuntimeError("reentrant call inside <_io.BufferedWriter>")]


@pytest.mark.parametrize("error", FAILURES, ids=str)
def test_a_failed_write_is_dropped(error):
    stream = SafeStream(Broken(error))
    print("text", file=stream, flush=True)
    stream.writelines(["a", "b"])
    assert stream.isatty() is False
    assert stream.encoding == "ascii"


def test_a_missing_stream_and_one_that_works():
    print("text", file=SafeStream(None), flush=True)
    inner = io.StringIO()
    print("text", file=SafeStream(SafeStream(inner)), flush=True)
    assert inner.getvalue() == "text\n" and SafeStream(inner) == SafeStream(inner) and SafeStream(inner) == inner


def test_characters_that_cannot_be_encoded_are_escaped():
    inner = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    SafeStream(inner).write("caf\xe9 \udc80")
    inner.flush()
    assert inner.buffer.getvalue() == b"caf\\xe9 \\udc80"


@pytest.mark.parametrize(("number", "ended"), [(errno.EPIPE, True), (errno.ENOSPC, False)])
def test_results_that_are_lost_are_told_from_other_errors(number, ended):
    stream = ResultStream(Broken(OSError(number, os.strerror(number))))
    for write in (lambda: stream.write("x"), stream.flush):
        with pytest.raises(ResultsLost, match=f"standard output cannot be written: {os.strerror(number)}") as lost:
            write()
        assert lost.value.reader_ended is ended


def test_streams_come_back(capsys):
    before = sys.stderr
    with pytest.raises(KeyError), terminal.safe("stderr"):
        assert isinstance(sys.stderr, SafeStream)
        raise KeyError
    assert sys.stderr is before


REENTRANT = """
import io, os, signal, sys
from plsc.signals import SignalRecorder
class Raw(io.RawIOBase):
    def writable(self):
        return True
    def write(self, data):  # a signal comes in the middle of a buffered write
        os.kill(os.getpid(), signal.SIGTERM)
        return len(data)
sys.stderr = io.TextIOWrapper(io.BufferedWriter(Raw()), line_buffering=True)
with SignalRecorder("stopping") as asked:
    for _ in range(3):
        print("text", file=sys.stderr, flush=True)
sys.exit(asked.signal_number)
"""


def test_a_signal_in_the_middle_of_a_write_to_standard_error():
    done = subprocess.run([sys.executable, "-c", REENTRANT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (signal.SIGTERM, "\nstopping\n")


def test_a_handler_does_not_wait_for_a_reader_that_is_slow():
    code = "from plsc import terminal; terminal.tell_from_handler('x'); print('done')"
    read, write = os.pipe()
    os.set_blocking(write, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(write, bytes(4096))
    os.set_blocking(write, True)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=write, timeout=60)
    assert done.stdout == b"done\n"
    os.close(read)
    os.close(write)


def test_handlers_come_back_and_what_was_ignored_stays_ignored():
    names = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP]
    before = [signal.getsignal(name) for name in names]
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with SignalRecorder("") as asked, asked:
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) == asked._handle
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before[-1])
    assert [signal.getsignal(name) for name in names] == before
