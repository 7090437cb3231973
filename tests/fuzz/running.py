"""How the fuzzers of this folder run: many inputs, each counted, and no hang."""

import contextlib
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

HANG = 60  # seconds that one input may never take, however busy the machine is


def examples(few, many):
    """A test of `few` inputs that is always run, the same ones each time, and one of `many` in the slow tier."""
    slow = pytest.param(many, marks=pytest.mark.slow, id=f"{many}")
    return pytest.mark.parametrize("count", [pytest.param(few, id=f"{few}"), slow])


def fuzz(count, tally, name, check, *strategies):
    """Calls `check` with `count` inputs; what it raises is a crash."""

    @settings(
        max_examples=count, deadline=None, database=None, derandomize=count < 1000,
        suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink),
    )  # fmt: skip
    @given(st.tuples(*strategies))
    def run(values):
        tally.add(f"inputs tried: {name}")
        with no_hang():
            check(*values)

    try:
        run()
    except BaseException:
        tally.add("crashes")
        raise
    tally.add("crashes", 0)


@contextlib.contextmanager
def no_hang():
    """Raises TimeoutError if what is inside does not end."""

    def stop(number, frame):
        raise TimeoutError(f"one input took more than {HANG} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HANG)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


LIMITS = [f"-timeout={HANG}", "-rss_limit_mb=2500", "-max_len=4096", "-print_final_stats=1"]


def fuzz_by_coverage(one_input, seeds):
    """Runs atheris with the options of the command line; ends the process.

    Args:
        one_input: Called with bytes; what it raises is a crash, and the input is written into the current folder.
        seeds: Writes inputs to start from into a folder.
    """
    import atheris

    folder = Path(tempfile.mkdtemp())
    seeds(folder)
    atheris.Setup([*sys.argv, *LIMITS, str(folder)], one_input)
    atheris.Fuzz()
