"""Resumed runs whose data, batch size, seed or config has changed: converted if that is exact, otherwise refused."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint.reader import Checkpoint
from plsc.report.page import page
from plsc.runs.history import read_history
from plsc.runs.reader import read_run
from tests.faults.scenes import arguments, arrays, assert_same
from tests.integration.runs import metrics

# Twelve images of two classes in batches of four: three steps an epoch, here four epochs
FOUR = ["Global.epochs=4", "Global.log_every_steps=1", "Global.keep_last=9", "EMA.decay=null"]


@pytest.fixture
def images(tmp_path, toy_runs):
    shutil.copytree(toy_runs.images, tmp_path / "images")
    return tmp_path / "images"


@pytest.fixture
def train(images, tmp_path, cli):
    """`train(name, *overrides)` runs four epochs and returns the exit code and the output."""

    def start(name, *more):
        code, out, error = cli(*arguments(images, tmp_path / name, *FOUR, *more))
        return code, out + error

    return start


def losses(run):
    return [(row["step"], row["epoch"], row["loss"]) for row in metrics(run)]


def untouched(run):
    """Content of a run's directory that a refused start must not change."""
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name not in (".lock",)}


BATCH = "DataLoader.Train.loader.batch_size="


def test_twice_the_batch_trains_all_epochs(train, tmp_path):
    assert train("run", BATCH + "2", "Global.max_train_step=12")[0] == 0  # two of four epochs of six steps
    old = Checkpoint.open(tmp_path / "run")
    code, text = train("run", "Global.max_train_step=null")
    assert code == 0
    assert "at step 6" in text and "step 12 of 24 becomes step 6 of 12, the same 2 epochs and 0 images" in text
    assert "DataLoader.Train.loader.batch_size: 2 -> 4" in text
    rows = losses(tmp_path / "run")
    assert [row[:2] for row in rows[12:]] == [(7, 2.3333), (8, 2.6667), (9, 3.0), (10, 3.3333), (11, 3.6667), (12, 4.0)]
    last = Checkpoint.open(tmp_path / "run")
    assert (last.path.name, last.step) == ("step_00000012_1", 12)
    assert old.path.name == "step_00000012" and old.state["position"]["global_batch_size"] == 2
    assert [path.name for path in checkpoint_files.checkpoints(last.path.parent)][-2:] == [
        "step_00000009_1",
        "step_00000012_1",
    ]
    run = read_run(tmp_path / "run")
    assert [row["step"] for row in run.rows["train"]] == [*range(1, 13), *range(7, 13)]  # earlier rows are kept
    code, text = train("run")
    assert code == 0 and "this run is complete: 12 of 12 steps" in text


def test_learning_rate_is_that_of_a_run_that_had_this_batch_from_the_start(train, tmp_path):
    assert train("whole")[0] == 0
    assert train("run", BATCH + "2", "Global.max_train_step=12")[0] == 0
    assert train("run")[0] == 0
    rates = [{row["epoch"]: row["lr"] for row in metrics(tmp_path / name)} for name in ("whole", "run")]
    for epoch in (2.3333, 3.0, 4.0):
        assert rates[0][epoch] == pytest.approx(rates[1][epoch], rel=1e-9)


def test_the_same_batch_by_accumulation_continues_equally(train, tmp_path):
    still = "Model.encoder.drop_path_rate=0"  # drop path draws random numbers per micro-batch
    assert train("whole", still)[0] == 0
    assert train("run", still, "Global.max_train_step=7")[0] == 0
    code, text = train("run", still, BATCH + "2", "Global.global_batch_size=4")
    assert code == 0 and "1 x 2 x 2 instead of 1 x 1 x 4: the global batch is 4 as before" in text
    for left, right in zip(losses(tmp_path / "run"), losses(tmp_path / "whole")):
        assert left == pytest.approx(right, abs=1e-5)


