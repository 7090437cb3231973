"""Terminals, pipes and log files that close before the run ends, and exit codes of stopped runs."""

import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from plsc.checkpoint.reader import Checkpoint
from tests.faults.scenes import CONFIG, alive, arrays, children_of, overrides
from tests.faults.test_signals import LONG, wait_for
from tests.integration.runs import ROOT, environment, metrics

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP]
FEW = [*LONG, "DataLoader.Train.loader.num_workers=1"]


def command(images, output, *more, progress="lines"):
    settings = overrides(images, output, *FEW, f"Global.progress={progress}", "Global.log_every_steps=1", *more)
    return [sys.executable, str(ROOT / "tools/train.py"), "-c", CONFIG, "-o", *settings]


def started(argv, folder, **streams):
    return subprocess.Popen(argv, cwd=folder, env=environment(), stdin=subprocess.DEVNULL, **streams)


def steps(run):
    return len(metrics(run)) if (run / "metrics.jsonl").is_file() else 0


def wait_until(condition, process):
    """Wait without reading the output of the process."""
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end and process.poll() is None, f"ended with {process.returncode}"
        time.sleep(0.005)


def ask_to_stop(process, run, number):
    """Send a signal after some steps; check the exit code and the saved checkpoint."""
    before = steps(run)
    wait_until(lambda: steps(run) > before + 3, process)
    workers = children_of(process.pid)
    process.send_signal(number)
    assert process.wait(timeout=60) == 128 + number
    log = (run / "train.log").read_text(encoding="utf-8")
    assert f"stopped by {number.name} after step" in log
    assert Checkpoint.open(run).state["step"] >= before + 3
    assert arrays(run)
    assert not [worker for worker in workers if alive(worker)]


