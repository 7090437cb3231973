"""A signal during any callback of a step: the resumed run has the same rows, the same `best` and the same weights."""

import os
import signal

import numpy as np
import paddle
import pytest

from plsc.checkpoint.reader import Checkpoint, find_newest
from plsc.engine.callback import Callback
from plsc.engine.callbacks.checkpoints import Checkpoints
from plsc.engine.callbacks.evaluation import Evaluation
from plsc.engine.callbacks.progress import ProgressLog
from plsc.engine.callbacks.weights import WeightAverage
from plsc.engine.due import named_callbacks, pack, unpack
from plsc.engine.interrupt import Interrupted
from plsc.engine.trainer import Trainer
from plsc.optim.ema import WeightEMA
from tests.engine.toys import toy_trainer
from tests.faults.scenes import arguments, arrays, assert_same, lines

STEPS, PLACES = 8, 6  # four steps an epoch; a place before, between and after five callbacks
PROBE = "Callbacks=[{name: FrozenProbe, images: 8, batch_size: 3}]"


class Stop(Callback):
    """Checks for a stop after every step; at one step, a signal arrives before the check."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, trainer):
        if trainer.step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)
        trainer.stop_if_asked()


class Probe(Callback):
    """Adds a metric to those of the evaluation, and records the loss of the step."""

    measures = ("probed",)

    def on_step_end(self, trainer):
        if trainer.at_epoch_end:
            value = float(trainer.metrics.scalars["loss"])
            trainer.log.record("probe", trainer.step, trainer.epoch, {"probed": value})
            trainer.metrics.record({"probed": value})


def run(folder, place, step, monitor="probed"):
    """A run with a `Stop` at one of the places among its callbacks; `step`: of the signal, or None."""
    trainer = toy_trainer(folder, steps=STEPS, dropout=0.3)
    ema = WeightEMA(trainer.task, 0.5)

    def measure(on_batch):
        on_batch()
        return {"top1": float(abs(trainer.train_step.parameters[0].numpy()).sum())}

    saver = Checkpoints(folder / "checkpoints", "", monitor=monitor, monitor_mode="min", ema=ema, keep_last=9)
    callbacks = [WeightAverage(ema), ProgressLog(3), Evaluation(measure, 1, ema), Probe(), saver]
    callbacks.insert(place, Stop(step))
    trainer.callbacks, trainer.save = callbacks, saver.save_now
    return saver, trainer


def averages(folder):
    return Checkpoint.open(folder).ema()


@pytest.mark.parametrize("monitor", ["probed", "top1"])
@pytest.mark.parametrize("step", [2, 4, 5, 8])  # in and at the end of an interval of the log, an epoch, the run
@pytest.mark.parametrize("place", range(PLACES))
def test_a_signal_at_any_callback_of_a_step_changes_nothing(tmp_path, tally, place, step, monitor):
    run(tmp_path / "whole", place, None, monitor)[1].fit()
    with pytest.raises(Interrupted, match=f"after step {step}"):
        run(tmp_path / "cut", place, step, monitor)[1].fit()
    for _ in range(2):  # the second time the run is finished already
        saver, trainer = run(tmp_path / "cut", place, None, monitor)
        saver.restore(trainer, find_newest(saver.directory))
        trainer.fit()
        assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    assert_same(tmp_path / "cut", tmp_path / "whole")
    left, right = averages(tmp_path / "cut"), averages(tmp_path / "whole")
    assert all(np.array_equal(left[name], right[name]) for name in right)
    best = [Checkpoint.open(tmp_path / name / "checkpoints" / "best") for name in ("cut", "whole")]
    assert best[0].path.name == best[1].path.name
    states = [Checkpoint.open(tmp_path / name).state for name in ("cut", "whole")]
    assert states[0]["best"] == states[1]["best"]
    assert [state["callbacks"]["due"] for state in states] == [[], []]
    tally.add("faults survived", 1)


def test_a_checkpoint_in_the_middle_of_an_interval_holds_its_sums(tmp_path):
    """As after a kill: the run continues from a regular checkpoint."""

    def start(name, steps):
        saver = Checkpoints(tmp_path / name / "checkpoints", "", every_epochs=None, every_steps=2, keep_last=9)
        return saver, toy_trainer(tmp_path / name, steps=steps, callbacks=[ProgressLog(3), saver])

    start("whole", 8)[1].fit()
    saver, _ = start("whole", 8)
    _, trainer = start("rest", 8)
    saver.restore(trainer, Checkpoint(saver.directory / "step_00000002"))
    trainer.fit()
    assert lines(tmp_path / "rest") == lines(tmp_path / "whole")


def test_the_interrupted_evaluation_of_an_earlier_version_is_repeated(tmp_path):
    run(tmp_path / "whole", 0, None)[1].fit()
    saver, trainer = run(tmp_path / "cut", 0, None)
    trainer.set_state_dict({"step": 4, "seed": 0, "evaluating": True})
    kinds = ["Evaluation", "Probe", "Checkpoints"]
    assert [type(callback).__name__ for callback in trainer.metrics.due] == kinds
    trainer.set_state_dict({"step": 4, "seed": 0, "evaluating": False})
    assert trainer.metrics.due == []


def test_a_callback_missing_from_the_config_is_named(tmp_path):
    with pytest.raises(Interrupted):
        run(tmp_path, 3, 4)[1].fit()
    saver, trainer = run(tmp_path, 3, None)
    trainer.callbacks = [callback for callback in trainer.callbacks if not isinstance(callback, Probe)]
    saver.restore(trainer, find_newest(saver.directory))
    assert [type(callback).__name__ for callback in trainer.metrics.due] == ["Stop", "Checkpoints"]
    text = (tmp_path / "train.log").read_text(encoding="utf-8")
    assert "note: Probe was still due at step 4, but is not in this config" in text


def test_callbacks_of_one_class_are_numbered():
    first, second, other = Stop(1), Stop(2), Probe()
    assert named_callbacks([first, other, second]) == {"Stop": first, "Probe": other, "Stop 2": second}


def test_packed_scalars_keep_every_bit():
    values = [1 / 3, float("nan"), float("inf"), 3e-42, -0.0]
    for dtype in ("float32", "float64", "bfloat16"):
        given = {repr(value): paddle.to_tensor(value, dtype="float64").astype(dtype) for value in values}
        found = unpack([pack(given)])
        for name, value in given.items():
            assert found[name].dtype == value.dtype and found[name].shape == []
            np.testing.assert_array_equal(found[name].astype("float64").numpy(), value.astype("float64").numpy())
    assert float(unpack([pack({"a": paddle.to_tensor(1.0)}), pack({"a": paddle.to_tensor(2.0)})])["a"]) == 1.5


class Asked:
    """Counts the stop checks of a run, and requests a stop at one of them."""

    def __init__(self, monkeypatch):
        self.number, self.limit = 0, None
        ask = Trainer.stop_if_asked

        def counted(trainer):
            self.number += 1
            if self.number == self.limit:
                trainer.stop_request.signal_number = int(signal.SIGTERM)
            ask(trainer)

        monkeypatch.setattr(Trainer, "stop_if_asked", counted)

    def begin(self, limit=None):
        self.number, self.limit = 0, limit


def cut_and_compare(tmp_path, command, cli, asked, limit):
    """Stop a run at its `limit`-th check, resume it and compare; return the step after which it stopped."""
    cut = tmp_path / f"cut {limit}"
    asked.begin(limit)
    code, _, error = cli(*command(cut))
    assert code == 128 + signal.SIGTERM, error
    asked.begin()
    assert cli(*command(cut))[0] == 0
    assert_same(cut, tmp_path / "whole")
    if (cut / "checkpoints" / "best").exists() or (tmp_path / "whole" / "checkpoints" / "best").exists():
        assert (cut / "checkpoints/best").read_text() == (tmp_path / "whole/checkpoints/best").read_text()
    return lines(cut)


def scene(tmp_path, toy_runs, cli, monkeypatch):
    asked = Asked(monkeypatch)

    def command(output):
        more = [PROBE, "Global.monitor=ridge_top1", "EMA.decay=0.5", "Global.log_every_steps=4"]
        return arguments(toy_runs.images, output, *more)

    assert cli(*command(tmp_path / "whole"))[0] == 0
    return asked, command, asked.number, lines(tmp_path / "whole")


def test_a_signal_during_the_last_probe(tmp_path, toy_runs, cli, monkeypatch, tally):
    asked, command, times, expected = scene(tmp_path, toy_runs, cli, monkeypatch)
    assert cut_and_compare(tmp_path, command, cli, asked, times - 2) == expected
    assert sum('"probe"' in line for line in expected) == 3
    tally.add("faults survived", 1)


@pytest.mark.slow
def test_a_signal_at_every_moment_at_which_a_run_asks(tmp_path, toy_runs, cli, monkeypatch, tally):
    asked, command, times, expected = scene(tmp_path, toy_runs, cli, monkeypatch)
    assert times > 20
    for limit in range(1, times + 1):
        found = cut_and_compare(tmp_path, command, cli, asked, limit)
        again = found[1:] if found[:2] == expected[:1] * 2 else found  # nothing is saved before the first step
        assert again == expected, limit
        tally.add("faults survived", 1)
    assert arrays(tmp_path / "whole")
