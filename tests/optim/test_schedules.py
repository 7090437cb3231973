import math

import pytest

from plsc.optim.schedules import Constant, WarmupCosine, WarmupStep, absolute_rate, cosine, warmup


@pytest.mark.parametrize(
    "both_ends, steps, expected",
    [
        (True, 5, [1.0, 1.25, 1.5, 1.75, 2.0]),
        (False, 5, [1.0, 1.2, 1.4, 1.6, 1.8]),
        (True, 1, [1.0]),
        (False, 1, [1.0]),
        (True, 2, [1.0, 2.0]),
    ],
)
def test_warmup(both_ends, steps, expected):
    rates = [warmup(step, 2.0, steps, start=1.0, both_ends=both_ends) for step in range(steps)]
    assert rates == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    "step, expected", [(0, 1.0), (1, 0.1 + 0.45 * (1 + math.sqrt(0.5))), (2, 0.55), (4, 0.1), (9, 0.1)]
)
def test_cosine(step, expected):
    assert cosine(step, 1.0, 0.1, 4) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    "scale, batch, expected", [("absolute", 4096, 0.1), ("per_256", 4096, 1.6), ("per_256", 64, 0.025)]
)
def test_absolute_rate(scale, batch, expected):
    assert absolute_rate(0.1, scale, batch) == pytest.approx(expected, rel=1e-15)


def rates(schedule, steps):
    return [schedule(step) for step in range(steps)]


def test_the_base_occurs_twice_by_default_and_once_as_in_plsc():
    run = {"epochs": 4, "steps_per_epoch": 4}
    official = rates(WarmupCosine(1.0, warmup_epochs=1, **run), 16)
    plsc = rates(WarmupCosine(1.0, warmup_epochs=1, warmup_both_ends=False, **run), 16)
    assert official[:5] == pytest.approx([0, 1 / 3, 2 / 3, 1, 1])
    assert plsc[:5] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert official[4:] == plsc[4:]


def test_warmup_cosine_falls_to_min_lr_and_stays():
    schedule = WarmupCosine(1.0, warmup_epochs=0.5, min_lr=0.1, epochs=3, steps_per_epoch=4)
    values = rates(schedule, 12)
    assert values[2:] == sorted(values[2:], reverse=True)
    assert values[-1] > 0.1
    assert schedule(12) == schedule(50) == pytest.approx(0.1)


def test_per_256_scales_the_base_and_leaves_min_lr_and_warmup_start():
    schedule = WarmupCosine(
        0.1, 1, min_lr=0.01, scale="per_256", warmup_start=0.02, epochs=2, steps_per_epoch=2, global_batch_size=512
    )
    assert rates(schedule, 3) == pytest.approx([0.02, 0.2, 0.2])
    assert schedule(4) == pytest.approx(0.01)


def test_warmup_step_falls_at_its_milestones():
    schedule = WarmupStep(1.0, [2, 3], gamma=0.1, warmup_epochs=1, epochs=4, steps_per_epoch=2)
    assert rates(schedule, 8) == pytest.approx([0, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_constant():
    assert rates(Constant(0.5, epochs=2, steps_per_epoch=2), 6) == [0.5] * 6


def test_the_warmup_can_last_the_whole_run():
    assert rates(WarmupCosine(1.0, warmup_epochs=1, epochs=1, steps_per_epoch=3), 4) == [0.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: Constant(-1.0), "learning_rate must be above 0, got -1.0"),
        (lambda: Constant(1.0, warmup_start=-0.1), "warmup_start must be at least 0, got -0.1"),
        (lambda: Constant(1.0, warmup_epochs=3, epochs=2), "warmup_epochs is 3, but the run has 2 epochs; shorten"),
        (lambda: Constant(math.nan), "learning_rate must be above 0, got nan"),
        (lambda: Constant(1e308, scale="per_256", global_batch_size=2560), "learning_rate must be finite, got inf"),
        (lambda: Constant(1.0, warmup_start=math.inf), "warmup_start must be at most the learning_rate 1, got inf"),
        (lambda: WarmupCosine(1.0, min_lr=math.nan), "min_lr must be at least 0, got nan"),
        (lambda: WarmupCosine(1.0, min_lr=math.inf), "min_lr must be finite, got inf"),
        (lambda: WarmupStep(1.0, [1], gamma=10.0), r"gamma must be in \[0, 1\], got 10.0"),
        (lambda: WarmupCosine(1.0, min_lr=-1e-6), "min_lr must be at least 0, got -1e-06"),
        (lambda: WarmupStep(1.0, [3, 2]), r"milestones must be above 0 and ascending, got \[3, 2\]"),
    ],
)
def test_errors(build, message):
    with pytest.raises(ValueError, match=message):
        build()
