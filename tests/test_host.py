"""The process of a program that uses `plsc.load` and `plsc.train` is the same before and after."""

import os
import subprocess
import sys
import threading

import paddle
import pytest

from plsc.engine.device import device_kept, set_device
from tests.integration.runs import ROOT, SMALL, SMALL_ENCODER, data

STATE = '''
import ctypes, gc, logging, os, random, signal, sys, threading, warnings
import numpy as np
{imports}

def freed_memory_is_returned():
    """A freed block of 64 MiB goes back to the system unless the allocator's settings were changed."""
    gc.collect()
    def resident():
        return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20
    block = np.ones(2**23)
    full = resident()
    del block
    return full - resident() > 32

def flags():
    return {{name: value for name, value in dict(paddle.base.core.globals()).items()}}

def drawn_by_paddle():
    states = paddle.get_rng_state()
    values = paddle.rand([4]).tolist()
    paddle.set_rng_state(states)
    return values

def state():
    old = os.umask(0)
    os.umask(old)
    loggers = {{name: list(one.handlers) for name, one in logging.root.manager.loggerDict.items()
               if name.split(".")[0] == "host"}}
    # pkg_resources, which Paddle 2.6.2 imports, adds a working directory that has an egg-info
    path = [one for one in sys.path if one not in ("", os.getcwd())]
    found = {{
        "environment": dict(os.environ), "signals": [signal.getsignal(one) for one in signal.valid_signals()],
        "random": random.getstate(), "NumPy's random": str(np.random.get_state()), "filters": list(warnings.filters),
        "log handlers": (list(logging.root.handlers), logging.root.level, logging.raiseExceptions, loggers),
        "streams": (sys.stdin, sys.stdout, sys.stderr, sys.excepthook, sys.displayhook), "umask": old,
        "folder": os.getcwd(), "path": path, "threads": threading.active_count(),
        "malloc": freed_memory_is_returned(), "recursion": sys.getrecursionlimit(), "gc": gc.isenabled(),
        "alarm": signal.getitimer(signal.ITIMER_REAL), "printed": np.get_printoptions(), "errors": np.geterr(),
    }}
    if "paddle" in globals():
        found.update({{
            "device": paddle.get_device(), "flags": flags(), "Paddle's random": drawn_by_paddle(),
            "gradients": paddle.is_grad_enabled(), "dtype": paddle.get_default_dtype(),
        }})
    return found

random.seed(1)
np.random.seed(2)
warnings.filterwarnings("error", category=FutureWarning)
logging.getLogger("host").addHandler(logging.NullHandler())
signal.signal(signal.SIGTERM, signal.SIG_IGN)
state()  # whatever is imported lazily
before = state()
'''
COMPARED = """
after = state()
changed = [name for name in before if before[name] != after[name]]
keys = [key for name in changed if isinstance(before[name], dict) for key in {*before[name], *after[name]}
        if before[name].get(key) != after[name].get(key)]
assert not changed, (changed, keys)
"""
# A forked process of the host outlives it; "survived" is written after the host was killed.
FORK = """
host = os.getpid()
if os.fork() == 0:
    while os.getppid() == host:
        os.sched_yield()
    os.write(1, b"survived")
    os._exit(0)
os.kill(host, signal.SIGKILL)
"""
PADDLE = "import paddle\npaddle.seed(3)\npaddle.rand([5])"
LOAD = "import plsc\nmodel = plsc.load({run!r})\nmodel.predict({file!r})\nmodel.features([{file!r}])"
TRAIN = "import plsc\nplsc.train({config!r}, {overrides!r})"
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc; fork handlers are for Linux")


def outlived(code):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.endswith("survived")


@on_linux
@pytest.mark.parametrize("imports", [PADDLE, ""], ids=["Paddle imported before", "Paddle imported by plsc"])
def test_load_and_predict_change_nothing_in_the_process(toy_runs, imports):
    file = str(next((toy_runs.images / "val" / "0").iterdir()))
    use = LOAD.format(run=str(toy_runs.classifier), file=file)
    assert outlived(STATE.format(imports=imports) + use + COMPARED + FORK)


@on_linux
@pytest.mark.parametrize("imports", [PADDLE, ""], ids=["Paddle imported before", "Paddle imported by plsc"])
def test_train_restores_the_process(toy_runs, tmp_path, imports):
    overrides = [*SMALL, *SMALL_ENCODER, *data(toy_runs.images), "Global.epochs=1", "Model.head.in_features=16"]
    overrides += ["LRScheduler.warmup_epochs=0", f"Global.output_dir={tmp_path / 'out'}"]
    use = TRAIN.format(config=str(ROOT / "configs/quickstart/scratch.yaml"), overrides=overrides)
    assert outlived(STATE.format(imports=imports) + use + COMPARED + FORK)


def test_a_failed_load_restores_the_process_too(tmp_path):
    code = (
        STATE.format(imports="") + "import plsc\ntry:\n    plsc.load('nowhere')\nexcept plsc.CheckpointError:\n    pass"
    )
    assert outlived(code + COMPARED + FORK)


def test_device_and_flags_come_back_when_the_last_thread_has_ended():
    name = "FLAGS_use_stride_kernel"
    before = paddle.get_flags([name])
    paddle.set_flags({name: True})
    inside, go_on = threading.Event(), threading.Event()

    def other():
        with device_kept():
            set_device("cpu")
            inside.set()
            go_on.wait(60)

    thread = threading.Thread(target=other)
    try:
        with device_kept():
            set_device("cpu")
            thread.start()
            assert inside.wait(60)
        assert paddle.get_flags([name]) == {name: False}, "the other thread still computes"
        go_on.set()
        thread.join(60)
        assert paddle.get_flags([name]) == {name: True}
    finally:
        go_on.set()
        paddle.set_flags(before)


def test_only_the_command_line_and_train_set_up_a_process():
    uses = [
        str(path.relative_to(ROOT / "plsc"))
        for path in sorted((ROOT / "plsc").rglob("*.py"))
        if "runtime.setup(" in path.read_text(encoding="utf-8") and path.name != "runtime.py"
    ]
    assert uses == ["api.py", "benchmark/startup.py", "cli/common.py", "cli/doctor.py"]
