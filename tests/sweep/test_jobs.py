"""Jobs run in order, some in parallel; a finished job is not run again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plsc.sweep.jobs import MARKER, Job, run_command, run_jobs


def job(folder, name, code="", needs=()):
    return Job(name, (sys.executable, "-c", code or "pass"), folder / name, needs)


def append(path, word):
    """Return a program that appends a line to a file."""
    return f"open({str(path)!r}, 'a').write({word!r} + chr(10))"


def test_jobs_run_after_the_jobs_they_need(tmp_path):
    lines = tmp_path / "lines"
    jobs = [
        job(tmp_path, "c", append(lines, "c"), ("a", "b")),
        job(tmp_path, "b", append(lines, "b"), ("a",)),
        job(tmp_path, "a", append(lines, "a")),
    ]
    said = []
    assert run_jobs(jobs, 2, {}, said.append) == {}
    assert lines.read_text().split() == ["a", "b", "c"]
    assert [line.split(":")[0] for line in said] == ["[1/3] a", "[2/3] b", "[3/3] c"]


def test_what_is_done_is_not_run_again(tmp_path):
    lines = tmp_path / "lines"
    jobs = [job(tmp_path, "a", append(lines, "a"))]
    run_jobs(jobs, 1, {}, str)
    assert json.loads((tmp_path / "a" / MARKER).read_text())["command"] == list(jobs[0].command)
    run_jobs([*jobs, job(tmp_path, "b", append(lines, "b"), ("a",))], 1, {}, str)
    assert lines.read_text().split() == ["a", "b"]


def test_the_result_of_another_command_is_rejected(tmp_path):
    run_jobs([job(tmp_path, "a", "1")], 1, {}, str)
    with pytest.raises(
        ValueError, match=r"a contains the result of another command \(different: 1, 2\); remove it, or"
    ):
        run_jobs([job(tmp_path, "a", "2")], 1, {}, str)


def test_a_failure_stops_only_the_jobs_that_need_it(tmp_path):
    jobs = [
        job(tmp_path, "bad", "import sys; print('why'); sys.exit(3)"),
        job(tmp_path, "lost", needs=("bad",)),
        job(tmp_path, "lost_too", needs=("lost",)),
        job(tmp_path, "good"),
    ]
    failed = run_jobs(jobs, 1, {}, str)
    assert set(failed) == {"bad", "lost", "lost_too"}
    assert failed["bad"].startswith("ended with code 3; see ") and failed["lost"] == "needs bad"
    assert (tmp_path / "bad" / "job.log").read_text() == "why\n"
    assert not (tmp_path / "bad" / MARKER).exists()


def test_jobs_get_the_environment(tmp_path):
    out = tmp_path / "out"
    code = f"import os; open({str(out)!r}, 'w').write(os.environ['PLSC_TEST'])"
    run_jobs([job(tmp_path, "a", code)], 1, {"PLSC_TEST": "here"}, str)
    assert out.read_text() == "here"


def test_as_many_at_once_as_allowed(tmp_path):
    """Two jobs that wait for each other's file end only if they run together."""
    wait = "import pathlib, time\npathlib.Path({!r}).touch()\nwhile not pathlib.Path({!r}).exists(): time.sleep(0.01)"
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    jobs = [job(tmp_path, "a", wait.format(one, two)), job(tmp_path, "b", wait.format(two, one))]
    assert run_jobs(jobs, 2, {}, str) == {}


def test_an_interrupt_ends_running_jobs_with_sigterm(tmp_path):
    saved = tmp_path / "saved"
    child = (
        "import signal, sys, time, pathlib\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path({str(saved)!r}).touch(), sys.exit(0)))\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        "time.sleep(60)"
    )
    code = (
        "import sys\nfrom pathlib import Path\nfrom plsc.sweep.jobs import Job, run_jobs\n"
        f"run_jobs([Job('a', (sys.executable, '-c', {child!r}), Path({str(tmp_path / 'a')!r}))], 1, {{}})"
    )
    root = Path(__file__).parent.parent.parent
    process = subprocess.Popen([sys.executable, "-c", code], cwd=root, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not (tmp_path / "ready").exists() and time.monotonic() < end:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(60) != 0
    assert saved.exists() and not (tmp_path / "a" / MARKER).exists()


@pytest.mark.parametrize(
    ("jobs", "at_once", "message"),
    [
        ([("a", ()), ("a", ())], 1, "jobs have the same name: a"),
        ([("a", ("b",)), ("b", ("a",))], 1, r"in a cycle: a \(needs b\); b \(needs a\)"),
        ([("a", ("missing",))], 1, r"not in the list.*a \(needs missing\)"),
        ([("a", ())], 0, "the number of parallel jobs must be at least 1, got 0"),
    ],
)
def test_impossible_plans_are_rejected(tmp_path, jobs, at_once, message):
    with pytest.raises(ValueError, match=message):
        run_jobs([job(tmp_path, name, needs=needs) for name, needs in jobs], at_once, {}, str)


CHILD = """
import signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
def save(number, frame):
    (folder / "asked").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
    (folder / "saved").touch()
    sys.exit(7)
def give_up(number, frame):
    (folder / "gave_up").touch()
    sys.exit(8)
signal.signal(signal.SIGTERM, save)
signal.signal(signal.SIGINT, give_up)
(folder / "ready").touch()
while True:
    time.sleep(0.01)
"""
PARENT = """
import sys
from pathlib import Path
from plsc.sweep.jobs import Job, Stopped, run_command, run_jobs
folder, kind, command = sys.argv[1], sys.argv[2], (sys.executable, "-c", sys.argv[3], sys.argv[1])
if kind == "run_command":
    sys.exit(run_command(command))
try:
    run_jobs([Job("a", command, Path(folder) / "a"), Job("b", command, Path(folder) / "b")], 1, {})
except Stopped as stopped:
    sys.exit(128 + stopped.signal_number)
"""


def wait_for(path, process):
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.01)


@pytest.fixture(params=["run_jobs", "run_command"])
def parent(request, tmp_path):
    command = [sys.executable, "-c", PARENT, str(tmp_path), request.param, CHILD]
    process = subprocess.Popen(command, cwd=Path(__file__).parent.parent.parent, stderr=subprocess.DEVNULL)
    wait_for(tmp_path / "ready", process)
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_is_passed_on_and_the_job_is_waited_for(tmp_path, parent, number):
    parent.send_signal(number)
    wait_for(tmp_path / "asked", parent)
    assert parent.poll() is None  # it waits for the job to save
    (tmp_path / "go").touch()
    assert parent.wait(60) == 128 + number
    assert (tmp_path / "saved").exists() and not (tmp_path / "b").exists()


def test_a_second_ctrl_c_is_passed_on(tmp_path, parent):
    parent.send_signal(signal.SIGTERM)
    wait_for(tmp_path / "asked", parent)
    parent.send_signal(signal.SIGINT)
    assert parent.wait(60) == 128 + signal.SIGTERM
    assert (tmp_path / "gave_up").exists() and not (tmp_path / "saved").exists()


def test_a_command_that_ends_by_itself_keeps_its_code(tmp_path):
    assert run_command([sys.executable, "-c", "raise SystemExit(3)"]) == 3
    assert run_command([sys.executable, "-c", "print(1)"], stdout=subprocess.DEVNULL) == 0
