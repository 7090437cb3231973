import pytest

from plsc.config.settings import AMP
from plsc.nn.precision import LossScale, Precision
from tests.engine.toys import toy_trainer


def test_a_device_without_mixed_precision_uses_float32_and_logs_it_once():
    said = []
    precision = Precision(AMP(level="O1"), said.append)
    assert said == ["AMP level O1 needs a GPU; this run uses float32"]
    assert not precision.enabled and precision.loss_scale is None and precision.state_dict() == {}


def test_the_scale_is_halved_by_overflow_and_doubled_after_good_steps():
    scale = LossScale(8.0, growth_steps=3)
    assert scale.overflowed() and scale.value == 4.0
    scale.succeeded()
    assert scale.overflowed() and scale.value == 2.0
    for _ in range(3):
        scale.succeeded()
    assert scale.value == 4.0
    assert [scale.overflowed() for _ in range(3)] == [True, True, False]  # at 1 the scale is not the cause


def scaled(tmp_path, **options):
    """A run in float32 with a loss scale, as float16 has."""
    trainer = toy_trainer(tmp_path, **options)
    trainer.train_step.precision.loss_scale = LossScale(1024.0, growth_steps=3)
    return trainer


def test_a_scaled_loss_trains_like_an_unscaled_one(tmp_path):
    plain, other = toy_trainer(tmp_path / "a"), scaled(tmp_path / "b")
    plain.fit()
    other.fit()
    for left, right in zip(plain.train_step.parameters, other.train_step.parameters):
        assert left.numpy().tobytes() == right.numpy().tobytes()  # powers of two change no digit
    assert other.train_step.precision.loss_scale.value == 1024.0 * 4


def test_an_overflow_skips_the_step_is_counted_and_lowers_the_scale(tmp_path):
    trainer = scaled(tmp_path, steps=4)
    forward = trainer.task.forward

    def overflowing(batch):
        outputs = forward(batch)
        big = trainer.step == 1 and trainer.train_step.precision.loss_scale.value > 256.0
        return {"loss": outputs["loss"] * (3e38 if big else 1.0)}

    trainer.task.forward = overflowing
    trainer.fit()
    nonfinite = trainer.train_step.nonfinite
    assert trainer.step == 4 and nonfinite.overflows == 1 and not nonfinite.left_out
    assert trainer.train_step.precision.loss_scale.value == 512.0


def test_the_scale_survives_a_resume(tmp_path):
    trainer = scaled(tmp_path)
    trainer.fit()
    other = scaled(tmp_path)
    other.set_state_dict(trainer.state_dict())
    assert other.train_step.precision.state_dict() == trainer.train_step.precision.state_dict() != {}


def test_a_scale_below_one_is_refused():
    with pytest.raises(ValueError, match="init_loss_scaling must be at least 1"):
        AMP(init_loss_scaling=0.5)
