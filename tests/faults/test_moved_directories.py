"""Output directories that are moved, renamed or removed during a run."""

import shutil
import threading
from pathlib import Path

import pytest

from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint.reader import Checkpoint
from plsc.config.registry import CALLBACKS
from plsc.engine.callbacks.checkpoints import Checkpoints
from plsc.engine.callbacks.progress import Callback
from plsc.runs.directory import OutputError, Place
from tests.engine.toys import toy_trainer
from tests.faults.scenes import arguments, assert_same, lines


@pytest.fixture
def at_step_2(monkeypatch):
    """Registers a callback `Act`, which calls the function given after the second step."""

    def register(action):
        class Act(Callback):
            def on_step_end(self, trainer):
                if trainer.step == 2:
                    action()

        monkeypatch.setitem(CALLBACKS._components, "Act", Act)

    return register


def moved_run(images, folder, cli, *more):
    command = arguments(images, folder / "run", "Global.save_every_steps=1", "Global.log_every_steps=1", *more)
    return cli(*command, "Callbacks=[{name: Act}]")


def test_a_run_whose_directory_is_moved_goes_on_there(tmp_path, toy_runs, cli, at_step_2, tally):
    assert cli(*arguments(toy_runs.images, tmp_path / "whole", "Global.log_every_steps=1"))[0] == 0
    (tmp_path / "other").mkdir()
    at_step_2(lambda: (tmp_path / "run").rename(tmp_path / "other" / "new"))
    code, _, error = moved_run(toy_runs.images, tmp_path, cli, "Global.report=true", "Global.keep_last=20")
    new = tmp_path / "other" / "new"
    assert code == 0
    assert f"{tmp_path}/run was moved to {new} while the run was writing into it; the run continues there. To" in error
    assert f"set Global.output_dir={new}" in error and f"done: 6 steps; everything is in {new}" in error
    assert f"report: {new}/report.html" in error
    assert not (tmp_path / "run").exists()
    assert_same(new, tmp_path / "whole")
    assert lines(new) == lines(tmp_path / "whole")
    saved = [path.name for path in checkpoint_files.checkpoints(new / "checkpoints")]
    assert saved == [checkpoint_files.step_name(step) for step in range(1, 7)]
    assert (new / "report.html").is_file()
    assert list((new / "vdl").iterdir())
    tally.add("faults survived", 1)


def test_another_directory_at_the_same_path_is_not_changed(tmp_path, toy_runs, cli, at_step_2):
    def exchange():
        (tmp_path / "run").rename(tmp_path / "new")
        (tmp_path / "run").mkdir()

    at_step_2(exchange)
    assert moved_run(toy_runs.images, tmp_path, cli)[0] == 0
    assert list((tmp_path / "run").iterdir()) == []
    assert Checkpoint.open(tmp_path / "new").state["step"] == 6


def test_a_run_whose_directory_is_removed_fails_without_a_new_one(tmp_path, toy_runs, cli, at_step_2, tally):
    def remove():
        while (tmp_path / "run").exists():  # a checkpoint may be written into it meanwhile
            shutil.rmtree(tmp_path / "run", ignore_errors=True)

    at_step_2(remove)
    code, _, error = moved_run(toy_runs.images, tmp_path, cli)
    assert code == 2
    assert f"error: {tmp_path}/run was removed, or moved to another file system, while the run was writing" in error
    assert "everything is in" not in error
    assert not (tmp_path / "run").exists()
    tally.add("faults survived", 1)


def test_a_directory_that_is_moved_during_the_write_of_a_checkpoint(tmp_path, monkeypatch):
    fill, moved = checkpoint_files._fill, threading.Event()

    def move_first(folder, *rest):
        if not moved.is_set():
            moved.set()
            (tmp_path / "run").rename(tmp_path / "new")
        fill(folder, *rest)

    monkeypatch.setattr(checkpoint_files, "_fill", move_first)
    saver = Checkpoints(tmp_path / "run" / "checkpoints", "", every_epochs=None)
    toy_trainer(tmp_path / "run", callbacks=[saver]).fit()
    assert not (tmp_path / "run").exists()
    assert Checkpoint.open(tmp_path / "new").state["step"] == 8
    assert [path.name for path in (tmp_path / "new" / "checkpoints").iterdir() if path.name.startswith(".")] == []


def test_a_place(tmp_path):
    (tmp_path / "a").mkdir()
    place = Place(tmp_path / "a")
    assert place.now() == tmp_path / "a" and place.locate(tmp_path / "a" / "x") == tmp_path / "a" / "x"
    (tmp_path / "a").rename(tmp_path / "b")
    assert place.now() == tmp_path / "b"
    assert place.locate(tmp_path / "a" / "x" / "y") == tmp_path / "b" / "x" / "y"
    assert place.locate(tmp_path / "elsewhere") == tmp_path / "elsewhere"
    (place.anchor() / "x").touch()
    assert (tmp_path / "b" / "x").exists()
    (tmp_path / "b" / "x").unlink()
    (tmp_path / "b").rename(tmp_path / "a")
    assert place.now() == tmp_path / "a"
    (tmp_path / "a").rmdir()
    (tmp_path / "a").mkdir()
    with pytest.raises(OutputError, match="was removed, or moved to another file system"):
        place.now()
    place.close()


def test_a_place_whose_parent_is_moved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "run").mkdir(parents=True)
    place = Place(Path("out/run"))
    (tmp_path / "out").rename(tmp_path / "old")
    assert place.locate(Path("out/run/checkpoints")) == tmp_path / "old" / "run" / "checkpoints"
    place.close()
