"""The verbs `sweep` and `doctor`."""

import json
import re
from types import SimpleNamespace

import pytest

from plsc import runtime
from plsc.cli import doctor, sweep
from tests.integration.runs import ROOT, SMALL, SMALL_ENCODER, data
from tests.report.test_measured import pretraining

CONFIG = str(ROOT / "configs/quickstart/scratch.yaml")


def options(toy_runs):
    short = ["Global.epochs=1", "LRScheduler.warmup_epochs=0", "Model.head.in_features=16", "Model.head.num_classes=2"]
    return ["-c", CONFIG, "-o", *SMALL, *SMALL_ENCODER, *data(toy_runs.images), *short]


def test_a_sweep_runs_compares_and_is_not_repeated(cli, toy_runs, tmp_path):
    arguments = ["sweep", *options(toy_runs), "Optimizer.weight_decay=0.0,0.05", "--at-once", 2, "--out", "sweep"]
    code, out, err = cli(*arguments)
    assert code == 0, err
    assert "[2/2]" in out and "weight_decay top1 at epoch" in " ".join(out.split())
    assert "report: sweep/report.html" in out
    folders = sorted(path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir())
    assert folders == ["weight_decay=0.0", "weight_decay=0.05"]
    before = (tmp_path / "sweep" / "weight_decay=0.0" / "metrics.jsonl").stat().st_mtime_ns
    code, out, _ = cli(*arguments)
    assert code == 0 and "done in" not in out and "report:" in out
    assert (tmp_path / "sweep" / "weight_decay=0.0" / "metrics.jsonl").stat().st_mtime_ns == before


def test_one_failure_does_not_stop_the_others(cli, toy_runs, tmp_path):
    roots = f"DataLoader.Train.dataset.root=nowhere,{toy_runs.images}/train"
    code, out, err = cli("sweep", *options(toy_runs), roots, "--out", "sweep")
    assert code == 1 and "ended with code 2; see" in err
    assert "nowhere - -" in " ".join(out.split())
    done = list((tmp_path / "sweep").glob("*/job.json"))
    assert len(done) == 1 and json.loads(done[0].read_text(encoding="utf-8"))["seconds"] > 0


def test_a_dry_run_lists_the_runs_and_starts_none(cli, toy_runs, tmp_path):
    code, out, _ = cli("sweep", *options(toy_runs), "Optimizer.beta1=0.8,0.9", "Optimizer.beta2=0.9,0.99", "--dry-run")
    assert code == 0 and out.splitlines()[0] == "4 runs:" and "  beta1=0.8,beta2=0.99" in out.splitlines()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Optimizer.beta1=0.9"], "no key has several values"),
        (["Optimizer.beta1=0.9,high"], "Optimizer.beta1: expected a number"),
        (["Optimizer.beta1=0.8,0.9", "--at-once", "0"], "--at-once must be at least 1, got 0"),
        (["Optimizer.beta1=0.8,0.9", "--random", "0"], "--random must be at least 1, got 0"),
    ],
)
def test_mistakes_are_found_before_anything_runs(cli, toy_runs, tmp_path, arguments, message):
    code, _, err = cli("sweep", *options(toy_runs), *arguments)
    assert code == 2 and message in err
    assert list(tmp_path.iterdir()) == []


def test_a_healthy_machine(cli, toy_runs):
    code, out, err = cli("doctor", *options(toy_runs))
    assert code == 0, out + err
    for part in ("Python", "Paddle", "device", "image decoding", "disk", "config", "DataLoader.Train 12 images of 2"):
        assert part in " ".join(out.split()), part
    assert not [line for line in out.splitlines() if line.startswith("problem")]
    assert (
        len(re.findall(r"12 of them read, 32 x 32 pixels; a worker prepares about [\d,]+ images per second", out)) == 2
    )


def test_missing_data_is_a_problem(cli, toy_runs):
    broken = ["DataLoader.Train.dataset.root=nowhere", "Init.checkpoint=gone"]
    code, out, _ = cli("doctor", *options(toy_runs), *broken)
    assert code == 1
    where = "-o DataLoader.Train.dataset.root=nowhere: DataLoader.Train.dataset: nowhere: there is no such folder"
    assert f"problem  DataLoader.Train {where}" in out
    assert "problem  Init             gone does not exist" in out


def test_a_missing_tokenizer(cli, toy_runs):
    config = str(ROOT / "configs/quickstart/pretrain.yaml")
    root = f"DataLoader.Train.dataset.root={toy_runs.images}/train"
    code, out, _ = cli("doctor", "-c", config, "-o", root, "Tokenizer.checkpoint=gone")
    assert code == 1 and "problem  Tokenizer        -o Tokenizer.checkpoint=gone: " in out


def test_without_paddle_it_says_how_to_install_it(cli, monkeypatch):
    def fail():
        raise ImportError("no module named paddle")

    monkeypatch.setattr(runtime, "import_paddle", fail)
    code, out, _ = cli("doctor")
    assert code == 1 and "cannot be imported: no module named paddle; pip install -e '.[cpu]'" in out
    assert out.startswith("ok       Python")


def test_a_full_disk_and_little_memory(cli, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10**8})())
    monkeypatch.setattr(doctor, "_available_memory", lambda: 2**30)
    rows = {row.what: row for row in doctor._machine({})}
    assert rows["disk"].level == "problem" and "set Global.output_dir to another" in rows["disk"].text
    assert rows["memory"].level == "note" and rows["shared memory"].level == "note"


def test_a_mistake_in_the_config(cli):
    code, _, err = cli("doctor", "-c", CONFIG, "-o", "Optimizer.beta=1")
    assert code == 2 and "did you mean" in err


def test_pre_trainings_are_sorted_by_their_frozen_features(tmp_path, capsys):
    runs = {name: {"Optimizer.beta1": name} for name in ("0.8", "0.9")}
    for name, best in (("0.8", 60.0), ("0.9", 80.0)):
        pretraining(tmp_path, name, best)
    arguments = SimpleNamespace(metric=None, config="pretrain.yaml", images=0)
    sweep._conclude(runs, tmp_path, arguments)
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert lines[0] == ["beta1", "knn_top1", "at", "epoch"]
    assert lines[2:4] == [["0.9", "80", "4"], ["0.8", "60", "4"]]
