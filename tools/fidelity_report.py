#!/usr/bin/env python
"""Writes docs/fidelity.md: how far this code is from the reference, measured by the parity tests.

python tools/fidelity_report.py
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict

ROOT = Path(__file__).resolve().parent.parent
PAGE = """# Fidelity

How far plsc is from the authors' PyTorch implementation of CAE: the largest absolute difference over all fixtures of
a family, each with its own hyper-parameters and random weights, in float64 on CPU (DALL-E's networks in float32).
One set of fixtures is from the authors' code; two more, with unlike settings and grids that are not square, are from
an implementation in NumPy, `tests/parity/oracle.py`, which computes the numbers of the authors' code as well.
Written by `tools/fidelity_report.py` from a run of `pytest tests/parity` on Paddle {version}; do not edit by hand.

{table}

Gradients and parameters are stored in float32 in most fixtures, which limits those columns to a few 1e-8. The tests
allow 1e-7 for outputs and 1e-6 for gradients. Schedules and parameter groups are compared to 1e-12, mask counts
exactly, mask and crop frequencies within their sampling error, crops pixel by pixel; they have no row here.

| largest difference at | what sets it |
|---|---|
| position tables, resampled | the reference computes bicubic weights in float32; values are up to 4 |
| DALL-E | float32 convolutions summed in another order |
| attentive probe | Paddle keeps the learning rate in float32 |
"""


def main() -> int:
    """Runs the parity tests and writes the page; returns pytest's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "deviations.json"
        command = [sys.executable, "-m", "pytest", "-q", str(ROOT / "tests" / "parity")]
        code = subprocess.call(command, cwd=ROOT, env={**os.environ, "PLSC_DEVIATIONS": str(record)})
        if code:
            print("the parity tests failed, so docs/fidelity.md stays as it is", file=sys.stderr)
            return code
        deviations = json.loads(record.read_text(encoding="utf-8"))
    import paddle

    page = PAGE.format(version=paddle.__version__, table=table(deviations))
    (ROOT / "docs" / "fidelity.md").write_text(page, encoding="utf-8")
    print(table(deviations))
    return 0


def table(deviations: Dict[str, Dict[str, float]]) -> str:
    """The deviations as a Markdown table, a family a row."""
    columns = sorted({quantity for row in deviations.values() for quantity in row}, key=_order)
    lines = ["| family | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for family, row in sorted(deviations.items()):
        cells = [f"{row[column]:.1e}" if column in row else "" for column in columns]
        lines.append(f"| {family} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _order(quantity: str) -> tuple:
    known = ["outputs", "gradients"]
    return (known.index(quantity) if quantity in known else len(known), quantity)


if __name__ == "__main__":
    sys.exit(main())
