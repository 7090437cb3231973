"""A tiny classification run for fault tests."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from plsc.checkpoint.reader import Checkpoint
from tests.conftest import SHORT
from tests.integration.runs import ROOT, SMALL, SMALL_ENCODER, data

CONFIG = str(ROOT / "configs/quickstart/scratch.yaml")
CLOCKS = ("time", "data_wait", "images_per_second")


def overrides(images, output, *more):
    """Two epochs of three steps, unless `more` says otherwise."""
    run = [f"Global.output_dir={output}", "Global.progress=none", "Global.save_every_epochs=1"]
    return [*SMALL, *data(images), *SMALL_ENCODER, *SHORT, *run, *more]


def arguments(images, output, *more):
    return ["train", "-c", CONFIG, "-o", *overrides(images, output, *more)]


def arrays(run):
    """All arrays of a run's newest checkpoint, by part and name."""
    checkpoint = Checkpoint.open(run)
    parts = ("model", "optimizer")
    return {f"{part}/{name}": a for part in parts for name, a in checkpoint.read(part).items()}


def assert_same(run, other):
    left, right = arrays(run), arrays(other)
    assert set(left) == set(right)
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name], err_msg=name)


def lines(run):
    """Lines of metrics.jsonl without the fields that depend on the machine's speed."""
    rows = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [json.dumps({key: value for key, value in row.items() if key not in CLOCKS}) for row in rows]


class Disk:
    """A small file system in memory."""

    def __init__(self, path):
        self.path = path

    def mount(self, options):
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(self.path)], check=True, capture_output=True)

    def remount(self, options):
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True, capture_output=True)

    def unmount(self):
        subprocess.run(["umount", str(self.path)], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path / "disk")
    disk.path.mkdir()
    try:
        disk.mount("size=64m")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount file systems")
    yield disk
    disk.unmount()


def size_of(folder):
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def _state(entry):
    """State and parent of a process; None if it has ended or is a zombie."""
    try:
        state, parent = (entry / "stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[:2]
    except OSError:
        return None
    return None if state == "Z" else (state, int(parent))


def children_of(pid):
    """Processes that `pid` started and that are still running."""
    found = {int(entry.name): _state(entry) for entry in Path("/proc").glob("[0-9]*")}
    return [child for child, state in found.items() if state is not None and state[1] == pid]


def alive(pid):
    return _state(Path(f"/proc/{pid}")) is not None
