"""A folder with two configs and images for every test."""

import shutil

import pytest

from plsc import runtime
from plsc.cli import main
from tests.bad_input.toys import CLASSIFY, PRETRAIN, make_images


@pytest.fixture(scope="session")
def bad_input_images(tmp_path_factory):
    """Images shared by all tests; no test may change them."""
    folder = tmp_path_factory.mktemp("bad_input") / "images"
    make_images(folder)
    return folder


@pytest.fixture
def cli(cli, tmp_path, bad_input_images):
    """Run `plsc` in a folder with classify.yaml, pretrain.yaml and images."""
    (tmp_path / "classify.yaml").write_text(CLASSIFY, encoding="utf-8")
    (tmp_path / "pretrain.yaml").write_text(PRETRAIN, encoding="utf-8")
    (tmp_path / "images").symlink_to(bad_input_images)
    return cli


@pytest.fixture(scope="session")
def bad_input_runs(tmp_path_factory, bad_input_images):
    """A folder with finished runs of both configs, `classifier` and `pretrained`; no test may change it."""
    folder = tmp_path_factory.mktemp("bad_input_runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(runtime, "setup", lambda num_threads=None: {})
        (folder / "images").symlink_to(bad_input_images)
        for name, config in (("classifier", CLASSIFY), ("pretrained", PRETRAIN)):
            (folder / f"{name}.yaml").write_text(config, encoding="utf-8")
            assert main(["train", "-c", f"{name}.yaml", "-o", f"Global.output_dir={name}"]) == 0
    return folder


@pytest.fixture
def runs(cli, tmp_path, bad_input_runs):
    """The runs `classifier`, which a test may damage, and `pretrained`, beside the configs."""
    shutil.copytree(bad_input_runs / "classifier", tmp_path / "classifier")
    (tmp_path / "pretrained").symlink_to(bad_input_runs / "pretrained")
