import errno
import json
from concurrent import futures

import numpy as np
import paddle
import pytest

from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint.reader import Checkpoint, find_newest
from plsc.engine.callback import Callback
from plsc.engine.callbacks.checkpoints import Checkpoints
from plsc.engine.callbacks.evaluation import Evaluation
from plsc.engine.callbacks.pictures import Pictures
from plsc.engine.callbacks.progress import ProgressLog
from plsc.engine.callbacks.weights import WeightAverage
from plsc.engine.interrupt import Interrupted
from plsc.optim.ema import WeightEMA
from plsc.runs.directory import OutputError
from tests.engine.toys import ToyLoader, ToyOptimizer, toy_trainer


def rows(path, split):
    lines = (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == split]


def test_progress_is_the_mean_since_the_last_line(tmp_path):
    losses = []

    class Losses(Callback):
        def on_step_end(self, trainer):
            losses.append(float(trainer.metrics.scalars["loss"]))

    toy_trainer(tmp_path, steps=8, callbacks=[Losses(), ProgressLog(3)]).fit()
    written = rows(tmp_path, "train")
    assert [row["step"] for row in written] == [3, 4, 6, 8]  # every three steps, and at the end of an epoch
    assert written[0]["loss"] == pytest.approx(np.mean(losses[:3]), rel=1e-5)
    assert written[2]["loss"] == pytest.approx(np.mean(losses[4:6]), rel=1e-5)
    assert {"grad_norm", "lr", "images_per_second", "epoch"} <= set(written[0])


