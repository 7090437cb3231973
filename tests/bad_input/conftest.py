"""A folder with two configs and images for every test."""

import pytest

from plsc import runtime
from plsc.cli import main
from tests.bad_input.toys import CLASSIFY, PRETRAIN, make_images


@pytest.fixture(scope="session")
def bad_input_images(tmp_path_factory):
    """Images that no test may change."""
    folder = tmp_path_factory.mktemp("bad_input") / "images"
    make_images(folder)
    return folder


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys, bad_input_images):
    """Runs `plsc ...` beside classify.yaml, pretrain.yaml and images; returns the exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runtime, "setup", lambda num_threads=None: {})
    (tmp_path / "classify.yaml").write_text(CLASSIFY, encoding="utf-8")
    (tmp_path / "pretrain.yaml").write_text(PRETRAIN, encoding="utf-8")
    (tmp_path / "images").symlink_to(bad_input_images)

    def run(*arguments):
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        return (code, *capsys.readouterr())

    return run