@pytest.mark.parametrize(("number", "progress"), zip(SIGNALS, ["bar", "lines", "lines", "bar"]))
def test_a_pipe_whose_reader_has_ended(tmp_path, toy_runs, tally, number, progress):
    """As in `plsc train ... 2>&1 | tee log`, when Ctrl-C ends `tee` as well."""
    process = started(command(toy_runs.images, tmp_path / "run", progress=progress), tmp_path,
                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    process.stdout.read(1)
    process.stdout.close()
    ask_to_stop(process, tmp_path / "run", number)
    tally.add("faults survived", 1)


def test_a_run_with_unread_output_finishes(tmp_path, toy_runs, tally):
    more = ["Global.epochs=2", "Global.report=true"]
    process = started(command(toy_runs.images, tmp_path / "run", *more), tmp_path,
                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    assert (tmp_path / "run" / "report.html").is_file()
    tally.add("faults survived", 1)


def test_a_full_disk_behind_standard_output_and_error(tmp_path, toy_runs, tally):
    with open("/dev/full", "w", encoding="utf-8") as full:
        process = started(command(toy_runs.images, tmp_path / "run", progress="bar"), tmp_path,
                          stdout=full, stderr=full)  # fmt: skip
        ask_to_stop(process, tmp_path / "run", signal.SIGTERM)
    tally.add("faults survived", 1)


def test_a_terminal_that_is_closed(tmp_path, toy_runs, tally):
    """Closing the terminal sends SIGHUP to its session; after that every write fails with EIO."""
    argv, run = command(toy_runs.images, tmp_path / "run", progress="bar"), tmp_path / "run"
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execve(argv[0], argv, environment())
    os.set_blocking(master, False)
    end = time.monotonic() + 120
    while steps(run) < 4:
        assert time.monotonic() < end
        try:
            os.read(master, 65536)  # otherwise the progress bar would fill the terminal's buffer
        except BlockingIOError:
            time.sleep(0.005)
    os.close(master)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP
    assert "stopped by SIGHUP after step" in (run / "train.log").read_text(encoding="utf-8")
    assert arrays(run)
    tally.add("faults survived", 1)


def test_a_terminal_that_is_closed_under_nohup(tmp_path, toy_runs, tally):
    """The run ignores SIGHUP and continues without its terminal."""
    master, terminal = os.openpty()
    argv = ["nohup", *command(toy_runs.images, tmp_path / "run", progress="bar")]
    process = started(argv, tmp_path, stdout=subprocess.DEVNULL, stderr=terminal)
    wait_until(lambda: steps(tmp_path / "run") > 0, process)  # nohup itself fails without the terminal
    os.close(terminal)
    os.close(master)
    begun = steps(tmp_path / "run")
    wait_until(lambda: steps(tmp_path / "run") > begun, process)
    process.send_signal(signal.SIGHUP)
    ask_to_stop(process, tmp_path / "run", signal.SIGTERM)
    tally.add("faults survived", 1)


def test_a_process_without_standard_streams(tmp_path, toy_runs, tally):
    argv = command(toy_runs.images, tmp_path / "run", "Global.epochs=2")
    process = subprocess.Popen(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *argv], cwd=tmp_path, env=environment())
    assert process.wait(timeout=120) == 0
    assert [row["split"] for row in metrics(tmp_path / "run")]  # no other text has got into the file
    tally.add("faults survived", 1)


NOISY = """
import logging, sys, warnings
from plsc.engine.trainer import Callback
from plsc.config.registry import CALLBACKS
@CALLBACKS.register()
class Noisy(Callback):
    def on_step_end(self, trainer):
        print("x" * 100_000)
        print("y" * 100_000, file=sys.stderr, flush=True)
        sys.stdout.flush()
        logging.getLogger("paddle").error("z" * 100_000)
        warnings.warn("w" * 100_000)
"""


def test_prints_warnings_and_logs_of_others_do_not_end_a_run(tmp_path, toy_runs, tally):
    (tmp_path / "noisy.py").write_text(NOISY, encoding="utf-8")
    noise = ["imports=[noisy]", "Callbacks=[{name: Noisy}]", "Global.epochs=2"]
    process = started(command(toy_runs.images, tmp_path / "run", *noise), tmp_path,
                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    tally.add("faults survived", 1)


IMPORTING = """
import os, sys
sys.path.insert(0, {root!r})
from plsc import runtime
def setup(num_threads=None):
    if {when!r} == "import":
        import slow
    else:
        open("ready", "w").close()
        import time
        while True:
            time.sleep(0.01)
runtime.setup = setup
from plsc.cli import main
sys.exit(main(["train", "--list", "task"]))
"""
SLOW = """
import time
open("ready", "w").close()
try:
    while True:
        time.sleep(0.01)
except KeyboardInterrupt:
    raise ImportError("initialization failed") from None
"""


@pytest.mark.parametrize(("when", "said"), [("import", "\nstopped\n"), ("elsewhere", "stopped without saving\n")])
def test_ctrl_c_at_the_start(tmp_path, when, said):
    (tmp_path / "slow.py").write_text(SLOW, encoding="utf-8")
    (tmp_path / "start.py").write_text(IMPORTING.format(root=str(ROOT), when=when), encoding="utf-8")
    process = subprocess.Popen([sys.executable, "start.py"], cwd=tmp_path, env=environment(), text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    wait_until((tmp_path / "ready").is_file, process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, said)


@pytest.mark.slow
@pytest.mark.parametrize("milliseconds", range(100, 2000, 60))
def test_ctrl_c_at_any_moment_of_the_start(tmp_path, toy_runs, milliseconds):
    process = started(command(toy_runs.images, tmp_path / "run"), tmp_path,
                      stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # fmt: skip
    time.sleep(milliseconds / 1000)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT), error  # the latter if Python itself has not started yet
    assert "initialization failed" not in error and "error:" not in error


def verb(*arguments, **streams):
    argv = [sys.executable, "-m", "plsc", *map(str, arguments)]
    return subprocess.Popen(argv, cwd=ROOT, env=environment(), text=True, **streams)


def test_verbs_exit_with_0_if_their_output_is_not_read(toy_runs):
    for arguments in (["train", "--list", "all"], ["--help"], ["train", "--help"], ["predict", "--help"]):
        process = verb(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.close()
        assert (process.stderr.read(), process.wait(timeout=60)) == ("", 0), arguments
        process.stderr.close()


def test_results_that_cannot_be_written_are_an_error(toy_runs):
    with open("/dev/full", "w", encoding="utf-8") as full:
        process = verb("train", "--list", "all", stdout=full, stderr=subprocess.PIPE)
        error = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert error.startswith("error: standard output cannot be written: No space left on device")


@pytest.mark.parametrize("name", ["export", "visualize", "report", "extract-features"])
def test_files_are_written_if_the_output_is_not_read(tmp_path, toy_runs, name):
    out = tmp_path / {"report": "out.html", "extract-features": "out.npz"}.get(name, "out")
    arguments = {
        "export": ["--checkpoint", toy_runs.classifier, "--formats", "safetensors", "paddle"],
        "visualize": ["--checkpoint", toy_runs.classifier, "--parts", "augmentation"],
        "report": [toy_runs.classifier, "--images", 4],
        "extract-features": ["--checkpoint", toy_runs.classifier],
    }[name]
    process = verb(name, *arguments, "--out", out, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=120) == 0, error
    expected = {"export": "README.md", "visualize": "augmentation_0.png"}.get(name)
    assert (out / expected if expected else out).is_file()


SWEEP = ["Optimizer.weight_decay=0.0,0.05", "--at-once", "2"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_sweep_that_is_asked_to_stop_waits_for_its_runs_to_save(tmp_path, toy_runs, tally, number):
    settings = [text for text in overrides(toy_runs.images, "x", *FEW, "Global.log_every_steps=1")
                if not text.startswith("Global.output_dir")]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "plsc", "sweep", "-c", CONFIG, "--out", str(tmp_path), "-o", *settings, *SWEEP],
        cwd=ROOT, env=environment(), text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    runs = [tmp_path / "weight_decay=0.0", tmp_path / "weight_decay=0.05"]
    wait_for(lambda: all(steps(run) > 3 for run in runs), process)
    jobs = children_of(process.pid)
    assert len(jobs) == 2
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert f"stopped by {number.name}; the runs have ended. The same command resumes the sweep." in error
    assert not [job for job in jobs if alive(job)]
    for run in runs:
        assert "stopped by SIGTERM after step" in (run / "train.log").read_text(encoding="utf-8")
        assert arrays(run) and not (run / "job.json").exists()
    tally.add("faults survived", 1)


def test_the_runs_of_a_sweep_that_is_killed_save_and_end(tmp_path, toy_runs, tally):
    if not sys.platform.startswith("linux"):
        pytest.skip("needs prctl")
    settings = [text for text in overrides(toy_runs.images, "x", *FEW, "Global.log_every_steps=1")
                if not text.startswith("Global.output_dir")]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "plsc", "sweep", "-c", CONFIG, "--out", str(tmp_path), "-o", *settings, *SWEEP],
        cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    runs = [tmp_path / "weight_decay=0.0", tmp_path / "weight_decay=0.05"]
    wait_until(lambda: all(steps(run) > 3 for run in runs), process)
    jobs = children_of(process.pid)
    process.kill()
    process.wait()
    end = time.monotonic() + 60
    while [job for job in jobs if alive(job)]:
        assert time.monotonic() < end
        time.sleep(0.01)
    for run in runs:
        assert "stopped by SIGTERM after step" in (run / "train.log").read_text(encoding="utf-8")
    tally.add("faults survived", 1)
