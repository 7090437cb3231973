"""Checkpoint directories: whole or absent, found by what a user gives, refused by name when damaged."""

import json
import os

import numpy as np
import pytest

from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint.arrays import CheckpointError
from plsc.checkpoint.files import keep_last, point
from plsc.checkpoint.reader import Checkpoint, find_newest

ARRAYS = {"model": {"model.weight": np.arange(6, dtype="float32").reshape(2, 3)}, "optimizer": {}}


def save(directory, step, value=0.0, state=None):
    arrays = {**ARRAYS, "optimizer": {"model.weight/velocity": np.full(3, value)}}
    return checkpoint_files.write(directory, step, arrays, {"seed": 1, **(state or {})}, "Global: {}\n")


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_a_checkpoint_is_a_directory_of_plain_files(tmp_path):
    path = save(tmp_path / "checkpoints", 12)
    assert path == tmp_path / "checkpoints" / "step_00000012"
    assert names(path) == ["config.yaml", "model.safetensors", "optimizer.safetensors", "state.json"]
    assert names(path.parent) == ["latest", "step_00000012"]
    assert (path.parent / "latest").read_text(encoding="utf-8") == "step_00000012\n"
    assert (path / "config.yaml").read_text(encoding="utf-8") == "Global: {}\n"
    checkpoint = Checkpoint(path)
    assert (checkpoint.step, checkpoint.state["seed"], checkpoint.state["format"]) == (12, 1, 1)
    np.testing.assert_array_equal(checkpoint.model()["model.weight"], ARRAYS["model"]["model.weight"])
    assert not checkpoint.has("ema") and checkpoint.ema() == {}


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_arrays_come_back_with_their_dtype_and_shape(tmp_path, dtype, shape):
    array = np.ones(shape, dtype)
    path = checkpoint_files.write(tmp_path, 1, {"model": {"a": array, "transposed": array.T}}, {}, "")
    for name, expected in (("a", array), ("transposed", array.T)):
        read = Checkpoint(path).model()[name]
        assert read.dtype == array.dtype
        assert read.shape == expected.shape
        np.testing.assert_array_equal(read, expected)


def test_a_state_cannot_hide_what_a_checkpoint_says_of_itself(tmp_path):
    path = save(tmp_path, 3, state={"files": {}, "format": 99})
    assert Checkpoint(path).state["format"] == 1
    assert "model.safetensors" in Checkpoint(path).state["files"]


def test_a_step_written_again_replaces_the_first(tmp_path):
    save(tmp_path, 5, value=1.0)
    path = save(tmp_path, 5, value=2.0)
    assert Checkpoint(path).optimizer()["model.weight/velocity"][0] == 2.0
    assert names(tmp_path) == ["latest", "step_00000005"]


def test_a_failed_save_leaves_what_was_there(tmp_path, monkeypatch):
    first = save(tmp_path, 1)
    with pytest.raises(TypeError):
        save(tmp_path, 1, state={"not plain": object()})
    assert names(tmp_path) == ["latest", "step_00000001"]
    assert find_newest(tmp_path).path == first

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, 2)
    assert names(tmp_path) == ["latest", "step_00000001"]


def test_leftovers_of_a_killed_save_are_removed_by_the_next(tmp_path):
    (tmp_path / ".tmp-step_00000001").mkdir()
    (tmp_path / ".tmp-step_00000001" / "model.safetensors").write_text("part of it", encoding="utf-8")
    (tmp_path / ".tmp-latest.txt").write_text("step", encoding="utf-8")
    save(tmp_path, 2)
    assert names(tmp_path) == ["latest", "step_00000002"]


def test_keep_last_spares_latest_and_best(tmp_path):
    paths = [save(tmp_path, step) for step in (1, 2, 3, 4)]
    point(tmp_path, "best", paths[0])
    keep_last(tmp_path, 2)
    assert names(tmp_path) == ["best", "latest", "step_00000001", "step_00000003", "step_00000004"]
    point(tmp_path, "latest", paths[2])
    keep_last(tmp_path, 0)
    assert names(tmp_path) == ["best", "latest", "step_00000001", "step_00000003"]


