"""Workers that are killed, crash, end or hang: an error that names the image, without leftovers."""

import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from plsc.data.subset import Subset
from plsc.data.workers import Whereabouts
from plsc.signals import SIGNALS
from tests.data.test_loader import children, loader
from tests.data.toys import Images

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="worker processes need Linux in Paddle")


class Trap(Images):
    """Images, the last of which runs an action in the process that reads it."""

    def __init__(self, number, spring):
        super().__init__(number)
        self.spring = spring
        self.labels = [index % 2 for index in range(number)]

    def path(self, index):
        return f"folder/{index}.png"

    def __getitem__(self, index):
        if index == self.number - 1:
            self.spring()
        return super().__getitem__(index)


def segments(pids):
    return [path.name for pid in pids for path in Path("/dev/shm").glob(f"paddle_{pid}_*")]


def failure(reading):
    """Return the message of a loader whose workers fail; check that no processes or shared memory remain."""
    pids, others = [], children()
    threads = threading.active_count()
    handler = signal.getsignal(signal.SIGCHLD)
    with pytest.raises(ChildProcessError) as caught:
        for _ in reading:
            pids += [worker.pid for worker in multiprocessing.active_children()]
    assert set(children()) <= set(others)
    assert segments(set(pids)) == []
    assert signal.getsignal(signal.SIGCHLD) == handler
    assert not [thread for thread in threading.enumerate() if thread.name == "worker watch"]
    for _ in range(100):  # feeder threads of Paddle's queues take a moment
        if threading.active_count() <= threads:
            break
        time.sleep(0.1)
    assert threading.active_count() <= threads
    return str(caught.value)


def kill_self():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("shared", [True, False])
def test_a_killed_worker(tally, shared):
    dataset = Trap(64, kill_self)
    text = failure(loader(dataset, shuffle=False, num_workers=2, use_shared_memory=shared))
    assert text == (
        "loader worker 2 of 2 was ended by SIGKILL while reading folder/63.png; often by the system when memory is "
        "low: use fewer num_workers or a smaller prefetch"
    )
    tally.add("faults survived", 1)


def test_a_worker_that_is_killed_while_it_waits_for_work():
    reading = loader(Images(64), num_workers=2)
    batches = iter(reading)
    next(batches)
    time.sleep(0.5)  # both have filled their queues
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    assert "was ended by SIGKILL while" in failure(batches)


def test_workers_leave_signals_that_ask_to_stop_to_the_training_process():
    """A service manager sends SIGTERM to every process, but the run needs its workers until the step ends."""

    class Signalled(Images):
        def __getitem__(self, index):
            for number in SIGNALS:
                os.kill(os.getpid(), number)
            return super().__getitem__(index)

    expected = [batch["index"].tolist() for batch in loader(Images(64), num_workers=2)]
    assert [batch["index"].tolist() for batch in loader(Signalled(64), num_workers=2)] == expected


@pytest.mark.parametrize(
    "number, advice",
    [(signal.SIGSEGV, "the decoder crashed: check the file"), (signal.SIGBUS, "usually because /dev/shm is full")],
)
def test_a_worker_that_crashes(number, advice):
    def crash():
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    text = failure(loader(Trap(22, crash), drop_last=False, shuffle=False, num_workers=1))
    assert f"loader worker 1 of 1 was ended by {number.name} while reading folder/21.png; {advice}" in text


@pytest.mark.parametrize("code", [0, 3])
def test_a_worker_that_ends(code):
    dataset = Trap(22, lambda: sys.exit(code))
    text = failure(loader(dataset, drop_last=False, shuffle=False, num_workers=1))
    assert text == f"loader worker 1 of 1 ended with code {code} while reading folder/21.png"


def test_a_worker_that_hangs(tally):
    dataset = Subset(Trap(64, lambda: time.sleep(600)))
    text = failure(loader(dataset, shuffle=False, num_workers=2, timeout=1))
    assert text == (
        "loader worker 2 of 2 has been reading folder/63.png for more than 1 seconds; if the disk or network is "
        "slow, raise the loader's timeout"
    )
    tally.add("faults survived", 1)


def test_a_worker_that_hangs_between_samples(tally, monkeypatch):
    monkeypatch.setattr(Whereabouts, "enter", lambda self, index: time.sleep(600))
    text = failure(loader(Images(64), num_workers=1, timeout=1))
    assert text.startswith("no batch arrived for 1 seconds, although no loader worker is reading a file; repeat")
    tally.add("faults survived", 1)


class Garbage:
    """Part of a reference cycle; records the process in which it is destroyed."""

    def __init__(self, log):
        self.circle, self.log = self, log

    def __del__(self):
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")


def test_workers_do_not_collect_garbage_of_the_training_process(tmp_path):
    class Collecting(Images):
        def __getitem__(self, index):
            gc.collect()
            return super().__getitem__(index)

    gc.disable()
    try:
        Garbage(tmp_path / "log")
        assert len(list(loader(Collecting(8), num_workers=2))) == 2
    finally:
        gc.enable()
    gc.collect()
    assert (tmp_path / "log").read_text(encoding="utf-8") == f"{os.getpid()}\n"


def test_slow_training_steps_do_not_trigger_the_timeout():
    count = 0
    for _ in loader(Images(22), num_workers=1, timeout=0.5):
        time.sleep(0.7)
        count += 1
    assert count == 5


def test_a_worker_that_dies_during_a_step_does_not_break_the_step():
    """Paddle's handler would raise SystemError at an arbitrary line of the main thread."""
    batches = iter(loader(Images(200), num_workers=2))
    next(batches)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    for _ in range(30):
        time.sleep(0.05)
    assert "SIGKILL" in failure(batches)
