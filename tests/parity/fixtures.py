"""Reference values: location and reading of the fixtures.

There are three sets of the same form: `golden/`, made with the authors' code, and `golden_tall/` and `golden_wide/`
with unlike settings, made by `make_golden.py`. `PLSC_GOLDEN_DIR` points at one other set instead.
`golden/README.md` describes each array.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
GOLDEN_DIR = Path(os.environ.get("PLSC_GOLDEN_DIR", HERE / "golden"))
FOLDERS = [GOLDEN_DIR] if "PLSC_GOLDEN_DIR" in os.environ else [GOLDEN_DIR, HERE / "golden_tall", HERE / "golden_wide"]


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
    paths = [path for folder in FOLDERS for path in sorted(folder.glob("*.npz")) if _kind(path) in kinds]
    return _cases(paths, f"no fixture of kind {'/'.join(kinds)} in the golden folder")


def called(filename):
    """`pytest.mark.parametrize` arguments: the file of that name of every set, or one skipped case that says why."""
    paths = [folder / filename for folder in FOLDERS if (folder / filename).exists()]
    return _cases(paths, f"{filename} is not in the golden folder")


def _cases(paths, reason):
    if paths:
        return [pytest.param(path, id=f"{path.parent.name}-{path.stem}") for path in paths]
    return [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]


def recorded(filename, select):
    """`pytest.mark.parametrize` arguments from the JSON file of that name of every set.

    Args:
        filename: Such as `schedules.json`.
        select: Takes the file's content, returns pairs (id, case).
    """
    cases = []
    for folder in FOLDERS:
        path = folder / filename
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        for name, case in select(content) if content is not None else ():
            cases.append(pytest.param(case, id=f"{folder.name}-{name}"))
    reason = f"no such case of {filename} in the golden folder"
    return cases or [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]


def named(filename):
    """The path of one fixture file of the first set; skips the test if the set does not have it."""
    path = GOLDEN_DIR / filename
    if not path.exists():
        pytest.skip(f"{filename} is not in the golden folder")
    return path


def group(arrays, prefix):
    """The arrays below `prefix/`, without the prefix."""
    return {name[len(prefix) + 1 :]: value for name, value in arrays.items() if name.startswith(prefix + "/")}
