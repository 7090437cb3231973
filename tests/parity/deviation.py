"""Comparison with the reference; records the largest deviation of each family of fixtures.

With `PLSC_DEVIATIONS=FILE` in the environment, the largest absolute differences of a pytest run are written there as
JSON: {family: {"outputs": d, "gradients": d}}.
"""

import json
import os
from collections import defaultdict
from pathlib import Path

import numpy as np

_largest = defaultdict(dict)


def check(family, actual, expected, atol, quantity="outputs", name=""):
    """Assert that arrays differ by at most `atol`, and record the difference.

    Args:
        family: Row of the report: "pre-training", "fine-tuning".
        actual: Ours, an array, a tensor or a number.
        expected: The reference's.
        atol: Largest absolute difference allowed.
        quantity: Column of the report.
        name: What is compared, for the message.
    """
    actual = np.asarray(actual.numpy() if hasattr(actual, "numpy") else actual)
    assert actual.shape == np.shape(expected), f"{name}: shape {actual.shape}, the reference has {np.shape(expected)}"
    difference = float(np.abs(actual.astype(np.float64) - expected).max()) if actual.size else 0.0
    _largest[family][quantity] = max(_largest[family].get(quantity, 0.0), difference)
    assert difference <= atol, f"{family}, {name}: differs by {difference:.3g}, allowed {atol:.3g}"


def write():
    """Write the recorded deviations to the file named in the environment, if any."""
    if "PLSC_DEVIATIONS" in os.environ:
        Path(os.environ["PLSC_DEVIATIONS"]).write_text(json.dumps(_largest, indent=1, sort_keys=True))
