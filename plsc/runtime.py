"""Process set-up before Paddle is imported: CPU threads, the BLAS code path, the allocator, forked processes.

Only the command line sets up its process for good; `plsc.train` undoes it at its end, and `plsc.load` sets up nothing.

Paddle reads these settings when it is imported and starts with one thread; idle threads of OpenMP spin for 200 ms,
which takes their cores from the loader's workers; MKL takes a slow path on processors of other makers; and glibc gives
large buffers back to the system, so that every result page-faults again. What the user has set in the environment
wins over what is chosen here, and `Global.num_threads` over both.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import signal
import sys
import warnings
from typing import Any, Dict, Optional

from plsc import distribution

STARTED_BY = "PLSC_STARTED_BY"  # process id of `plsc sweep` in the environment of its runs
_SPIN_MS = "1"  # with 0, threads sleep between the products of a small network
_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_BIGGEST = 2**31 - 1
_GLIBC_MMAP_MAX = 65536  # defaults of glibc
_GLIBC_TRIM_THRESHOLD = 128 * 1024
MOST_THREADS = 1024  # a process that asks for many more is aborted by OpenMP where threads are limited

_in_force: Dict[str, bool] = {}  # parts of the set-up that `undo` ends: "forks", "malloc"


def setup(num_threads: Optional[int] = None) -> Dict[str, str]:
    """Prepares this process for Paddle; returns what was set, for the log.

    Args:
        num_threads: CPU threads of Paddle's products and loops. None: OMP_NUM_THREADS of the environment, or one per
            core this process may use, divided by the processes that share the machine under a launcher.

    Raises:
        ValueError: If OMP_NUM_THREADS of the environment asks for more than MOST_THREADS.
    """
    if "paddle" in sys.modules:
        return {"note": "paddle was imported before; threads, BLAS and allocator were not changed"}
    local = os.environ.get("PADDLE_LOCAL_SIZE")
    # The launcher has imported Paddle, which sets OMP_NUM_THREADS=1 if unset, and hands its environment down.
    given = os.environ.get("OMP_NUM_THREADS", "")
    if num_threads or not given or (local and given == "1"):
        os.environ["OMP_NUM_THREADS"] = str(num_threads or max(1, available_cores() // int(local or 1)))
    asked = os.environ["OMP_NUM_THREADS"]
    if asked.strip().isdecimal() and int(asked) > MOST_THREADS:
        raise ValueError(f"OMP_NUM_THREADS must be at most {MOST_THREADS}, got {asked}; set Global.num_threads instead")
    os.environ.setdefault("MKL_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
    os.environ.setdefault("KMP_BLOCKTIME", _SPIN_MS)
    if _is_amd():
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")
    _end_forks_with_this_process()
    chosen = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE") if name in os.environ}
    _in_force["malloc"] = _keep_freed_memory()
    return {**chosen, "malloc": "keeps freed memory" if _in_force["malloc"] else "as the system has it"}


def undo() -> None:
    """Undo what `setup` changed in this process outside of its environment; Paddle keeps its number of threads."""
    _in_force["forks"] = False
    if _in_force.pop("malloc", False):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, _GLIBC_MMAP_MAX)
        mallopt(_M_TRIM_THRESHOLD, _GLIBC_TRIM_THRESHOLD)
        give_back_memory()


def import_paddle() -> Any:
    """Imports Paddle without its notices about several threads and a missing compiler cache.

    Raises:
        ImportError: If it is not installed; the message says how to install it.
    """
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            import paddle
        except ModuleNotFoundError as error:
            if error.name != "paddle":
                raise
            command = distribution.install("cpu", "gpu")
            raise ImportError(
                f"PaddlePaddle is not installed in this Python environment; install it by {command}"
            ) from None
    return paddle


def available_cores() -> int:
    """Cores this process may run on, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_amd() -> bool:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return any("AuthenticAMD" in line for line in lines)
    except OSError:
        return False


def _end_forks_with_this_process() -> None:
    """Has Linux kill the processes that this one forks, such as loader workers, when it is killed itself."""
    known = "forks" in _in_force
    _in_force["forks"] = True
    if known or not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        prctl = ctypes.CDLL(None).prctl
        parent = [0]

        def note_parent() -> None:
            parent[0] = os.getpid()

        def end_with_parent() -> None:
            if not _in_force["forks"]:
                return
            prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
            if os.getppid() != parent[0]:  # it was killed before the line above
                os.kill(os.getpid(), signal.SIGKILL)

        os.register_at_fork(before=note_parent, after_in_child=end_with_parent)


def stop_with_parent() -> None:
    """Have Linux send SIGTERM to this process when its parent ends, if that is a launcher or `plsc sweep`.

    Both pass SIGTERM on to what they have started. But a launcher ends at once, and its processes would go on, when it
    gets a signal that it does not handle, such as SIGHUP or SIGUSR1, and nobody can handle SIGKILL.
    """
    started = "PADDLE_TRAINER_ID" in os.environ or os.environ.get(STARTED_BY) == str(os.getppid())
    if started and sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


def _keep_freed_memory() -> bool:
    """Tells glibc to serve large buffers from its heap and never give them back."""
    if "MALLOC_TRIM_THRESHOLD_" in os.environ or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _BIGGEST))


def give_back_memory() -> None:
    """Has glibc give the memory that was freed back to the system, which `setup` keeps it from doing on its own."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
