"""Runner of the fuzzers: many inputs, counted, with a timeout."""

import contextlib
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

HANG = 60  # seconds allowed for one input, far more than needed on a busy machine


def examples(few, many):
    """Parametrize a test with `few` fixed inputs, and with `many` in the slow tier."""
    slow = pytest.param(many, marks=pytest.mark.slow, id=f"{many}")
    return pytest.mark.parametrize("count", [pytest.param(few, id=f"{few}"), slow])


def fuzz(count, tally, name, check, *strategies):
    """Call `check` with `count` inputs; any exception is a crash."""

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
    """Context that raises TimeoutError if its body hangs."""

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
    """Run atheris with the options of the command line; does not return.

    Args:
        one_input: Called with bytes; any exception is a crash, and the input is written to the current folder.
        seeds: Writes seed inputs into a folder.
    """
    import atheris

    folder = Path(tempfile.mkdtemp())
    seeds(folder)
    atheris.Setup([*sys.argv, *LIMITS, str(folder)], one_input)
    atheris.Fuzz()