def timed_run(tmp_path, monkeypatch, loader_seconds, step_seconds):
    """A run of 16 steps by a clock that only the loader and the step move."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    class SlowLoader(ToyLoader):
        num_workers = 3

        def __iter__(self):
            for batch in super().__iter__():
                now[0] += loader_seconds
                yield batch

    class SlowStep(ToyOptimizer):
        def step(self):
            now[0] += step_seconds
            super().step()

    trainer = toy_trainer(tmp_path, steps=16, callbacks=[ProgressLog(2)])
    trainer.loader = SlowLoader()
    trainer.train_step.optimizer = SlowStep(trainer.task)
    trainer.fit()
    return rows(tmp_path, "train")


def test_waiting_for_data_is_logged_and_advised_about_once(tmp_path, monkeypatch):
    for row in timed_run(tmp_path, monkeypatch, 0.25, 0.75):
        assert row["data_wait"] == 0.25 and row["images_per_second"] == 2
    text = (tmp_path / "train.log").read_text(encoding="utf-8")
    assert text.count("of the time was spent waiting for data: raise DataLoader.Train.loader.num_workers (now 3;") == 1
    assert "img/s (data wait" in text


def test_a_loader_that_keeps_up_needs_no_advice(tmp_path, monkeypatch):
    for row in timed_run(tmp_path, monkeypatch, 0.125, 0.875):
        assert row["data_wait"] == 0.125
    assert "waiting for data" not in (tmp_path / "train.log").read_text(encoding="utf-8")


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    class Poison(Callback):
        def on_step_end(self, trainer):
            if trainer.step == 2:
                trainer.train_step.parameters[0].set_value(
                    paddle.full_like(trainer.train_step.parameters[0], float("nan"))
                )

    with pytest.raises(FloatingPointError, match=r"gradients of step 3 are not finite.*Lower the learning rate"):
        toy_trainer(tmp_path, callbacks=[Poison(), ProgressLog(1)]).fit()


def test_nothing_is_saved_of_weights_that_are_not_finite(tmp_path):
    class Poison(Callback):
        def on_step_end(self, trainer):
            trainer.train_step.parameters[0].set_value(paddle.full_like(trainer.train_step.parameters[0], float("nan")))

    saver = Checkpoints(tmp_path / "checkpoints", "", every_epochs=None, every_steps=2)
    with pytest.raises(FloatingPointError):
        toy_trainer(tmp_path, callbacks=[Poison(), ProgressLog(1), saver]).fit()
    assert find_newest(tmp_path / "checkpoints") is None


def test_evaluation_comes_every_k_epochs_and_at_the_end(tmp_path):
    results = iter([{"top1": 10.0}, {"top1": 30.0}])
    evaluation = Evaluation(lambda on_batch: next(results), every_epochs=2)
    toy_trainer(tmp_path, steps=9, callbacks=[evaluation]).fit()  # four steps an epoch
    assert [(row["step"], row["top1"]) for row in rows(tmp_path, "eval")] == [(8, 10.0), (9, 30.0)]


def test_the_best_checkpoint_is_of_the_best_evaluation_and_survives(tmp_path):
    results = iter([{"top1": 10.0}, {"top1": 50.0}, {"top1": 30.0}, {"top1": 20.0}])
    evaluation = Evaluation(lambda on_batch: next(results), every_epochs=1)
    saver = Checkpoints(tmp_path / "checkpoints", "", keep_last=1, monitor="top1")
    toy_trainer(tmp_path, steps=16, callbacks=[evaluation, saver]).fit()
    assert Checkpoint.open(tmp_path / "checkpoints" / "best").path.name == "step_00000008"
    assert Checkpoint.open(tmp_path).path.name == "step_00000016"
    assert len(checkpoint_files.checkpoints(tmp_path / "checkpoints")) == 2


def test_a_smaller_loss_is_better_in_mode_min(tmp_path):
    results = iter([{"loss": 1.0}, {"loss": 0.5}, {"loss": 2.0}])
    evaluation = Evaluation(lambda on_batch: next(results), every_epochs=1)
    saver = Checkpoints(tmp_path / "checkpoints", "", monitor="loss", monitor_mode="min")
    toy_trainer(tmp_path, steps=12, callbacks=[evaluation, saver]).fit()
    assert Checkpoint.open(tmp_path / "checkpoints" / "best").path.name == "step_00000008"


def test_monitoring_a_metric_that_is_not_measured_is_an_error(tmp_path):
    evaluation = Evaluation(lambda on_batch: {"loss": 1.0}, every_epochs=1)
    saver = Checkpoints(tmp_path / "checkpoints", "", monitor="top1")
    with pytest.raises(ValueError, match="Global.monitor: the evaluation measures loss, not top1"):
        toy_trainer(tmp_path, steps=4, callbacks=[evaluation, saver]).fit()


def test_the_weight_average_is_evaluated_and_the_weights_are_restored(tmp_path):
    trainer = toy_trainer(tmp_path, steps=4)
    ema = WeightEMA(trainer.task, 0.5)
    seen = []

    def run(on_batch):
        seen.append(trainer.train_step.parameters[0].numpy().copy())
        return {"top1": 1.0}

    trainer.callbacks = [WeightAverage(ema), Evaluation(run, 1, ema)]
    trainer.fit()
    assert len(rows(tmp_path, "eval")) == len(rows(tmp_path, "eval_ema")) == 1
    assert not np.array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(trainer.train_step.parameters[0].numpy(), seen[0])


def test_a_restored_trainer_ends_with_the_same_weights(tmp_path):
    def saver(name):
        return Checkpoints(tmp_path / name, "x: 1\n", every_epochs=None, every_steps=3, keep_last=5)

    whole = toy_trainer(tmp_path / "a", steps=8, dropout=0.3, callbacks=[saver("whole")])
    whole.fit()
    half = toy_trainer(tmp_path / "b", steps=8, dropout=0.3)
    saver("whole").restore(half, Checkpoint(tmp_path / "whole" / "step_00000003"))
    assert half.step == 3
    half.fit()
    for left, right in zip(whole.train_step.parameters, half.train_step.parameters):
        np.testing.assert_array_equal(left.numpy(), right.numpy())


def test_pictures_do_not_change_the_order_of_the_images(tmp_path):
    losses = {}
    for name, callbacks in (("without", []), ("with", [Pictures(every_epochs=1)])):
        seen = losses.setdefault(name, [])

        class Losses(Callback):
            def on_step_end(self, trainer, seen=seen):
                seen.append(float(trainer.metrics.scalars["loss"]))

        toy_trainer(tmp_path / name, steps=10, callbacks=[Losses(), *callbacks]).fit()
    assert losses["with"] == losses["without"]


def test_a_stop_request_while_the_average_is_evaluated_saves_the_trained_weights(tmp_path):
    trainer = toy_trainer(tmp_path, steps=4)
    ema = WeightEMA(trainer.task, 0.5)
    own = {}

    def run(on_batch):
        if not own:
            own.update({name: value.numpy().copy() for name, value in trainer.task.state_dict().items()})
        else:
            trainer.stop_request.signal_number = 15
        if on_batch is not None:
            on_batch()
        return {"top1": 1.0}

    saved = {}
    trainer.save = lambda t: saved.update({name: value.numpy().copy() for name, value in t.task.state_dict().items()})
    trainer.callbacks = [WeightAverage(ema), Evaluation(run, 1, ema)]
    with pytest.raises(Interrupted):
        trainer.fit()
    for name, value in own.items():
        np.testing.assert_array_equal(saved[name], value)


def test_a_checkpoint_that_cannot_be_written_ends_the_run_at_the_next_step(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    class WaitForWriter(Callback):
        def on_step_end(self, trainer):
            if trainer.step > 150:
                futures.wait([saver._pending], timeout=60)

    monkeypatch.setattr(checkpoint_files, "write", full)
    saver = Checkpoints(tmp_path / "checkpoints", "", every_epochs=None, every_steps=150)
    trainer = toy_trainer(tmp_path, steps=200, callbacks=[WaitForWriter(), saver])
    with pytest.raises(OutputError, match=r"step_00000150 cannot be written: No space left .* free some space"):
        trainer.fit()
    assert trainer.step == 151
