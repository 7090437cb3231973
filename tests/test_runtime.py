"""What is set before Paddle is imported. Paddle is imported in this process, so most tests hide it."""

import builtins
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from plsc import runtime

ROOT = Path(__file__).parent.parent
NAMES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "KMP_BLOCKTIME", "MKL_DEBUG_CPU_TYPE", "PADDLE_LOCAL_SIZE")


@pytest.fixture
def fresh(monkeypatch):
    """A process without Paddle, with none of the variables, on 8 cores."""
    monkeypatch.delitem(sys.modules, "paddle", raising=False)
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that monkeypatch restores what setup() sets
        monkeypatch.delenv(name)
    monkeypatch.setattr(runtime, "available_cores", lambda: 8)
    monkeypatch.setattr(runtime, "_keep_freed_memory", lambda: True)
    monkeypatch.setattr(runtime, "_is_amd", lambda: True)
    monkeypatch.setattr(runtime, "_end_forks_with_this_process", lambda: None)
    return monkeypatch


def test_one_thread_per_core_and_the_fast_path_of_mkl(fresh):
    chosen = runtime.setup()
    assert chosen == {"OMP_NUM_THREADS": "8", "MKL_DEBUG_CPU_TYPE": "5", "malloc": "keeps freed memory"}
    assert os.environ["MKL_NUM_THREADS"] == "8"
    assert os.environ["KMP_BLOCKTIME"] == "1"


@pytest.mark.parametrize(
    ("environment", "num_threads", "threads"),
    [
        ({}, 3, "3"),
        ({"OMP_NUM_THREADS": "2"}, None, "2"),
        ({"OMP_NUM_THREADS": "1"}, None, "1"),
        ({"OMP_NUM_THREADS": "2"}, 5, "5"),
        ({"PADDLE_LOCAL_SIZE": "4"}, None, "2"),
        ({"PADDLE_LOCAL_SIZE": "16"}, None, "1"),
        ({"PADDLE_LOCAL_SIZE": "4", "OMP_NUM_THREADS": "1"}, None, "2"),  # the launcher's own setting
        ({"PADDLE_LOCAL_SIZE": "4", "OMP_NUM_THREADS": "3"}, None, "3"),
        ({"PADDLE_LOCAL_SIZE": "4", "OMP_NUM_THREADS": "1"}, 1, "1"),
    ],
)
def test_who_decides_the_number_of_threads(fresh, environment, num_threads, threads):
    for name, value in environment.items():
        fresh.setenv(name, value)
    assert runtime.setup(num_threads)["OMP_NUM_THREADS"] == threads


@pytest.mark.parametrize("asked", ["1025", "100000"])
def test_more_threads_than_a_process_can_have_are_refused(fresh, asked):
    fresh.setenv("OMP_NUM_THREADS", asked)
    with pytest.raises(ValueError, match=f"OMP_NUM_THREADS must be at most 1024, got {asked}; set Global.num_threads"):
        runtime.setup()
    assert runtime.setup(2)["OMP_NUM_THREADS"] == "2"


def test_the_environment_wins_elsewhere(fresh):
    fresh.setenv("MKL_DEBUG_CPU_TYPE", "4")
    fresh.setenv("KMP_BLOCKTIME", "200")
    assert runtime.setup()["MKL_DEBUG_CPU_TYPE"] == "4"
    assert os.environ["KMP_BLOCKTIME"] == "200"


def test_other_processors_keep_their_path(fresh):
    fresh.setattr(runtime, "_is_amd", lambda: False)
    assert "MKL_DEBUG_CPU_TYPE" not in runtime.setup()


def test_too_late_is_said(fresh):
    fresh.setitem(sys.modules, "paddle", object())
    assert "paddle was imported before" in runtime.setup()["note"]
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
def test_freed_memory_is_kept_until_it_is_given_back():
    code = """
import numpy as np
from plsc import runtime

def resident():
    with open("/proc/self/statm") as line:
        return int(line.read().split()[1]) * 4096 >> 20

runtime.setup()
blocks = [np.ones(2**17) for _ in range(256)]  # of 1 MiB
blocks = None
kept = resident()
runtime.give_back_memory()
print(kept - resident())
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert output.returncode == 0, output.stderr
    assert int(output.stdout) > 200


def test_the_users_allocator_settings_are_left_alone(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    assert not runtime._keep_freed_memory()


def test_a_missing_paddle_says_how_to_install_it(fresh):
    real = builtins.__import__

    def without_paddle(name, *args, **kwargs):
        if name == "paddle":
            raise ModuleNotFoundError("No module named 'paddle'", name="paddle")
        return real(name, *args, **kwargs)

    fresh.setattr(builtins, "__import__", without_paddle)
    with pytest.raises(
        ImportError, match=r"PaddlePaddle is not installed in .*; install it by pip install -e '\.\[cpu\]' or"
    ):
        runtime.import_paddle()


def test_cores_are_those_of_this_process():
    assert 1 <= runtime.available_cores() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a signal for children of a killed process is Linux's")
def test_forked_processes_end_with_a_killed_one():
    code = (
        "import os, signal\nfrom plsc import runtime\nruntime.setup()\nchild = os.fork()\n"
        "if child:\n    print(child, flush=True)\nsignal.pause()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    child = int(process.stdout.readline())
    process.kill()
    try:
        process.communicate(timeout=60)  # until both have closed standard output
    except subprocess.TimeoutExpired:
        os.kill(child, signal.SIGKILL)
        raise


def test_an_undone_set_up_leaves_the_next_forks_alone():
    """A process forked after `undo` outlives the one that forked it."""
    code = (
        "import os, signal\nfrom plsc import runtime\nruntime.setup()\nruntime.undo()\nparent = os.getpid()\n"
        "if os.fork():\n    os.kill(parent, signal.SIGKILL)\nwhile os.getppid() == parent:\n    os.sched_yield()\n"
        "print('survived')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT, timeout=60)
    assert done.stdout == "survived\n"
