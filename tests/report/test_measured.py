import json

from plsc.report.measured import (
    best,
    deciding_split,
    in_percent,
    is_detail,
    lower_is_better,
    main_metric,
    name_of,
    ranked,
)
from plsc.report.page import page
from plsc.runs.reader import read_runs
from tests.report.toys import make_run


def pretraining(tmp_path, name="pretrain", best=80.0, evaluated=False, monitor=None):
    """Create a run of pre-training with metrics of frozen features, and optionally of an evaluation."""
    path = make_run(tmp_path, name, task="MaskedImageModeling")
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    kept = [row for row in rows if evaluated or row["split"] == "train"]
    kept += [
        {"step": 10 * epoch, "epoch": epoch, "split": "probe", "knn_top1": best * epoch / 4, "rankme": 3.0}
        for epoch in range(5)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    if monitor is not None:
        config = (path / "config.yaml").read_text(encoding="utf-8")
        (path / "config.yaml").write_text(config.replace("Task:", f"  monitor: {monitor}\nTask:"), encoding="utf-8")
    return path


def test_frozen_features_rank_runs_without_evaluation(tmp_path):
    runs = read_runs([pretraining(tmp_path, "a", 60.0), pretraining(tmp_path, "b", 80.0)])
    assert [deciding_split(run) for run in runs] == ["probe", "probe"]
    assert main_metric(runs[0]) == "knn_top1" and best(runs[1], "knn_top1") == (80.0, 4)
    assert [run.name for run in ranked(runs)] == ["b", "a"]
    html = page(runs)
    assert "<b>80%</b><span>k-NN accuracy of frozen features, best of 2: b</span>" in html
    assert "<th class=n>best k-NN, %</th>" in html and "effective rank of features (RankMe)" in html


def test_the_evaluation_ranks_runs_unless_they_monitor_features(tmp_path):
    evaluated, watched = read_runs(
        [pretraining(tmp_path, "a", evaluated=True), pretraining(tmp_path, "b", evaluated=True, monitor="rankme")]
    )
    assert main_metric(evaluated) == "top1" and main_metric(watched) == "rankme"
    assert best(watched, "rankme") == (3.0, 0)


def test_one_run_has_no_bars(tmp_path):
    assert "<td class=bar>" not in page(read_runs([make_run(tmp_path)]))


def test_names():
    assert name_of("top1") == "top-1 accuracy, %" and in_percent("top1")
    assert name_of("loss_main") == "loss main" and not in_percent("loss_main")
    assert lower_is_better("loss_main") and not lower_is_better("knn_top1")
    assert is_detail("top1 cls, rate 1", "top1") and not is_detail("top1", "top1")
