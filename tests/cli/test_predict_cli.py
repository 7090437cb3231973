"""The verbs `predict` and `eval --details` on a real run."""

import json

import numpy as np
import pytest

from plsc.inference.per_class import table
from tests.integration.runs import ROOT, SMALL, SMALL_ENCODER, data, metrics


def test_a_table(cli, toy_runs):
    code, out, err = cli("predict", toy_runs.images / "val", "--checkpoint", toy_runs.classifier, "--topk", 1)
    lines = out.splitlines()
    assert code == 0 and err == "" and len(lines) == 12
    assert lines[0].startswith(f"{toy_runs.images}/val/0/0.png  ") and lines[0].endswith("%")


def test_json_in_batches_is_the_same_as_one_by_one(cli, toy_runs):
    options = ["predict", toy_runs.images / "val", "--checkpoint", toy_runs.classifier, "--format", "json"]
    rows = [json.loads(line) for line in cli(*options)[1].splitlines()]
    single = [json.loads(line) for line in cli(*options, "--batch-size", 1)[1].splitlines()]
    assert [row["file"] for row in rows] == [row["file"] for row in single]
    assert set(rows[0]["predictions"][0]) == {"name", "index", "probability"}
    for row, other in zip(rows, single):
        probabilities = [[one["probability"] for one in found["predictions"]] for found in (row, other)]
        assert np.allclose(*probabilities, atol=1e-5)


def test_a_damaged_file_does_not_stop_the_others(cli, toy_runs, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    good = toy_runs.images / "val" / "0" / "0.png"
    options = ["--checkpoint", toy_runs.classifier]
    code, out, err = cli("predict", "bad.png", good, *options, "--format", "json")
    first, second = map(json.loads, out.splitlines())
    assert code == 1 and "is not an image of a known format" in first["error"] and second["predictions"]
    assert err == "1 file(s) could not be read or classified\n"
    assert "bad.png  cannot be read" in cli("predict", "bad.png", *options)[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.png"], "the following arguments are required: --checkpoint"),
        (["x.png", "--checkpoint", "nowhere"], "nowhere does not exist"),
        (["x.png", "--checkpoint", "RUN"], "x.png: there is no such file or folder"),
        (["x.png", "--checkpoint", "RUN", "--topk", "0"], "--topk must be at least 1, got 0"),
        (["x.png", "--checkpoint", "RUN", "--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (["IMAGES", "--checkpoint", "PRETRAIN"], "a run of MaskedImageModeling, which does not classify"),
        (["x.png", "--checkpoint", "RUN", "-o", "Model.head.num_classes=3"], "is of another model"),
    ],
)
def test_mistakes_are_named(cli, toy_runs, arguments, message):
    known = {"RUN": toy_runs.classifier, "PRETRAIN": toy_runs.pretrain, "IMAGES": toy_runs.images}
    code, out, err = cli("predict", *(known.get(argument, argument) for argument in arguments))
    assert code == 2 and message in err and "Traceback" not in err and out == ""


def test_eval_in_detail(cli, toy_runs, tmp_path):
    plain = json.loads(cli("eval", "--checkpoint", toy_runs.classifier)[1])
    code, out, _ = cli("eval", "--checkpoint", toy_runs.classifier, "--details", "--json", "deep/found.json")
    found = json.loads((tmp_path / "deep" / "found.json").read_text(encoding="utf-8"))
    assert code == 0 and "class  images       %" in out and "ece" in out
    assert {name: found["metrics"][name] for name in plain} == pytest.approx(plain)
    matrix = np.array(found["confusion_matrix"])
    assert matrix.sum() == 12 and 100 * np.trace(matrix) / 12 == pytest.approx(plain["top1"])
    assert [one["images"] for one in found["classes"]] == [6, 6]
    assert sum(one["images"] for one in found["calibration"]) == 12


def test_details_of_a_task_without_classes(cli, toy_runs):
    code, _, err = cli("eval", "--checkpoint", toy_runs.tokenizer, "--details")
    assert code == 2 and "which does not classify; leave --details out" in err


def test_the_table_shows_the_matrix_of_few_classes():
    counts = [[9, 1], [0, 12]]
    found = {
        "metrics": {"top1": 95.0, "loss": 0.25, "ece": 1.5},
        "classes": [
            {"name": "cat", "images": 10, "accuracy": 90.0},
            {"name": "dog-long-name", "images": 12, "accuracy": 100.0},
        ],
        "confusion_matrix": counts,
    }
    lines = table(found).splitlines()
    assert lines[-5:] == [
        "               cat dog-long",
        "cat              9        1",
        "dog-long         .       12",
        "",
        "top1 95%  loss 0.25  ece 1.5%",
    ]
    many = [{"name": str(i), "images": 1, "accuracy": 100.0} for i in range(21)]
    counts = np.eye(21, dtype=int).tolist()
    assert "in rows" not in table({**found, "classes": many, "confusion_matrix": counts})


def test_many_classifiers_predict_nothing(cli, toy_runs, tmp_path):
    grid = ["Model.num_classes=2", "Model.blocks=[1, 2]", "Model.rates=[1.0]", "Global.output_dir=grid"]
    small = [*data(toy_runs.images), *SMALL_ENCODER, f"Init.checkpoint={toy_runs.pretrain}", *grid]
    small += ["Global.epochs=2", "Global.eval_every_epochs=1", "Global.report=true", "Global.progress=lines"]
    code, _, err = cli("train", "-c", ROOT / "configs/quickstart/lingrid.yaml", "-o", *SMALL, *small)
    assert code == 0, err
    best = metrics(tmp_path / "grid", "eval")[-1]
    heads = [f"top1 {kind} of {n}, rate 1" for n in ("1 block", "2 blocks") for kind in ("cls", "cls+mean")]
    assert best["top1"] == max(best[name] for name in heads)
    html = (tmp_path / "grid" / "report.html").read_text(encoding="utf-8")
    assert "each of the 4 parts of grid" in html and "<td class=wrap>cls of 1 block, rate 1</td>" in html
    assert "Features of the encoder" in html and "Confusion matrix" not in html
    code, _, err = cli("predict", toy_runs.images / "val" / "0", "--checkpoint", "grid")
    assert code == 2 and "holds 4 classifiers and none of them is chosen; train the best alone" in err
