"""The verb `evaluate-frozen` as a user meets it; what it computes is tested in tests/evaluation."""

from pathlib import Path

import pytest

from plsc import runtime
from plsc.cli import main
from tests.integration.runs import make_digits

CONFIG = str(Path(__file__).resolve().parent.parent.parent / "configs" / "quickstart" / "linprobe_random.yaml")
TINY = ["Model.encoder.embed_dim=16", "Model.encoder.depth=2", "Model.head.in_features=16"]


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Runs `plsc evaluate-frozen ...` in a folder with images; returns the exit code and what was printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runtime, "setup", lambda num_threads=None: {})
    make_digits("datasets/digits", per_class=10)

    def run(*arguments, overrides=()):
        try:
            code = main(["evaluate-frozen", "-c", CONFIG, *arguments, "-o", *TINY, *overrides])
        except SystemExit as stop:
            code = stop.code
        return (code, *capsys.readouterr())

    return run


def test_a_table_and_a_file(cli, tmp_path):
    code, out, _ = cli("--protocols", "knn", "layers", "--epochs", "2", "--json", "deep/found.json")
    assert code == 0 and "knn" in out and "mean of block 2" in out
    assert (tmp_path / "deep" / "found.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["datasets", "deep"]


def test_the_test_images_can_be_left_alone(cli):
    code, out, _ = cli("--protocols", "knn", "--validation-only", overrides=["DataLoader.Eval.dataset.root=missing"])
    assert code == 0 and " -  " in out


@pytest.mark.parametrize(
    ("arguments", "overrides", "message"),
    [
        (["--epochs", "0"], [], "--epochs must be at least 1, got 0"),
        (["--validation-share", "1"], [], "--validation-share must be in (0, 1), got 1"),
        (["--protocols", "kmeans"], [], "invalid choice: 'kmeans'"),
        ([], ["DataLoader.Eval=null", "Metric=null"], "DataLoader.Eval: the config has no evaluation set"),
        ([], ["Init.checkpoint=nowhere"], "nowhere does not exist"),
        ([], ["DataLoader.Train.dataset.root=datasets/digits/train/0"], "the dataset has no labels"),
    ],
)
def test_mistakes_are_named(cli, arguments, overrides, message):
    code, _, err = cli(*arguments, overrides=overrides)
    assert code == 2 and message in err
