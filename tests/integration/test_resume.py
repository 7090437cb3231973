"""An interrupted and resumed run is bit-equal to an uninterrupted one."""

import signal
import subprocess
import time

import numpy as np
import pytest

from plsc.checkpoint.reader import Checkpoint
from tests.integration.runs import command, data, environment, make_digits, metrics, train

PRETRAIN = "configs/quickstart/pretrain.yaml"
SMALL_CAE = [
    "Model.encoder.embed_dim=16", "Model.encoder.depth=2", "Model.encoder.num_heads=2",
    "Model.encoder.drop_path_rate=0.2", "Model.vocab_size=32", "~Callbacks",
    "Tokenizer={_delete_: true, name: RandomTokenizer, vocab_size: 32, patch_size: 4}",
]  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_digits(tmp_path_factory.mktemp("images") / "digits")


def options(images, output, *more):
    return [*data(images, evaluation=False), *SMALL_CAE, f"Global.output_dir={output}", "Global.epochs=20", *more]


def arrays(run):
    checkpoint = Checkpoint.open(run)
    return {part: checkpoint.read(part) for part in ("model", "optimizer")}


def same(left, right):
    for part in left:
        assert set(left[part]) == set(right[part])
        for name, value in left[part].items():
            np.testing.assert_array_equal(value, right[part][name], err_msg=f"{part} {name}")


@pytest.fixture(scope="module")
def uninterrupted(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    train(PRETRAIN, options(images, "whole"), folder)
    return folder / "whole"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_same_command_continues(images, uninterrupted, tmp_path, number):
    more = ["DataLoader.Train.loader.num_workers=1"] if number == signal.SIGTERM else []
    line = command(PRETRAIN, options(images, "cut", *more))
    process = subprocess.Popen(
        line, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.time() + 120
    log = tmp_path / "cut" / "metrics.jsonl"
    while time.time() < deadline and not (log.is_file() and log.read_text(encoding="utf-8").count("\n") > 4):
        time.sleep(0.02)
    process.send_signal(number)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, text
    assert "The same command goes on from there" in text
    stopped = Checkpoint.open(tmp_path / "cut").state["step"]
    assert 0 < stopped < 100
    text = train(PRETRAIN, options(images, "cut", *more), tmp_path)
    assert f"at step {stopped}" in text
    same(arrays(tmp_path / "cut"), arrays(uninterrupted))


def test_a_resume_in_the_middle_of_an_epoch_under_accumulation(images, tmp_path):
    more = ["Global.accumulate_steps=2", "DataLoader.Train.loader.batch_size=2", "Global.epochs=4"]
    train(PRETRAIN, options(images, "whole", *more), tmp_path)
    train(PRETRAIN, options(images, "cut", *more, "Global.max_train_step=7"), tmp_path)
    train(PRETRAIN, options(images, "cut", *more), tmp_path)
    same(arrays(tmp_path / "cut"), arrays(tmp_path / "whole"))
    assert [row["step"] for row in metrics(tmp_path / "cut")][-1] == 20


def test_the_tokenizer_training_resumes_with_its_temperature(images, tmp_path):
    config = "configs/quickstart/tokenizer.yaml"
    shared = [*data(images), "Global.epochs=4", "Model.vocab_size=16", "~Callbacks"]
    train(config, [*shared, "Global.output_dir=whole"], tmp_path)
    train(config, [*shared, "Global.output_dir=cut", "Global.max_train_step=9"], tmp_path)
    train(config, [*shared, "Global.output_dir=cut"], tmp_path)
    same(arrays(tmp_path / "cut"), arrays(tmp_path / "whole"))


def test_finetuning_with_workers_an_average_and_evaluation_resumes(images, tmp_path):
    config = "configs/quickstart/scratch.yaml"
    shared = [
        *data(images), *SMALL_CAE[:4], "Model.head.in_features=16", "Model.head.num_classes=2", "Global.epochs=4",
        "EMA.decay=0.9", "Optimizer.layer_decay=0.7", "DataLoader.Train.loader.num_workers=2",
    ]  # fmt: skip
    train(config, [*shared, "Global.output_dir=whole"], tmp_path)
    train(config, [*shared, "Global.output_dir=cut", "Global.max_train_step=11"], tmp_path)
    train(config, [*shared, "Global.output_dir=cut"], tmp_path)
    same(arrays(tmp_path / "cut"), arrays(tmp_path / "whole"))
    averages = [Checkpoint.open(tmp_path / run).ema() for run in ("cut", "whole")]
    same({"ema": averages[0]}, {"ema": averages[1]})
    assert metrics(tmp_path / "whole", "eval_ema")
