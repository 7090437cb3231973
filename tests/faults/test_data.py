"""Runs whose data becomes unreadable."""

import json
import shutil

import pytest

from plsc.checkpoint.reader import Checkpoint
from tests.faults.scenes import arguments, assert_same, lines
from tests.integration.runs import metrics

SKIP = ["DataLoader.Train.loader.on_bad_image=skip", "DataLoader.Eval.loader.on_bad_image=skip"]


@pytest.fixture
def images(tmp_path, toy_runs):
    """Images with one bad file per split."""
    shutil.copytree(toy_runs.images, tmp_path / "images")
    for part in ("train", "val"):
        (tmp_path / "images" / part / "1" / "4.png").write_bytes(b"not an image")
    return tmp_path / "images"


def test_stop_names_the_file_and_the_run_continues_after_a_repair(tmp_path, images, toy_runs, cli, tally):
    command = arguments(images, tmp_path / "run", "DataLoader.Eval=null", "Metric=null", "Global.monitor=null")
    code, _, error = cli(*command)
    assert code == 2
    assert f"{images}/train/1/4.png: is not an image of a known format, or is damaged; replace or remove" in error
    assert "DataLoader.Train.loader.on_bad_image: skip" in error
    shutil.copy(toy_runs.images / "train" / "1" / "4.png", images / "train" / "1" / "4.png")
    assert cli(*command)[0] == 0
    tally.add("faults survived", 1)


def test_skip_counts_lists_and_resumes(tmp_path, images, cli, tally):
    assert cli(*arguments(images, tmp_path / "whole", *SKIP))[0] == 0
    cut = arguments(images, tmp_path / "cut", *SKIP, "DataLoader.Train.loader.num_workers=2")
    assert cli(*cut, "Global.max_train_step=4")[0] == 0
    assert cli(*cut)[0] == 0
    assert_same(tmp_path / "cut", tmp_path / "whole")
    for run in ("whole", "cut"):
        log = (tmp_path / run / "train.log").read_text(encoding="utf-8")
        assert log.count(f"bad image, skipped: {images}/train/1/4.png: is not an image") == 1
        assert f"bad image, skipped: {images}/val/1/4.png: is not an image" in log
        assert metrics(tmp_path / run)[-1]["bad_images"] == metrics(tmp_path / run, "eval")[-1]["bad_images"] == 1
    state = Checkpoint.open(tmp_path / "cut").state
    assert [text.split(":")[0] for _, text in state["bad_images"]["found"]] == [f"{images}/train/1/4.png"]
    tally.add("faults survived", 1)


def test_an_evaluation_stops_at_bad_images_unless_they_are_skipped(tmp_path, images, cli):
    assert cli(*arguments(images, tmp_path / "run", *SKIP))[0] == 0
    code, _, error = cli("eval", "--checkpoint", tmp_path / "run", "-o", "DataLoader.Eval.loader.on_bad_image=stop")
    assert code == 2 and "val/1/4.png: is not an image" in error and "Eval.loader.on_bad_image: skip" in error
    code, out, error = cli("eval", "--checkpoint", tmp_path / "run")
    assert json.loads(out)["bad_images"] == 1 and "bad image, skipped: " in error
    share = json.loads(out)["top1"] * 11 / 100
    assert share == pytest.approx(round(share)), "of the eleven that could be read"


def test_too_many_bad_images(tmp_path, images, cli):
    for number in range(3):
        (images / "train" / "0" / f"{number}.png").write_bytes(b"")
    code, _, error = cli(*arguments(images, tmp_path / "run", *SKIP, "DataLoader.Train.loader.max_bad_images=3"))
    assert code == 2
    assert "4 images cannot be read; DataLoader.Train.loader.max_bad_images allows 3:\n  " in error
    assert error.split("error:")[1].count(": is not an image") == 4 and "or remove them, or raise the limit" in error


def test_metrics_are_bit_equal(tmp_path, toy_runs, cli):
    def run(name, *more):
        assert cli(*arguments(toy_runs.images, tmp_path / name, *more))[0] == 0
        return lines(tmp_path / name)

    expected = run("first", "Global.deterministic=true")
    assert len(expected) > 4
    assert run("second") == expected
    for workers in (1, 3):
        assert run(f"workers {workers}", f"DataLoader.Train.loader.num_workers={workers}") == expected
    other = run("other", "Global.seed=1")
    assert len(other) == len(expected) and other[0] != expected[0]


def test_clock_jumps_do_not_change_the_speed(tmp_path, toy_runs, cli, monkeypatch):
    jumps = iter(range(10**6))
    monkeypatch.setattr("time.time", lambda: 1e9 + (-1) ** next(jumps) * 4e8)
    assert cli(*arguments(toy_runs.images, tmp_path / "run", "Global.report=true"))[0] == 0
    for row in metrics(tmp_path / "run"):
        assert 0 < row["images_per_second"] < 1e6 and 0 <= row["data_wait"] <= 1
    left = [line.split("left ")[1] for line in (tmp_path / "run" / "train.log").read_text(encoding="utf-8").splitlines()
            if "img/s" in line]  # fmt: skip
    assert left and all(text.startswith("0m") for text in left)
