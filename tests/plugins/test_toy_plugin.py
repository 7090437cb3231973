"""A method in a package of its own, known to plsc by its entry point alone, is trained from its own config."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plsc.config.files import load

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = Path(__file__).resolve().parent / "toy_plugin"
BUILD = "import setuptools; setuptools.setup()"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the built package and its metadata, as an installation leaves them; on no search path yet."""
    pytest.importorskip("setuptools")
    source, target = tmp_path_factory.mktemp("source") / "toy_plugin", tmp_path_factory.mktemp("site-packages")
    shutil.copytree(SOURCE, source)
    command = [sys.executable, "-c", BUILD, "-q", "egg_info", "--egg-base", target, "build", "--build-lib", target]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    return target


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """64 images that are bright at the top, so that a rotation can be seen."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for index in range(64):
        pixels = rng.integers(0, 80, (32, 32, 3)) + np.linspace(170, 0, 32).astype(int)[:, None, None]
        Image.fromarray(pixels.astype("uint8")).save(folder / f"{index:02d}.png")
    return folder


def run(folder, *arguments, plugin=None):
    """`tools/train.py` in a process of its own that is started outside the repository."""
    environment = {**os.environ, "PYTHONPATH": str(plugin or ""), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tools" / "train.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_plug_in_trains(installed, images, tmp_path):
    config = installed / "plsc_rotation" / "rotation.yaml"
    overrides = [f"DataLoader.Train.dataset.root={images}", "Global.output_dir=run", "Global.epochs=6"]
    overrides += ["LRScheduler.learning_rate=1e-2", "Global.log_every_steps=1"]
    result = run(tmp_path, "-c", config, "-o", *overrides, plugin=installed)
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [row["loss"] for row in rows if row["split"] == "train"]
    assert len(losses) == 24
    assert np.mean(losses[-4:]) < 0.7 * losses[0]
    assert (tmp_path / "run" / "checkpoints" / "latest").exists()

    again = run(tmp_path, "-c", "run/config.yaml", plugin=installed)  # the resolved config runs as it is
    assert again.returncode == 0, again.stderr
    assert "this run is complete" in again.stderr


def test_its_arguments_are_checked_like_any_other(installed, tmp_path):
    config = installed / "plsc_rotation" / "rotation.yaml"
    result = run(tmp_path, "-c", config, "-o", "Task.label_smooting=0.1", "Model.encoder.width=wide", plugin=installed)
    assert result.returncode == 2
    assert "RotationPrediction has no argument 'label_smooting'; did you mean 'label_smoothing'?" in result.stderr
    assert "Model.encoder.width: expected a whole number, got the text 'wide'" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_it_is_listed(installed, tmp_path):
    result = run(tmp_path, "--list", "task", plugin=installed)
    assert "RotationPrediction(label_smoothing: float = 0.0)\n    Predicts by how many quarter turns" in result.stdout


def test_without_installation_its_name_is_unknown(installed, tmp_path):
    result = run(tmp_path, "-c", installed / "plsc_rotation" / "rotation.yaml")
    assert result.returncode == 2
    assert "Task.name: no task is called 'RotationPrediction'" in result.stderr
    assert "of your own components in `imports: [module]`" in result.stderr


def test_imports_of_a_config_do_as_well_as_an_entry_point(installed, images, tmp_path):
    shutil.copytree(installed / "plsc_rotation", tmp_path / "plsc_rotation")
    overrides = [f"DataLoader.Train.dataset.root={images}", "imports=[plsc_rotation]", "Global.max_train_step=1"]
    result = run(tmp_path, "-c", "plsc_rotation/rotation.yaml", "-o", *overrides)
    assert result.returncode == 0, result.stderr
    resolved = tmp_path / "output" / "rotation" / "config.yaml"
    assert load(resolved)["imports"] == ["plsc_rotation"]
