"""The quickstart's six configs, each through the command line, on toy images and at toy length."""

import pytest

from plsc.checkpoint.reader import Checkpoint
from tests.integration.runs import SMALL_ENCODER, data, make_digits, metrics, train


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """All six runs, in one directory."""
    folder = tmp_path_factory.mktemp("quickstart")
    images = make_digits(folder / "digits")
    head = ["Model.head.in_features=16", "Model.head.num_classes=2", "Global.epochs=3"]
    printed = {}
    printed["tokenizer"] = train(
        "configs/quickstart/tokenizer.yaml", [*data(images), "Global.epochs=3", "Model.vocab_size=16"], folder
    )
    pretrain = [*data(images, evaluation=False), *SMALL_ENCODER, "Global.epochs=3", "Model.vocab_size=16"]
    printed["pretrain"] = train("configs/quickstart/pretrain.yaml", pretrain, folder)
    for name in ("linprobe", "linprobe_random", "finetune", "scratch"):
        printed[name] = train(f"configs/quickstart/{name}.yaml", [*data(images), *SMALL_ENCODER, *head], folder)
    return folder / "output" / "quickstart", printed


RUNS = ("tokenizer", "pretrain", "linprobe", "linprobe_random", "finetune", "scratch")


@pytest.mark.parametrize("name", RUNS)
def test_a_run_writes_the_documented_files(finished, name):
    run = finished[0] / name
    for file in ("config.yaml", "env.json", "train.log", "metrics.jsonl"):
        assert (run / file).stat().st_size > 0
    assert any((run / "vdl").iterdir())
    assert Checkpoint.open(run).path.name.startswith("step_")
    assert metrics(run)[-1]["step"] == 15


@pytest.mark.parametrize("name", ["linprobe", "linprobe_random", "finetune", "scratch"])
def test_classifiers_are_evaluated_on_every_image(finished, name):
    rows = metrics(finished[0] / name, "eval")
    assert rows and {"top1", "top5", "loss"} <= set(rows[-1])
    assert all((row["top1"] / 100 * 20) == pytest.approx(round(row["top1"] / 100 * 20)) for row in rows)
    assert rows[-1]["top5"] == 100
    assert (finished[0] / name / "checkpoints" / "best").is_file()


def test_pretraining_draws_figures(finished):
    assert list((finished[0] / "pretrain" / "pictures").glob("*.png"))


def test_weights_taken_from_pretraining_are_reported(finished):
    printed = finished[1]
    assert "initialized from output/quickstart/pretrain" in printed["finetune"]
    assert "newly initialized" in printed["finetune"]
    assert "initialized from" not in printed["scratch"]


def test_a_frozen_encoder_does_not_change(finished):
    probe, source = (Checkpoint.open(finished[0] / name).model() for name in ("linprobe", "pretrain"))
    names = [name for name in probe if name.startswith("model.encoder.")]
    assert names
    assert all((probe[name] == source[name]).all() for name in names)


def test_the_resolved_config_can_be_run(finished, tmp_path):
    text = train(str(finished[0] / "scratch" / "config.yaml"), [], finished[0].parent.parent)
    assert "this run is complete" in text
