import os
import signal

import numpy as np
import paddle
import pytest

from plsc.engine.callback import Callback
from plsc.engine.interrupt import Interrupted
from tests.engine.toys import ToyLoader, toy_trainer


class Recorder(Callback):
    def __init__(self):
        self.steps, self.losses, self.events = [], [], []

    def on_train_begin(self, trainer):
        self.events.append("begin")

    def on_step_end(self, trainer):
        self.steps.append(trainer.step)
        self.losses.append(float(trainer.metrics.scalars["loss"]))

    def on_train_end(self, trainer):
        self.events.append("end")


def test_one_step_calls_everything_in_the_documented_order(tmp_path):
    trainer = toy_trainer(tmp_path, steps=1, accumulate=2)
    trainer.fit()
    assert trainer.task.calls == ["prepare", "forward"] * 2 + ["clip", "before_step", "step", "on_step_end"]


def test_a_run_takes_its_steps_over_epochs_and_tells_the_callbacks(tmp_path):
    recorder = Recorder()
    toy_trainer(tmp_path, steps=40, callbacks=[recorder]).fit()
    assert recorder.steps == list(range(1, 41))
    assert recorder.events == ["begin", "end"]
    assert np.mean(recorder.losses[-8:]) < 0.5 * np.mean(recorder.losses[:8])


def test_accumulated_micro_batches_equal_one_large_batch(tmp_path):
    def batches(size):
        images = np.random.default_rng(0).normal(size=(4, 4)).astype("float32")
        return [{"image": paddle.to_tensor(images[i : i + size])} for i in range(0, 4, size)]

    whole, parts = toy_trainer(tmp_path), toy_trainer(tmp_path)
    loss = whole.train_step(batches(4))["loss"]
    assert float(parts.train_step(batches(1))["loss"]) == pytest.approx(float(loss), abs=1e-6)
    for left, right in zip(whole.train_step.parameters, parts.train_step.parameters):
        np.testing.assert_allclose(left.numpy(), right.numpy(), atol=1e-6)


def test_drop_out_depends_on_the_step_alone(tmp_path):
    batch = [{"image": paddle.ones([2, 4])}]
    first, second = (toy_trainer(tmp_path, dropout=0.5) for _ in range(2))
    paddle.rand([17])  # another process has drawn other numbers before
    first_losses = [float(first.train_step(batch)["loss"]) for _ in range(3)]
    paddle.rand([5])
    assert [float(second.train_step(batch)["loss"]) for _ in range(3)] == first_losses


def test_batch_transforms_see_a_generator_of_the_step(tmp_path):
    drawn = []

    def transform(batch, rng):
        drawn.append(rng.random())
        return batch

    trainer = toy_trainer(tmp_path, steps=3, transforms=[transform])
    trainer.fit()
    again = toy_trainer(tmp_path, steps=3, transforms=[transform])
    again.fit()
    assert len(set(drawn)) == 3 and drawn[:3] == drawn[3:]


def test_the_learning_rate_follows_the_steps_taken(tmp_path):
    rates = []

    class Rates(Callback):
        def on_step_end(self, trainer):
            rates.append(trainer.train_step.optimizer.inner.get_lr())

    toy_trainer(tmp_path, steps=3, callbacks=[Rates()]).fit()
    assert rates == pytest.approx([0.1, 0.05, 0.1 / 3])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_after_the_step_and_ends_the_run(tmp_path, number):
    saved = []

    class Kill(Callback):
        def on_step_end(self, trainer):
            if trainer.step == 3:
                os.kill(os.getpid(), number)

    trainer = toy_trainer(tmp_path, callbacks=[Kill()], save=lambda t: saved.append(t.step))
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match="after step 3"):
        trainer.fit()
    assert saved == [3]
    assert signal.getsignal(number) is before


def test_a_second_interrupt_stops_at_once(tmp_path):
    class Twice(Callback):
        def on_step_end(self, trainer):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        toy_trainer(tmp_path, callbacks=[Twice()]).fit()


def test_a_restored_step_continues_in_the_middle_of_an_epoch(tmp_path):
    recorder = Recorder()
    trainer = toy_trainer(tmp_path, steps=8, callbacks=[recorder])
    trainer.set_state_dict({"step": 6, "seed": 0, "scaler": {}})
    trainer.fit()
    assert recorder.steps == [7, 8]
    assert trainer.loader.position == (1, 2)


def test_a_batch_without_what_the_task_needs_is_an_error(tmp_path):
    trainer = toy_trainer(tmp_path)
    trainer.task.required_keys = ("image", "label")
    with pytest.raises(ValueError, match="ToyTask needs label in a batch.*labels come from"):
        trainer.fit()


def test_the_toy_loader_repeats_itself():
    loader = ToyLoader()
    first = [batch["image"].numpy() for batch in loader]
    loader.set_position(0, 2)
    np.testing.assert_array_equal(first[2], next(iter(loader))["image"].numpy())
