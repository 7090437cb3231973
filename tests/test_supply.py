"""What a user installs: bounds that were tried, types, and a package that holds its configs."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.integration.runs import SMALL, SMALL_ENCODER, data, make_digits

ROOT = Path(__file__).resolve().parent.parent
BUILT_FROM = ("plsc", "plsc_ssl.py", "configs", "setup.py", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def bounds():
    spec = importlib.util.spec_from_file_location("lowest", ROOT / "tools" / "lowest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_requirement_has_a_lower_bound_that_can_be_tried(bounds):
    found = bounds.requirements((ROOT / "setup.py").read_text(encoding="utf-8"))
    assert len(found) > 15
    unbound = {requirement for requirement in found if bounds.lowest(requirement) is None}
    assert unbound == {"numpy<2", "protobuf<5"}, "what the GPU extra adds to lower bounds that others give"


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        ("pyyaml>=6.0", "pyyaml==6.0"), ("paddlepaddle>=2.6.2,<3.4", "paddlepaddle==2.6.2"), ("numpy<2", None),
        ("tqdm", None), ("types-PyYAML>=6.0.12", "types-PyYAML==6.0.12"),
    ],
)  # fmt: skip
def test_the_lowest_version(bounds, requirement, expected):
    assert bounds.lowest(requirement) == expected


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A source archive, and a wheel built from it."""
    pytest.importorskip("build")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in BUILT_FROM:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--outdir", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=target)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (archive,), (wheel,) = target.glob("*.tar.gz"), target.glob("*.whl")
    return archive, wheel


@pytest.mark.slow
def test_both_archives_hold_configs_and_the_mark_of_types(built):
    archive, wheel = built
    configs = {str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*.yaml")}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "plsc").rglob("*.py")} | {"plsc/py.typed", "plsc_ssl.py"}
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {*configs, *sources, "setup.py", "LICENSE", "README.md"} <= names
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    assert {*(f"plsc/{name}" for name in configs), *sources} <= names
    assert not [name for name in names if name.startswith(("tests", "tools"))]


@pytest.mark.slow
def test_a_clean_environment_trains_by_a_shipped_config(built, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    folder = tmp_path / "venv" / "bin"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}

    def run(*command):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    run(folder / "pip", "install", "-q", "--disable-pip-version-check", f"{built[1]}[cpu]")
    where = run(
        folder / "python", "-c", "import plsc, plsc.config.files; print(plsc.__file__, plsc.config.files.config_root())"
    )
    assert all(part.startswith(str(tmp_path)) for part in where.split()[-2:])
    images = make_digits(tmp_path / "images")
    overrides = [*SMALL, *data(images), *SMALL_ENCODER, "Global.epochs=1", "LRScheduler.warmup_epochs=0"]
    overrides += ["Model.head.in_features=16", "Model.head.num_classes=2", "Global.output_dir=run"]
    text = run(folder / "plsc", "train", "-c", "configs/quickstart/scratch.yaml", "-o", *overrides)
    assert "done: " in text and (tmp_path / "run" / "checkpoints" / "latest").is_file()