def test_checkpoints_are_ordered_by_number(tmp_path):
    for step in (999_999_999, 99_999_999, 5):
        save(tmp_path, step)
    (tmp_path / "step_by_step").mkdir()
    assert [path.name for path in checkpoint_files.checkpoints(tmp_path)] == [
        "step_00000005",
        "step_99999999",
        "step_999999999",
    ]


def test_what_a_user_may_give(tmp_path):
    directory = tmp_path / "run" / "checkpoints"
    first, second = save(directory, 1), save(directory, 2)
    point(directory, "best", first)
    for given in (tmp_path / "run", directory, directory / "latest", second, str(second)):
        assert Checkpoint.open(given).path == second
    assert Checkpoint.open(directory / "best").path == first


def test_the_checkpoint_written_last_comes_first_even_if_its_step_is_lower(tmp_path):
    save(tmp_path, 50)
    again = save(tmp_path, 10)  # resumed from an earlier one
    assert find_newest(tmp_path).path == again


def cut(path):
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def change(path):
    file = path / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")


def lose(path):
    (path / "model.safetensors").unlink()


def unfinish(path):
    (path / "state.json").unlink()


def garble(path):
    (path / "state.json").write_text('{"format": 1', encoding="utf-8")


def age(path):
    edit(path, format=2)


def estrange(path):
    (path / "state.json").write_text('{"epoch": 3}', encoding="utf-8")


def edit(path, **changes):
    state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    (path / "state.json").write_text(json.dumps({**state, **changes}), encoding="utf-8")


DAMAGES = [
    (cut, "damaged: model.safetensors has been cut off or changed; use an older checkpoint"),
    (change, "damaged: the content of optimizer.safetensors has changed; use an older checkpoint"),
    (lose, "damaged: model.safetensors is missing; use an older checkpoint"),
    (unfinish, "not a whole checkpoint: state.json cannot be read"),
    (garble, "not a whole checkpoint: state.json cannot be read"),
    (age, r"written by a newer plsc \(format 2\); update plsc"),
    (estrange, "not a checkpoint of plsc: its state.json has no 'format'"),
]


@pytest.mark.parametrize("damage, message", DAMAGES)
def test_a_damaged_checkpoint_is_refused_and_an_older_one_stands_in(tmp_path, damage, message):
    older, newest = save(tmp_path, 1), save(tmp_path, 2)
    damage(newest)
    with pytest.raises(CheckpointError, match=f"step_00000002 (is|was) {message}"):
        Checkpoint(newest)
    assert find_newest(tmp_path).path == older
    assert Checkpoint.open(tmp_path).path == older


def test_nothing_to_resolve(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere does not exist; give a run's output directory"):
        Checkpoint.open(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="holds no whole checkpoint; checkpoints there: none; give"):
        Checkpoint.open(tmp_path)
    path = save(tmp_path, 1)
    unfinish(path)
    with pytest.raises(CheckpointError, match="step_00000001 is not a whole checkpoint: state.json cannot be read"):
        Checkpoint.open(tmp_path)
    (tmp_path / "weights.bin").write_text("", encoding="utf-8")
    with pytest.raises(CheckpointError, match="weights.bin is a file, not a checkpoint directory; Init"):
        Checkpoint.open(tmp_path / "weights.bin")
    assert find_newest(tmp_path / "nowhere") is None


def test_a_pointer_to_what_is_gone(tmp_path):
    path = save(tmp_path, 1)
    save(tmp_path, 2)
    point(tmp_path, "best", path)
    lose(path)
    unfinish(path)
    with pytest.raises(CheckpointError, match="best names step_00000001, which is not a checkpoint any more; check"):
        Checkpoint.open(tmp_path / "best")


def test_a_pointer_leads_nowhere_else(tmp_path):
    outside = save(tmp_path / "other", 7)
    directory = tmp_path / "run"
    save(directory, 1)
    (directory / "latest").write_text(f"../other/{outside.name}\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="not a checkpoint any more"):
        Checkpoint.open(directory / "latest")
