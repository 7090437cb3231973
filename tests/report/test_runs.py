import json

import pytest

from plsc.report.page import page
from plsc.runs.reader import read_run, read_runs
from tests.report.toys import make_run


def test_a_run_is_read_with_its_pictures(tmp_path):
    run = read_run(make_run(tmp_path))
    assert run.kind == "Classification"
    assert run.series("eval", "top1") == ([1, 2, 3, 4], [22.5, 45.0, 67.5, 90.0])
    assert run.series("eval", "absent") == ([], [])
    assert ("train", "images_per_second") in run.metrics()
    assert [(picture.step, picture.rows) for picture in run.pictures] == [(10, ["plain"])]


def test_repeated_steps_of_a_resumed_run_are_read_once(tmp_path):
    path = make_run(tmp_path)
    with open(path / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({"step": 30, "epoch": 3, "split": "eval", "top1": 99.0}) + "\n")
        file.write('{"step": 40, "split": "ev')
    assert read_run(path).series("eval", "top1") == ([1, 2, 3], [22.5, 45.0, 99.0])


def test_runs_with_equal_names_get_unique_names(tmp_path):
    paths = [make_run(tmp_path / folder) for folder in ("a", "b")]
    assert [run.name for run in read_runs(paths)] == ["a/run", "b/run"]


def test_mistakes(tmp_path):
    with pytest.raises(ValueError, match="nowhere does not exist; give the Global.output_dir"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is not a run: it has no config.yaml and no metrics.jsonl"):
        read_run(tmp_path)
    path = make_run(tmp_path)
    with pytest.raises(ValueError, match="given twice"):
        read_runs([path, path / ".." / "run"])


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n", b"<html>", "cut", "changed"], ids=repr)
def test_a_damaged_picture_is_left_out_with_a_note(tmp_path, content):
    run = make_run(tmp_path)
    whole = (run / "pictures" / "step_00000010.png").read_bytes()
    if isinstance(content, str):
        middle = whole.index(b"IDAT") + 6
        content = whole[:middle] if content == "cut" else whole[:middle] + b"x" * 20 + whole[middle + 20 :]
    (run / "pictures" / "step_00000020.png").write_bytes(content)
    found = read_run(run)
    assert [picture.step for picture in found.pictures] == [10]
    assert len(found.damaged) == 1 and found.damaged[0].startswith(
        "pictures/step_00000020.png is damaged and was skipped"
    )
    assert "run: pictures/step_00000020.png is damaged and was skipped" in page([found])


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_a_damaged_description_of_the_environment_is_left_out_with_a_note(tmp_path, content):
    run = make_run(tmp_path)
    (run / "env.json").write_bytes(content)
    found = read_run(run)
    assert found.environment == {}
    assert found.damaged[0].startswith("env.json is damaged and was skipped (") and "env.json is damaged" in page(
        [found]
    )
