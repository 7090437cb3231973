"""Busy, stopped and ended processes: the others wait up to the timeout, and name the missing process."""

import os
import re
import signal
import time

import pytest

from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint.reader import Checkpoint
from tests.distributed.jobs import PRETRAIN, SMALL_CAE, launch, launch_command, logs
from tests.distributed.test_faults import free_port, start, wait_for_steps, workers
from tests.integration.runs import data, make_digits, metrics

LONGER_THAN_GLOO = 35  # seconds; gloo's collectives fail after 30


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_digits(tmp_path_factory.mktemp("images") / "digits", per_class=20)


def options(images, *more, steps=6):
    length = ["Global.epochs=null", f"Global.steps={steps}", "LRScheduler.warmup_epochs=0", "Global.output_dir=run"]
    return [*data(images, evaluation=False), *SMALL_CAE, *length, "imports=[trouble]", *more]


def plug_in(folder, text):
    """Write a plug-in for the job; its `at(rank, step, action)` runs an action in one process after a step."""
    (folder / "trouble.py").write_text(
        "import os, signal, time\n"
        "from plsc import distributed\n"
        "from plsc.checkpoint import files as storage\n"
        "from plsc.report.write import RunReport\n"
        "from plsc.engine import run\n"
        "from plsc.engine.step import TrainStep\n"
        "def at(rank, step, action):\n"
        "    before = TrainStep.__call__\n"
        "    def train_step(self, batches):\n"
        "        found = before(self, batches)\n"
        "        if self.step == step and distributed.rank() == rank:\n"
        "            action()\n"
        "        return found\n"
        "    TrainStep.__call__ = train_step\n"
        "def slowly(module, name, seconds):\n"
        "    before = getattr(module, name)\n"
        "    def call(*arguments):\n"
        "        time.sleep(seconds)\n"
        "        return before(*arguments)\n"
        "    setattr(module, name, call)\n" + text + "\n",
        encoding="utf-8",
    )


def is_stopped(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


def wait_until_stopped(process, rank, seconds=120):
    """Return the id of a training process that has stopped itself."""
    deadline = time.time() + seconds
    while time.time() < deadline and process.poll() is None:
        pid = workers(process).get(rank)
        if pid is not None and is_stopped(pid):
            return pid
        time.sleep(0.05)
    return pytest.fail(f"process {rank} has not stopped")


def test_a_stopped_process_is_named(images, tmp_path):
    plug_in(tmp_path, "at(1, 3, lambda: os.kill(os.getpid(), signal.SIGSTOP))")
    short = options(images, "DistributedStrategy.collective_timeout=2")
    process = start(launch_command(2, PRETRAIN, short), tmp_path)
    process.communicate(timeout=120)  # the launcher kills the stopped one
    assert process.returncode != 0
    text = logs(tmp_path)
    expected = r"error: process 0 of 2 waited 2 seconds at .+ for process 1; raise DistributedStrategy"
    assert re.search(expected, text), text
    assert "Traceback" not in text


def test_a_process_stopped_for_a_while_does_not_change_results(images, tmp_path):
    """It is stopped until the other process has waited; process 0 runs the servers of Paddle's store and of plsc."""
    plug_in(tmp_path, "for rank in (0, 1):\n    at(rank, 2 + rank, lambda: os.kill(os.getpid(), signal.SIGSTOP))")
    process = start(launch_command(2, PRETRAIN, options(images)), tmp_path)
    for rank in (0, 1):
        stopped = wait_until_stopped(process, rank)
        time.sleep(1)
        os.kill(stopped, signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode == 0, logs(tmp_path)
    assert [row["step"] for row in metrics(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("rank", [0, 1])
def test_all_processes_report_the_error_of_one(images, tmp_path, rank):
    plug_in(tmp_path, f"def fail():\n    raise ValueError('a disk is gone')\nat({rank}, 3, fail)")
    launch(2, options(images), tmp_path, expect=2)
    own = (tmp_path / "logs" / f"workerlog.{rank}").read_text(encoding="utf-8")
    other = (tmp_path / "logs" / f"workerlog.{1 - rank}").read_text(encoding="utf-8")
    assert "error: a disk is gone" in own, own
    assert f"error: process {rank} of 2 failed: a disk is gone" in other, other


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_a_job_of_two_nodes(images, tmp_path, rank):
    """A launcher sees only the processes of its node, so the other node must detect the failure."""
    plug_in(tmp_path, f"at({rank}, 3, lambda: os.kill(os.getpid(), signal.SIGKILL))")
    master, nodes = f"127.0.0.1:{free_port()}", []
    for number in range(2):
        launcher = ["--nnodes", "2", "--master", master, "--rank", str(number), "--job_id", "two"]
        nodes.append(start(launch_command(1, PRETRAIN, options(images), f"logs{number}", launcher), tmp_path))
    for node in nodes:
        node.communicate(timeout=120)
        assert node.returncode != 0
    assert f"process {rank} of 2 has ended, while process {1 - rank} waits for it at" in logs(tmp_path), logs(tmp_path)


@pytest.mark.slow
def test_a_checkpoint_that_takes_longer_than_gloo_waits(images, tmp_path):
    """The second save waits for the first, and the other process waits in the next step."""
    plug_in(tmp_path, f"slowly(storage, 'write', {LONGER_THAN_GLOO})")
    launch(2, options(images, "Global.save_every_steps=3", steps=4), tmp_path)
    assert [path.name for path in checkpoint_files.checkpoints(tmp_path / "run/checkpoints")] == [
        "step_00000003",
        "step_00000004",
    ]


@pytest.mark.slow
def test_a_rescue_save_that_takes_longer_than_gloo_waits(images, tmp_path):
    plug_in(tmp_path, f"slowly(storage, 'write', {LONGER_THAN_GLOO})")
    process = start(launch_command(2, PRETRAIN, options(images, steps=10_000)), tmp_path)
    wait_for_steps(tmp_path / "run", 3, process)
    os.kill(workers(process)[1], signal.SIGTERM)
    process.communicate(timeout=120)
    assert "saved in run/checkpoints" in logs(tmp_path), logs(tmp_path)
    assert Checkpoint.open(tmp_path / "run").state["step"] >= 3


@pytest.mark.slow
def test_a_report_that_takes_longer_than_gloo_waits(images, tmp_path):
    plug_in(tmp_path, f"slowly(RunReport, 'write', {LONGER_THAN_GLOO})")
    launch(2, options(images, "Global.report=true", steps=2), tmp_path)
    assert (tmp_path / "run/report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_stopped_for_longer_than_gloo_waits(images, tmp_path, rank):
    plug_in(tmp_path, f"at({rank}, 3, lambda: os.kill(os.getpid(), signal.SIGSTOP))")
    process = start(launch_command(2, PRETRAIN, options(images)), tmp_path)
    stopped = wait_until_stopped(process, rank)
    time.sleep(LONGER_THAN_GLOO)
    os.kill(stopped, signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode == 0, logs(tmp_path)
    assert metrics(tmp_path / "run")[-1]["step"] == 6
