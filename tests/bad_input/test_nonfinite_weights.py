"""Weights and outputs that are not finite are rejected by every verb that uses them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from plsc.checkpoint import files as checkpoint_files
from tests.bad_input.toys import refused

STEP = "classifier/checkpoints/step_00000002"


def change(name, function):
    """Change one tensor in the newest checkpoint of `classifier`, with valid checksums."""
    path = Path(STEP)
    state = checkpoint_files.read_state(path)
    parts = {part: checkpoint_files.read_arrays(path, part) for part in ("model", "optimizer")}
    parts["model"][name] = function(parts["model"][name])
    config = (path / "config.yaml").read_text(encoding="utf-8")
    checkpoint_files.write(path.parent, state["step"], parts, state, config)


def broken(array):
    array = array.copy()
    array.flat[3] = np.nan
    array.flat[5] = -np.inf
    return array


USERS = [
    ["eval", "--checkpoint", "classifier"],
    ["eval", "--checkpoint", "classifier", "--details"],
    ["evaluate-frozen", "--checkpoint", "classifier", "--protocols", "knn"],
    ["predict", "images/val", "--checkpoint", "classifier"],
    ["predict", "images/val", "--checkpoint", "classifier", "--format", "json"],
    ["extract-features", "images/val", "--checkpoint", "classifier", "--out", "features.npz"],
    ["export", "--checkpoint", "classifier", "--out", "exported"],
    ["convert", "classifier", "weights.safetensors", "--to", "safetensors"],
    ["train", "-c", "classify.yaml", "-o", "Init.checkpoint=classifier", "Init.take=null"],
]


@pytest.mark.parametrize("arguments", USERS, ids=" ".join)
def test_weights_that_are_not_finite_are_refused(cli, runs, arguments):
    change("model.head.linear.weight", broken)
    says = ["holds weights that are not finite: 2 of 32 values of model.head.linear.weight", "before the training"]
    refused(cli, arguments, says)


def test_a_part_that_is_not_taken_need_not_be_finite(cli, runs):
    change("model.head.linear.weight", broken)
    code, _, err = cli("train", "-c", "classify.yaml", "-o", "Init.checkpoint=classifier")
    assert code == 0, err


def test_a_report_says_that_weights_are_not_finite(cli, runs):
    change("model.head.linear.weight", broken)
    code, out, err = cli("report", "classifier", "--out", "page.html")
    assert code == 0, out + err
    assert "holds weights that are not finite" in Path("page.html").read_text(encoding="utf-8")


@pytest.fixture
def overflowing(cli, runs):
    """A run with finite weights and non-finite logits."""
    change("model.head.linear.weight", lambda array: np.full_like(array, 3e38))
    return cli


@pytest.mark.parametrize("details", [[], ["--details"]])
def test_an_evaluation_names_images_whose_outputs_are_not_finite(overflowing, details):
    code, out, err = overflowing("eval", "--checkpoint", "classifier", *details)
    assert code != 0 and not out
    assert "the network's outputs for 8 images are not finite: images/val/class0/0.png, " in err and "3 more" in err


def test_a_prediction_names_images_whose_scores_are_not_finite_and_stays_json(overflowing):
    (Path.cwd() / "text.png").write_text("no image", encoding="utf-8")
    code, out, err = overflowing("predict", "text.png", "images/val", "--checkpoint", "classifier", "--format", "json")
    rows = [json.loads(line, parse_constant=pytest.fail) for line in out.splitlines()]
    assert code == 1 and len(rows) == 9 and "9 file(s)" in err
    assert all(row["error"].startswith("no finite scores") for row in rows[1:])
    code, out, _ = overflowing("predict", "images/val/class0", "--checkpoint", "classifier")
    assert code == 1 and out.splitlines()[0] == "images/val/class0/0.png  no finite scores"


def test_a_run_with_nonfinite_outputs_in_an_evaluation_continues(cli, runs, monkeypatch):
    from plsc.evaluation.evaluate import Evaluator

    plain, calls = Evaluator.__call__, []

    def fails_once(self, on_batch=None):
        calls.append(1)
        if len(calls) == 1:
            raise FloatingPointError("the network's outputs for 1 images are not finite: x.png")
        return plain(self, on_batch)

    monkeypatch.setattr(Evaluator, "__call__", fails_once)
    code, _, err = cli("train", "-c", "classify.yaml", "-o", "Global.epochs=2", "Global.monitor=top1")
    assert code == 0 and "eval at epoch 1.00 gives no metrics: the network's outputs for 1 images" in err
    rows = [json.loads(line) for line in Path("out/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["epoch"] for row in rows if row["split"] == "eval"] == [2.0]
    assert Path("out/checkpoints/best").is_file()


def test_the_features_of_an_image_are_refused_too(cli, runs):
    change("model.encoder.norm.weight", lambda array: np.full_like(array, 3e38))
    out = ["--out", "features.npz"]
    code, _, err = cli("extract-features", "images/val", "--checkpoint", "classifier", *out)
    assert code != 0 and "images/val/class0/0.png" in err and "not finite" in err
    assert not Path("features.npz").exists()
    shutil.rmtree("classifier")
