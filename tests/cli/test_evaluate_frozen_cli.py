"""Command line of the verb `evaluate-frozen`; its results are tested in tests/evaluation."""

import json
from pathlib import Path

import paddle
import pytest

from plsc import runtime
from plsc.checkpoint.files import write
from plsc.cli import main
from plsc.config import plugins, registry
from plsc.config.files import load
from plsc.config.tree import dump
from plsc.tokenizers.base import Target
from tests.integration.runs import make_digits

CONFIG = str(Path(__file__).resolve().parent.parent.parent / "configs" / "quickstart" / "linprobe_random.yaml")
TINY = ["Model.encoder.embed_dim=16", "Model.encoder.depth=2", "Model.head.in_features=16"]


@pytest.fixture
def plain(tmp_path, monkeypatch, capsys):
    """Run `plsc evaluate-frozen ...` in a folder with images; return the exit code and the output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runtime, "setup", lambda num_threads=None: {})
    make_digits("datasets/digits", per_class=10)

    def run(*arguments):
        try:
            code = main(["evaluate-frozen", *arguments])
        except SystemExit as stop:
            code = stop.code
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def cli(plain):
    """Run `plsc evaluate-frozen` with a small config."""
    return lambda *arguments, overrides=(): plain("-c", CONFIG, *arguments, "-o", *TINY, *overrides)


class NoTokenizer(Target):
    """Stand-in for a tokenizer that was removed."""

    kind, vocab_size = "ids", None

    def __call__(self, batch):
        raise AssertionError("the tokenizer is not needed")


@pytest.fixture
def pretrained(tmp_path):
    """A run of pre-training without an evaluation set, whose tokenizer was removed."""
    config = load(CONFIG.replace("linprobe_random", "pretrain"), [*TINY[:2], "Tokenizer.checkpoint=gone"])
    plugins.load_built_in()
    paddle.seed(1)
    parts = {"model": registry.MODELS.build(config["Model"]), "tokenizer": NoTokenizer()}
    task = registry.TASKS.build(config["Task"], **parts, loss=registry.LOSSES.build(config["Loss"]))
    weights = {name: value.numpy() for name, value in task.state_dict().items()}
    write(tmp_path / "run" / "checkpoints", 9, {"model": weights, "optimizer": {}}, {}, dump(config))
    return "run"


def test_a_table_and_a_file(cli, tmp_path):
    code, out, _ = cli("--protocols", "knn", "layers", "--epochs", "2", "--json", "deep/found.json")
    assert code == 0 and "knn" in out and "mean of block 2" in out
    assert (tmp_path / "deep" / "found.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["datasets", "deep"]


def test_the_evaluation_set_can_be_left_out(cli):
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


DIGITS = str(Path(CONFIG).parent.parent / "_base_" / "data" / "digits.yaml")


def test_a_checkpoint_of_pre_training_beside_the_same_encoder_before(plain, pretrained):
    arguments = ["--checkpoint", pretrained, "--data-config", DIGITS, "--protocols", "knn", "ridge", "layers"]
    code, out, err = plain(*arguments, "--random", "--epochs", "1", "--json", "found.json")
    assert code == 0, err
    assert out.splitlines()[0].split() == ["protocol", "top-1", "random", "validation", "chosen"]
    found = json.loads(Path("found.json").read_text())
    assert found["knn"]["top1"] >= 50 and found["random"]["ridge"]["tried"] != found["ridge"]["tried"]
    code, alone, _ = plain(*arguments, "--epochs", "1", "--validation-only")
    assert code == 0 and "random" not in alone


def test_the_random_encoder_is_that_of_a_config_without_weights(cli):
    _, out, _ = cli("--protocols", "knn", "--random")
    row = out.splitlines()[1].split()
    assert row[1] == row[2]  # the config has no Init


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "set either --checkpoint PATH or -c CONFIG"),
        (["-c", CONFIG, "--checkpoint", "run"], "set either --checkpoint PATH or -c CONFIG"),
        (["-c", CONFIG, "--ema"], "--ema needs --checkpoint"),
        (["--checkpoint", "nowhere"], "nowhere does not exist; give a run's output directory"),
        (["--checkpoint", "run"], "for a checkpoint with --data-config FILE"),
        (["--checkpoint", "run", "--data-config", "empty.yaml"], "empty.yaml has no section DataLoader"),
        (["--checkpoint", "run", "--data-config", DIGITS, "--ema"], "holds no moving average"),
    ],
)
def test_mistakes_with_checkpoints_are_named(plain, pretrained, arguments, message):
    Path("empty.yaml").write_text("Global: {epochs: 1}\n")
    code, _, err = plain(*arguments)
    assert code == 2 and message in err
