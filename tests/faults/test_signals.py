"""Signals during an evaluation, during a checkpoint write, sent twice, and kills at any time."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint.reader import Checkpoint, find_newest
from plsc.engine.callbacks.checkpoints import Checkpoints
from plsc.engine.callbacks.evaluation import Evaluation
from plsc.engine.callbacks.progress import ProgressLog
from plsc.engine.interrupt import Interrupted
from tests.engine.test_nonfinite import Poison, poisoned
from tests.engine.toys import toy_trainer
from tests.faults.scenes import CONFIG, alive, arrays, assert_same, children_of, lines, overrides
from tests.integration.runs import ROOT, environment


def restored(saver, trainer):
    saver.restore(trainer, find_newest(saver.directory))
    return trainer


def test_an_interrupted_evaluation_is_repeated(tmp_path, tally):
    """Also the last evaluation, after which no step follows."""

    def run(name, interrupt):
        def measure(on_batch):
            if interrupt:
                os.kill(os.getpid(), signal.SIGTERM)
            on_batch()
            return {"top1": 50.0}

        saver = Checkpoints(tmp_path / name / "checkpoints", "", monitor="top1")
        callbacks = [ProgressLog(1), Evaluation(measure, every_epochs=None), saver]
        return saver, toy_trainer(tmp_path / name, callbacks=callbacks, save=saver.save_now)

    saver, trainer = run("cut", interrupt=True)
    with pytest.raises(Interrupted, match="stopped by SIGTERM after step 8"):
        trainer.fit()
    assert '"eval"' not in "".join(lines(tmp_path / "cut"))
    assert not (saver.directory / "best").exists()
    saver, trainer = run("cut", interrupt=False)
    restored(saver, trainer).fit()
    run("whole", interrupt=False)[1].fit()
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    assert Checkpoint.open(saver.directory / "best").path.name == "step_00000008"
    assert Checkpoint.open(saver.directory).state["best"] == 50.0
    restored(*run("cut", interrupt=True)).fit()  # it is not evaluated a third time
    tally.add("faults survived", 1)


def test_a_signal_during_the_write_of_a_checkpoint_waits_for_it(tmp_path, monkeypatch, tally):
    write = checkpoint_files.write

    def slow(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3)
        return write(*arguments, **options)

    monkeypatch.setattr(checkpoint_files, "write", slow)
    saver = Checkpoints(tmp_path / "checkpoints", "", every_epochs=None, every_steps=3)
    with pytest.raises(Interrupted):
        toy_trainer(tmp_path, callbacks=[saver], save=saver.save_now).fit()
    found = find_newest(tmp_path / "checkpoints")
    assert found is not None and found.step >= 3
    assert not list((tmp_path / "checkpoints").glob(".tmp-*"))
    tally.add("faults survived", 1)


def test_non_finite_gradients_keep_earlier_checkpoints_and_the_run_continues(tmp_path, tally):
    def run(action, name="run"):
        saver = Checkpoints(tmp_path / name / "checkpoints", "", every_epochs=None, every_steps=2)
        return saver, poisoned(tmp_path / name, action, 4, callbacks=[saver])

    saver, trainer = run("stop")
    with pytest.raises(FloatingPointError, match=r"gradients of step 5 are not finite \(loss nan\)"):
        trainer.fit()
    saver.wait()
    assert [path.name for path in checkpoint_files.checkpoints(saver.directory)] == ["step_00000002", "step_00000004"]
    for name, array in arrays(saver.directory).items():
        assert np.isfinite(array).all(), name
    saver, trainer = run("skip")
    restored(saver, trainer).fit()
    run("skip", "other")[1].fit()
    assert_same(tmp_path / "run", tmp_path / "other")
    assert isinstance(trainer.train_step.batch_transforms[0], Poison)
    tally.add("faults survived", 1)


def start(images, output, *more):
    command = [sys.executable, str(ROOT / "tools/train.py"), "-c", CONFIG, "-o", *overrides(images, output, *more)]
    return subprocess.Popen(command, cwd=output.parent, env=environment(), stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)  # fmt: skip


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline and process.poll() is None, process.stdout.read()
        time.sleep(0.005)


LONG = ["Global.epochs=400", "Global.save_every_steps=5", "Global.eval_every_epochs=20", "Global.log_every_steps=3",
        "Global.keep_last=2", "DataLoader.Train.loader.num_workers=2"]  # fmt: skip


def test_ctrl_c_twice_stops_at_once_and_what_was_saved_continues(tmp_path, toy_runs, tally):
    process = start(toy_runs.images, tmp_path / "run", *LONG)
    wait_for((tmp_path / "run" / "checkpoints" / "latest").is_file, process)
    workers = children_of(process.pid)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=30)
    assert process.returncode in (130, 128 + signal.SIGINT), text
    assert "stopped without saving" in text or "The same command goes on from there" in text, text
    assert not [worker for worker in workers if alive(worker)]
    assert arrays(tmp_path / "run")
    tally.add("faults survived", 1)


@pytest.mark.slow
def test_a_hundred_kills_of_runs_at_any_moment(tmp_path, toy_runs, tally):
    """Runs killed repeatedly at random moments end with the results of an undisturbed run."""
    assert start(toy_runs.images, tmp_path / "whole", *LONG).wait(timeout=600) == 0
    rng, kills, number = random.Random(0), 0, 0
    while kills < 100:
        number += 1
        run = tmp_path / f"run{number}"
        while kill_once(toy_runs.images, run, rng):
            kills += 1
            tally.add("faults survived", 1)
        assert_same(run, tmp_path / "whole")


def kill_once(images, run, rng):
    """Start or resume a run and kill it at a random moment; return False if it finished before."""
    log = run / "metrics.jsonl"
    before = size(log)
    process = start(images, run, *LONG)
    deadline = time.monotonic() + 120
    while process.poll() is None and size(log) <= before and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(rng.random())
    workers = children_of(process.pid)
    process.kill()
    text, _ = process.communicate()
    if process.returncode == 0:
        return False
    assert process.returncode == -signal.SIGKILL, text
    if find_newest(run / "checkpoints") is not None:
        arrays(run)
    assert len(checkpoint_files.checkpoints(run / "checkpoints")) <= 5
    deadline = time.monotonic() + 60
    while any(map(alive, workers)) and time.monotonic() < deadline:  # the kernel ends them after their parent
        time.sleep(0.01)
    assert not any(map(alive, workers))
    return True


def size(path):
    return path.stat().st_size if path.is_file() else 0