def test_half_the_batch_in_the_middle_of_an_epoch(train, tmp_path):
    """Each remaining image of the epoch is used once."""
    assert train("run", "Global.max_train_step=7")[0] == 0
    code, text = train("run", BATCH + "2")
    assert code == 0 and "step 7 of 12 becomes step 14 of 24, the same 2 epochs and 4 images" in text
    assert [row[0] for row in losses(tmp_path / "run")] == [*range(1, 8), *range(15, 25)]


def test_a_batch_that_does_not_divide_the_seen_images_is_refused(train, tmp_path):
    assert train("run", "Global.max_train_step=7")[0] == 0
    before = untouched(tmp_path / "run")
    code, text = train("run", BATCH + "3")
    assert code == 2 and "the 4 images that epoch 3 has used are not a multiple of 3" in text
    assert "undo the change; or start a new run in another Global.output_dir" in text and "Init.take=null" in text
    assert untouched(tmp_path / "run") == before
    assert train("run", "Global.max_train_step=9")[0] == 0
    assert train("run", BATCH + "3")[0] == 0  # at the end of an epoch


def add(images, name):
    pixels = np.random.default_rng(5).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(images / "train" / name)


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda images: add(images, "0/new.png"), "DataLoader.Train.dataset had 12 images and has 13"),
        (lambda images: (images / "train/0/1.png").unlink(), "DataLoader.Train.dataset had 12 images and has 11"),
        (lambda images: (images / "train/0/1.png").rename(images / "train/0/x.png"), "12 images as before, but"),
        (lambda images: [(images / part / "1").rename(images / part / "b") for part in ("train", "val")],
         "had 2 classes and has 2 (removed: '1'; new: 'b'), so labels would change"),
    ],
)  # fmt: skip
def test_other_data_is_refused_and_the_old_data_continues(train, images, tmp_path, change, text):
    assert train("run", "Global.max_train_step=6")[0] == 0
    before = untouched(tmp_path / "run")
    shutil.copytree(images, tmp_path / "kept")
    change(images)
    code, said = train("run")
    assert code == 2 and text in said and "Global.output_dir" in said
    assert untouched(tmp_path / "run") == before
    shutil.rmtree(images)
    (tmp_path / "kept").rename(images)
    assert train("run")[0] == 0
    assert train("whole")[0] == 0
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_moved_data_is_the_same(train, images, tmp_path):
    assert train("run", "Global.max_train_step=6")[0] == 0
    images.rename(tmp_path / "elsewhere")
    roots = [f"DataLoader.{part}.dataset.root={tmp_path}/elsewhere/{name}" for part, name in
             (("Train", "train"), ("Eval", "val"))]  # fmt: skip
    code, text = train("run", *roots)
    assert code == 0 and f"DataLoader.Train.dataset.root: {images}/train -> {tmp_path}/elsewhere/train" in text
    assert "best starts again" not in text


def test_another_seed_between_epochs_only(train, tmp_path):
    assert train("run", "Global.max_train_step=7")[0] == 0
    code, text = train("run", "Global.seed=5")
    assert code == 2 and "Global.seed was 0 and is 5: the order of the images changes in the middle of epoch 3" in text
    assert train("run", "Global.max_train_step=9")[0] == 0
    code, text = train("run", "Global.seed=5")
    assert code == 0 and "Global.seed was 0 and is 5: later epochs draw other random numbers" in text


def test_a_longer_run_is_reported_and_continues(train, tmp_path):
    assert train("run")[0] == 0
    code, text = train("run", "Global.epochs=5")
    assert code == 0 and "the run has 15 steps instead of 12" in text and "Global.epochs: 4 -> 5" in text
    assert Checkpoint.open(tmp_path / "run").state["step"] == 15


def test_a_changed_monitor_resets_best(train, tmp_path):
    assert train("run", "Global.monitor=top1", "Global.max_train_step=6")[0] == 0
    assert Checkpoint.open(tmp_path / "run").state["best"] > 10
    code, text = train("run", "Global.monitor=loss", "Global.monitor_mode=min")
    assert code == 0 and "best starts again: Global.monitor was top1 (max) and is loss (min)" in text
    rows = [row for row in metrics(tmp_path / "run", "eval") if row["step"] > 6]
    lowest = min(rows, key=lambda row: row["loss"])
    assert Checkpoint.open(tmp_path / "run/checkpoints/best").path.name == f"step_{lowest['step']:08d}"
    assert Checkpoint.open(tmp_path / "run").state["best"] == lowest["loss"]


