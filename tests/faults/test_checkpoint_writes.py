"""A process killed at any moment of a checkpoint write leaves complete checkpoints."""

import os
import shutil
import signal
import sys
from functools import partial

import numpy as np
import pytest

from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint.reader import Checkpoint, find_newest
from tests.checkpoint.test_files import names, save

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def touches_files(function):
    """Return True for built-in functions of the operating system, of files and of safetensors."""
    owner = getattr(function, "__self__", None)
    module = getattr(owner, "__name__", None) or type(owner).__module__
    return module.split(".")[0] in ("posix", "_io", "io", "safetensors") or function is open


def killed_at(call, work, counts):
    """Run `work` in a child that kills itself before its `call`-th counted call; return True if it was killed."""
    child = os.fork()
    if child == 0:
        left = call

        def count(frame, event, argument):
            nonlocal left
            if event == "c_call" and counts(argument):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        end = signal.SIGABRT
        try:
            sys.setprofile(count)
            work()
            sys.setprofile(None)
            end = signal.SIGTERM
        finally:
            os.kill(os.getpid(), end)  # before pytest goes on in the child
    ended = os.WTERMSIG(os.waitpid(child, 0)[1])
    assert ended in (signal.SIGKILL, signal.SIGTERM)
    return ended == signal.SIGKILL


def value_of(path):
    return Checkpoint(path).optimizer()["model.weight/velocity"][0]


def first(directory):
    save(directory, 7, value=2.0)


def next_one(directory):
    save(directory, 9, value=2.0)


def same_step_again(directory):
    save(directory, 3, value=2.0)


def one_more_and_forget(directory):
    save(directory, 9, value=2.0)
    checkpoint_files.keep_last(directory, 1)


def best(directory):
    checkpoint_files.point(directory, "best", directory / "step_00000003")
    checkpoint_files.keep_last(directory, 1)


SCENES = [  # existing steps, interrupted work, steps that may exist afterwards
    ((), first, {None, 2.0}),
    ((3,), next_one, {1.0, 2.0}),
    ((3,), same_step_again, {1.0, 2.0}),
    ((3, 4, 5), one_more_and_forget, {1.0, 2.0}),
    ((3, 4, 5), best, {1.0}),
]


every_scene = pytest.mark.parametrize("steps, work, allowed", SCENES, ids=lambda value: getattr(value, "__name__", ""))


@every_scene
def test_killed_at_every_call_that_touches_files(tmp_path, monkeypatch, tally, steps, work, allowed):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # not needed: a kill does not lose written data
    kill_at_every_call(tmp_path, tally, steps, work, allowed, touches_files)


@pytest.mark.slow
@every_scene
def test_killed_at_every_call(tmp_path, tally, steps, work, allowed):
    kill_at_every_call(tmp_path, tally, steps, work, allowed, lambda function: True)


def kill_at_every_call(tmp_path, tally, steps, work, allowed, counts):
    before = tmp_path / "before" / "checkpoints"
    before.mkdir(parents=True)
    for step in steps:
        save(before, step, value=1.0)
    call, found = 0, set()
    while True:
        directory = tmp_path / str(call) / "checkpoints"
        shutil.copytree(before, directory)
        if not killed_at(call, partial(work, directory), counts):
            break
        newest = find_newest(directory)
        found.add(None if newest is None else value_of(newest))
        assert not steps or Checkpoint.open(directory.parent).path == newest.path
        save(directory, 10, value=3.0)
        checkpoint_files.keep_last(directory, 2)
        assert value_of(Checkpoint.open(directory.parent)) == 3.0
        assert not [name for name in names(directory) if name.startswith(checkpoint_files.TEMPORARY)]
        assert len(checkpoint_files.checkpoints(directory)) <= 3
        shutil.rmtree(directory)
        tally.add("faults survived", 1)
        call += 1
    assert call > 15
    assert found == allowed


def test_a_checkpoint_set_aside_by_a_killed_write_is_read_and_restored(tmp_path):
    path = save(tmp_path, 3, value=1.0)
    path.rename(tmp_path / f"{checkpoint_files.REPLACED}{path.name}")
    assert value_of(find_newest(tmp_path)) == 1.0
    save(tmp_path, 4)
    assert names(tmp_path) == ["latest", "step_00000003", "step_00000004"]
    assert value_of(path) == 1.0


def test_a_write_that_fails_at_the_end_restores_the_old_checkpoint(tmp_path, monkeypatch):
    path = save(tmp_path, 3, value=1.0)
    replace = os.replace

    def fail(source, target):
        if str(target).endswith("step_00000003") and "old-" not in str(source):
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="Input/output error"):
        save(tmp_path, 3, value=2.0)
    assert names(tmp_path) == ["latest", "step_00000003"]
    assert value_of(path) == 1.0


def test_write_errors_of_safetensors_are_os_errors(tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(OSError, match="model.safetensors: .*(os error|Is a directory)"):
        checkpoint_files.write_arrays(tmp_path / "model.safetensors", {"a": np.zeros(3)})
