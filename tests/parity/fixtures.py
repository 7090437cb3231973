"""The numbers of the reference: where they are and how to read them.

`PLSC_GOLDEN_DIR` points at another folder of fixtures of the same form; by default it is `golden/` beside this file.
What each array means: `golden/README.md`.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

GOLDEN_DIR = Path(os.environ.get("PLSC_GOLDEN_DIR", Path(__file__).parent / "golden"))


def read(path):
    """An npz fixture: its hyper-parameters and its arrays by name."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    config = json.loads(str(arrays.pop("config_json"))) if "config_json" in arrays else {}
    return config, arrays


def _kind(path):
    with np.load(path) as archive:
        return json.loads(str(archive["config_json"])).get("kind") if "config_json" in archive.files else None


def of_kind(*kinds):
    """`pytest.mark.parametrize` arguments: every npz fixture of these kinds, or one skipped case that says why."""
    paths = [path for path in sorted(GOLDEN_DIR.glob("*.npz")) if _kind(path) in kinds]
    if paths:
        return [pytest.param(path, id=path.stem) for path in paths]
    reason = f"no fixture of kind {'/'.join(kinds)} in the golden folder"
    return [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]


def named(filename):
    """The path of one fixture file; skips the test if the folder does not have it."""
    path = GOLDEN_DIR / filename
    if not path.exists():
        pytest.skip(f"{filename} is not in the golden folder")
    return path


def group(arrays, prefix):
    """The arrays below `prefix/`, without the prefix."""
    return {name[len(prefix) + 1 :]: value for name, value in arrays.items() if name.startswith(prefix + "/")}