@pytest.mark.parametrize("warmup", ["true", "false"])
def test_an_average_enabled_later_starts_at_the_weights(train, tmp_path, warmup):
    assert train("run", "Global.max_train_step=6")[0] == 0
    start = arrays(tmp_path / "run")
    code, text = train("run", "Global.max_train_step=7", "EMA.decay=0.75", f"EMA.warmup={warmup}")
    assert code == 0 and "EMA.decay is new: the average starts at the weights of the checkpoint" in text
    saved = Checkpoint.open(tmp_path / "run")
    average, weights = saved.ema(), saved.model()
    decay = 0.1 if warmup == "true" else 0.75  # (1 + 0) / (10 + 0): the warm-up counts its own updates
    assert average["updates"] == 1
    for name, value in weights.items():
        expected = decay * start[f"model/{name}"] + (1 - decay) * value
        np.testing.assert_allclose(average[name], expected, rtol=1e-5, atol=1e-6, err_msg=name)
    assert train("run", "Global.max_train_step=8", "EMA.decay=0.75", f"EMA.warmup={warmup}")[0] == 0
    assert Checkpoint.open(tmp_path / "run").ema()["updates"] == 2
    code, text = train("run")
    assert code == 0 and "EMA.decay was removed" in text


def test_earlier_configs_stay_in_the_run_its_report_and_its_model_card(train, tmp_path, cli):
    assert train("run", "Global.max_train_step=6", "Global.monitor=null")[0] == 0
    assert not (tmp_path / "run/configs").exists()
    change = ["Optimizer.weight_decay=0.2", "Global.monitor=null"]
    for _ in range(2):  # the second time nothing changes
        code, text = train("run", "Global.max_train_step=9", *change)
    assert code == 0 and "-> " not in text
    assert train("run", *change)[0] == 0
    run = read_run(tmp_path / "run")
    assert [(past.step, past.epoch) for past in run.history] == [(6, 2.0), (9, 3.0)]
    assert [past.config["Optimizer"]["weight_decay"] for past in run.history] == [0.05, 0.2]
    assert run.config["Optimizer"]["weight_decay"] == 0.2
    html = page([run])
    assert "run until step 6 (epoch 2)" in html and "<td class=wrap>Optimizer.weight_decay</td>" in html
    assert cli("export", "--checkpoint", tmp_path / "run", "--out", tmp_path / "out", "--format", "safetensors")[0] == 0
    card = next((tmp_path / "out").glob("*.md")).read_text(encoding="utf-8")
    assert "| key | until step 6 (epoch 2) | after it |" in card and "| `Optimizer.weight_decay` | 0.05 | 0.2 |" in card
    first = tmp_path / "run/checkpoints/step_00000006"
    assert cli("export", "--checkpoint", first, "--out", tmp_path / "old", "--format", "safetensors")[0] == 0
    assert "until step" not in next((tmp_path / "old").glob("*.md")).read_text(encoding="utf-8")


def test_a_checkpoint_of_an_earlier_version_continues_with_a_note(train, tmp_path):
    assert train("whole")[0] == 0
    assert train("run", "Global.max_train_step=7")[0] == 0
    for path in checkpoint_files.checkpoints(tmp_path / "run/checkpoints"):
        state = json.loads((path / checkpoint_files.STATE).read_text(encoding="utf-8"))
        for key in ("position", "recounted", "callbacks"):
            del state[key]
        (path / checkpoint_files.STATE).write_text(json.dumps({**state, "evaluating": False}), encoding="utf-8")
    code, text = train("run")
    assert code == 0 and "the checkpoint is of an earlier version" in text
    assert_same(tmp_path / "run", tmp_path / "whole")
    assert read_history(tmp_path / "run")
