"""Short runs of the coverage-guided fuzzers."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
RUNS = {"config": 10_000, "images": 50_000}


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed: pip install -e '.[fuzz]'")
@pytest.mark.parametrize("target", RUNS)
def test_guided_by_coverage(tmp_path, tally, target):
    command = [sys.executable, str(ROOT / "tests" / "fuzz" / f"fuzz_{target}.py"), f"-runs={RUNS[target]}"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=3600, check=False
    )
    tried = re.search(r"stat::number_of_executed_units: (\d+)", done.stderr)
    tally.add(f"inputs tried: atheris, {target}", int(tried[1]) if tried else 0)
    tally.add("crashes", int(done.returncode != 0))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert int(tried[1]) >= RUNS[target]
