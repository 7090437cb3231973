"""The work of a report grows linearly with the size of its runs; operations are counted, not timed."""

import json
import sys
from collections import Counter

import pytest

from plsc.report.page import page
from plsc.runs.reader import read_runs
from tests.report.toys import make_run


def operations(work):
    """Return the number of operations that the Python interpreter executes in `work`."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def run_with(folder, metrics, rows, name="run"):
    """Return a run with `rows` rows of `metrics` metrics each, in training and in evaluation."""
    path = make_run(folder, name)
    with open(path / "metrics.jsonl", "w", encoding="utf-8") as file:
        for step in range(1, rows + 1):
            for split in ("train", "eval"):
                values = {"top1": 50.0, **{f"number_{i}": float(i) for i in range(metrics)}}
                row = {"step": step, "epoch": step, "time": float(step), "split": split, **values}
                file.write(json.dumps(row) + "\n")
    return path


SIZES = {  # two sizes of one report: arguments of `run_with`, and how many runs
    "names of metrics": ((100, 2, 1), (200, 2, 1)),
    "rows": ((4, 300, 1), (4, 600, 1)),
    "runs": ((2, 3, 20), (2, 3, 40)),
}


@pytest.mark.parametrize("small, large", SIZES.values(), ids=SIZES)
def test_twice_as_much_takes_about_twice_as_many_operations(tmp_path, small, large):
    counts = []
    for metrics, rows, runs in (small, large):
        folder = tmp_path / f"{metrics}_{rows}_{runs}"
        paths = [run_with(folder, metrics, rows, f"run_{number}") for number in range(runs)]
        counts.append(operations(lambda paths=paths: page(read_runs(paths))))
    assert counts[0] > 1000
    assert counts[1] < 2.3 * counts[0], counts


class Rows(list):
    """Rows of a run that count the number of iterations over them."""

    passes = Counter()

    def __iter__(self):
        self.passes["all"] += 1
        return super().__iter__()


def test_the_rows_are_gone_through_a_few_times_whatever_the_number_of_metrics(tmp_path):
    passes = []
    for metrics in (5, 50):
        (run,) = read_runs([run_with(tmp_path / str(metrics), metrics, 3)])
        run.rows = {split: Rows(rows) for split, rows in run.rows.items()}
        Rows.passes.clear()
        page([run])
        passes.append(Rows.passes["all"])
    assert passes[0] == passes[1] <= 6


def test_series_returns_a_copy(tmp_path):
    (run,) = read_runs([run_with(tmp_path, 1, 3)])
    run.series("train", "top1")[1].clear()
    assert run.series("train", "top1") == ([1, 2, 3], [50.0] * 3)
    assert run.series("train", "nothing") == ([], []) == run.series("nowhere", "top1")
    assert run.metrics() == [(split, name) for split in ("train", "eval") for name in ("top1", "number_0")]
