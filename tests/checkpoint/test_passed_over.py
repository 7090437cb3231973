"""A damaged checkpoint, or a pointer that leads nowhere, is never passed over in silence."""

import re
import shutil
from pathlib import Path

import pytest

import plsc
from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint.arrays import CheckpointError
from plsc.checkpoint.files import point
from plsc.checkpoint.reader import Checkpoint, best_or_latest, find_newest
from plsc.runs.directory import CheckpointWarning
from tests.checkpoint.test_files import DAMAGES, change, edit, save
from tests.faults.scenes import arguments

IMAGE = ("val", "1", "0.png")


def flip(path):
    """Changes one bit of a file."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def run_of(toy_runs, tmp_path):
    """A copy of a run with a second checkpoint, of an earlier step; its `checkpoints` folder."""
    shutil.copytree(toy_runs.classifier, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    (newest,) = checkpoint_files.checkpoints(folder)
    shutil.copytree(newest, folder / "step_00000003")
    edit(folder / "step_00000003", step=3)
    return folder


READERS = {
    "eval": lambda run, images: ["eval", "--checkpoint", run],
    "eval --details": lambda run, images: ["eval", "--checkpoint", run, "--details"],
    "predict": lambda run, images: ["predict", images.joinpath(*IMAGE), "--checkpoint", run],
    "export": lambda run, images: ["export", "--checkpoint", run, "--out", "out", "--formats", "safetensors"],
    "convert": lambda run, images: ["convert", run, "out.pd", "--to", "plsc"],
    "visualize": lambda run, images: ["visualize", "--checkpoint", run, "--parts", "attention", "--count", "1"],
    "evaluate-frozen": lambda run, images: ["evaluate-frozen", "--checkpoint", run, "--protocols", "knn"],
    "extract-features": lambda run, images: ["extract-features", "--checkpoint", run, "--out", "out.npz"],
    "report": lambda run, images: ["report", run, "--out", "out.html"],
    "init": lambda run, images: arguments(images, "new", f"Init.checkpoint={run}"),
    "resume": lambda run, images: arguments(images, "new", f"Global.resume={run}"),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_all_who_read_a_run_say_what_they_pass_over_and_what_they_use(cli, toy_runs, tmp_path, reader):
    folder = run_of(toy_runs, tmp_path)
    older, newest = checkpoint_files.checkpoints(folder)
    flip(newest / "optimizer.safetensors")
    (folder / "best").unlink(missing_ok=True)
    code, out, error = cli(*reader(tmp_path / "run", toy_runs.images))
    said = f"warning: {newest} is damaged: the content of optimizer.safetensors has changed; {older} is used instead"
    assert code == 0 and said in error, error
    assert "warning" not in out
    if Path("out.html").exists():
        assert f"{newest.name} is damaged" in Path("out.html").read_text(encoding="utf-8")
    if Path("new").exists():
        assert said in Path("new/train.log").read_text(encoding="utf-8")


def test_a_run_that_goes_on_says_so_and_writes_it_into_its_log(cli, toy_runs, tmp_path):
    command = arguments(toy_runs.images, tmp_path / "run")
    assert cli(*command)[0] == 0
    older, newest = checkpoint_files.checkpoints(tmp_path / "run" / "checkpoints")
    flip(newest / "model.safetensors")
    code, _, error = cli(*command)
    said = f"warning: {newest} is damaged: the content of model.safetensors has changed; {older} is used instead"
    assert code == 0 and said in error and f"resumed from {older} at step 3" in error
    assert said in (tmp_path / "run" / "train.log").read_text(encoding="utf-8")
    assert Checkpoint.open(tmp_path / "run").path == newest


def test_loading_from_python_warns(toy_runs, tmp_path):
    folder = run_of(toy_runs, tmp_path)
    older, newest = checkpoint_files.checkpoints(folder)
    flip(newest / "model.safetensors")
    with pytest.warns(CheckpointWarning, match=re.escape(f"{newest} is damaged: the content of model.safetensors")):
        assert plsc.load(tmp_path / "run").path == older


@pytest.mark.filterwarnings("error")
def test_nothing_is_said_of_whole_checkpoints(tmp_path):
    first, second = (save(tmp_path / "checkpoints", step) for step in (1, 2))
    assert Checkpoint.open(tmp_path).path == second and best_or_latest(tmp_path).path == second
    point(tmp_path / "checkpoints", "best", first)
    assert Checkpoint.open(tmp_path).path == second and best_or_latest(tmp_path).path == first
    change(first)
    assert Checkpoint.open(tmp_path).path == second  # the older one was not needed


@pytest.mark.parametrize("damage, message", DAMAGES, ids=lambda value: getattr(value, "__name__", ""))
def test_every_damage_is_named(tmp_path, damage, message):
    first, second, third = (save(tmp_path, step) for step in (1, 2, 3))
    damage(third)
    damage(second)
    with pytest.warns(CheckpointWarning) as said:
        assert find_newest(tmp_path).path == first
    text = str(said[0].message)
    assert len(re.findall(message.split(";")[0], text)) == 2, text
    assert str(third) in text and str(second) in text and text.endswith(f"; {first} is used instead")


@pytest.mark.parametrize("content", ["step_00000009\n", "", "../../secret\n", "x" * 5000, "\x1b[31mred\n"])
def test_a_latest_that_leads_nowhere_is_said(tmp_path, content):
    path = save(tmp_path, 1)
    (tmp_path / "latest").write_text(content, encoding="utf-8")
    with pytest.warns(CheckpointWarning) as said:
        assert find_newest(tmp_path).path == path
    text = str(said[0].message)
    assert text.startswith(f"{tmp_path}/latest names ") and text.endswith(f"; {path} is used instead")
    assert len(text) < 600 and text.isprintable()


def test_a_latest_that_is_a_link_is_followed_in_its_folder_only(tmp_path):
    first, second, other = save(tmp_path / "a", 1), save(tmp_path / "a", 2), save(tmp_path / "b", 1)
    pointer = tmp_path / "a" / "latest"
    pointer.unlink()
    pointer.symlink_to(first.name)
    assert find_newest(tmp_path / "a").path == first
    pointer.unlink()
    pointer.symlink_to(other)
    with pytest.warns(CheckpointWarning, match="latest names step_00000001, which is not a checkpoint in this folder"):
        assert find_newest(tmp_path / "a").path == second


def test_a_best_that_leads_nowhere_is_said(tmp_path):
    path = save(tmp_path / "checkpoints", 1)
    (tmp_path / "checkpoints" / "best").write_text("step_00000009\n", encoding="utf-8")
    for find in (Checkpoint.open, best_or_latest):
        with pytest.warns(CheckpointWarning, match="best names step_00000009, which is not a checkpoint in this "):
            assert find(tmp_path).path == path
    with pytest.raises(CheckpointError, match="best names step_00000009, which is not a checkpoint any more"):
        Checkpoint.open(tmp_path / "checkpoints" / "best")


def test_a_report_uses_another_checkpoint_if_the_best_is_damaged(cli, toy_runs, tmp_path):
    folder = run_of(toy_runs, tmp_path)
    older, newest = checkpoint_files.checkpoints(folder)
    point(folder, "best", older)
    flip(older / "model.safetensors")
    code, _, error = cli("report", tmp_path / "run")
    said = f"{older} is damaged: the content of model.safetensors has changed; {newest} is used instead"
    assert code == 0 and said in error
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert f"{older.name} is damaged" in page and "Predictions and features" in page


def test_a_run_whose_checkpoints_are_gone_does_not_begin_again(cli, toy_runs, tmp_path):
    command = arguments(toy_runs.images, tmp_path / "run")
    assert cli(*command)[0] == 0
    for path in checkpoint_files.checkpoints(tmp_path / "run" / "checkpoints"):
        shutil.rmtree(path)
    code, _, error = cli(*command)
    assert code == 2 and "latest names step_00000006, which is not a checkpoint" in error
    assert "resume to null to begin again" in error
    assert cli(*command, "Global.resume=null")[0] == 0
