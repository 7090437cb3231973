import json

import numpy as np
import paddle
import pytest

from plsc.engine.callbacks.checkpoints import Checkpoints
from plsc.engine.callbacks.progress import ProgressLog
from plsc.engine.nonfinite import NonFinitePolicy
from tests.engine.test_trainer import Recorder
from tests.engine.toys import toy_trainer


class Poison:
    """A batch transform that puts a NaN into the images of some steps."""

    def __init__(self, *steps):
        self.steps = steps

    def __call__(self, batch, rng):
        if self.trainer.step in self.steps:
            image = batch["image"].clone()
            image[0, 0] = float("nan")
            return {**batch, "image": image}
        return batch


def poisoned(tmp_path, action, *steps, limit=10, callbacks=(), **options):
    poison = Poison(*steps)
    trainer = toy_trainer(tmp_path, transforms=[poison], callbacks=callbacks, **options)
    trainer.train_step.nonfinite = NonFinitePolicy(
        action, limit, tmp_path / "nonfinite", "Global: {}\n", trainer.log, trainer.loader.dataset
    )
    poison.trainer = trainer
    return trainer


def weights(trainer):
    return [p.numpy().copy() for p in trainer.train_step.parameters]


def test_stop_names_step_layer_metrics_and_dump(tmp_path):
    trainer = poisoned(tmp_path, "stop", 2)
    with pytest.raises(FloatingPointError) as error:
        trainer.fit()
    text = str(error.value)
    assert "the gradients of step 3 are not finite (loss nan)" in text
    assert "the batch's image is not finite" in text
    assert "Lower the learning rate" in text and "plsc replay" in text
    folder = tmp_path / "nonfinite" / "step_00000003"
    assert {path.name for path in folder.iterdir()} == {"rank_0", "model.safetensors", "config.yaml"}
    facts = json.loads((folder / "rank_0" / "facts.json").read_text(encoding="utf-8"))
    assert facts["step"] == 2 and facts["bad"] and facts["metrics"]["loss"] is None
    with np.load(folder / "rank_0" / "batch_0.npz") as batch:
        assert np.isfinite(batch["image"]).all()  # as it was read; the transform broke it


def test_skip_leaves_the_weights_unchanged_and_continues(tmp_path):
    seen = {}

    class Watch(Recorder):
        def on_step_end(self, trainer):
            seen[trainer.step] = (trainer.metrics.skipped, weights(trainer))

    trainer = poisoned(tmp_path, "skip", 2, callbacks=[Watch(), ProgressLog(1)])
    trainer.fit()
    assert [step for step, (skipped, _) in seen.items() if skipped] == [3]
    for before, after in zip(seen[2][1], seen[3][1]):
        np.testing.assert_array_equal(before, after)
    assert any((before != after).any() for before, after in zip(seen[3][1], seen[4][1]))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert 3 not in [row["step"] for row in rows] and rows[-1]["skipped_steps"] == 1.0


def test_skip_has_a_limit(tmp_path):
    with pytest.raises(FloatingPointError, match=r"step 5 .*nonfinite_limit of 2 is reached"):
        poisoned(tmp_path, "skip", 1, 2, 4, limit=2).fit()


def test_rewind_goes_back_and_leaves_the_batch_out(tmp_path):
    steps = []

    class Watch(Recorder):
        def on_step_end(self, trainer):
            steps.append(trainer.step)

    saver = Checkpoints(tmp_path / "checkpoints", "", every_epochs=None, every_steps=2)
    trainer = poisoned(tmp_path, "rewind", 5, callbacks=[Watch(), ProgressLog(1), saver])
    trainer.rewind = saver.rewind
    trainer.fit()
    assert steps == [1, 2, 3, 4, 5, 5, 6, 7, 8]
    skipping = poisoned(tmp_path / "skip", "skip", 5)
    skipping.fit()
    for left, right in zip(weights(trainer), weights(skipping)):
        np.testing.assert_array_equal(left, right)


def test_rewind_without_a_checkpoint_stops(tmp_path):
    with pytest.raises(FloatingPointError, match="no checkpoint to go back to"):
        poisoned(tmp_path, "rewind", 1).fit()


def test_steps_left_out_are_restored():
    policy = NonFinitePolicy("skip")
    policy.left_out, policy.overflows = {3, 7}, 2
    other = NonFinitePolicy("skip")
    other.set_state_dict(json.loads(json.dumps(policy.state_dict())))
    assert other.left_out == {3, 7} and other.overflows == 2


def test_broken_weights_and_broken_gradients_are_distinguished(tmp_path):
    trainer = poisoned(tmp_path, "stop")
    trainer.train_step.parameters[2].set_value(paddle.full_like(trainer.train_step.parameters[2], float("inf")))
    with pytest.raises(FloatingPointError, match="weights were not finite before the step, first model.2.weight"):
        trainer.fit()
    layer = poisoned(tmp_path / "layer", "stop")
    layer.train_step.parameters[1].set_value(
        paddle.full_like(layer.train_step.parameters[1], 3e38)
    )  # finite, but not twice as much
    layer.task.model[1].forward = lambda x: x + x
    with pytest.raises(FloatingPointError, match=r"the first layer whose output is not finite is model.1\. "):
        layer.fit()
    root = poisoned(tmp_path / "root", "stop")
    # the gradient of sqrt at 0 is infinite, its value is not
    root.task.forward = lambda batch: {"loss": (root.task.model(batch["image"]) * 0.0).sum().sqrt()}
    with pytest.raises(
        FloatingPointError, match="the loss is finite; the last parameter whose gradient is not finite is"
    ):
        root.fit()


def test_a_dump_that_cannot_be_written_does_not_hide_the_step(tmp_path):
    (tmp_path / "nonfinite").write_text("a file", encoding="utf-8")
    with pytest.raises(
        FloatingPointError, match=r"gradients of step 1 are not finite.* The dump could not be written: "
    ):
        poisoned(tmp_path, "stop", 0).fit()
