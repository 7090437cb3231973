from contextlib import contextmanager

import paddle
import pytest

from plsc.config.settings import AMP
from plsc.engine.metric_store import MetricStore
from plsc.engine.step import TrainStep
from plsc.nn.precision import Precision
from tests.engine.toys import ToyOptimizer, ToyTask

BATCH = {"image": paddle.ones([2, 4])}


def toy_step(dropout=0.0, **options):
    paddle.seed(3)
    task = ToyTask(dropout)
    task.train()
    return TrainStep(task, ToyOptimizer(task), lambda step: 0.1, [], Precision(AMP()), total_steps=8, **options)


def test_the_timer_sees_the_stages_in_order_and_none_inside_another():
    step, stages, depth = toy_step(), [], [0]

    @contextmanager
    def timer(stage):
        stages.append(stage)
        depth[0] += 1
        assert depth[0] == 1
        yield
        depth[0] -= 1

    step.timer = timer
    step([BATCH, BATCH])
    micro_batch = ["batch transforms", "targets", "forward", "backward"]
    after = ["gradient exchange", "gradient clip", "task before the update", "optimizer", "optimizer"]
    assert stages == [*micro_batch, *micro_batch, *after, "task after the update"]


def test_a_step_gives_scalars_and_the_gradient_norm():
    step = toy_step()
    scalars = step([BATCH])
    assert set(scalars) == {"loss", "grad_norm"} and step.step == 1 and not step.skipped


def test_random_values_depend_on_seed_step_and_rank():
    def loss(**options):
        return float(toy_step(dropout=0.5, **options).accumulate_gradients([BATCH])["loss"])

    same = {"seed": 1, "step": 2, "rank": 3}
    assert loss(**same) == loss(**same)
    others = {loss(**same), loss(**{**same, "seed": 2}), loss(**{**same, "step": 3}), loss(**{**same, "rank": 4})}
    assert len(others) == 4


def test_gradients_that_are_not_finite_stop_a_step_without_a_run():
    step = toy_step()
    with pytest.raises(FloatingPointError, match="the gradients of step 1 are not finite"):
        step([{"image": BATCH["image"] * float("inf")}])


def test_the_state_of_a_step_is_restored():
    step, other = toy_step(), toy_step()
    step([BATCH])
    step.nonfinite.left_out = {5}
    other.set_state_dict(step.state_dict())
    assert other.state_dict() == step.state_dict()
    assert other.step == 1 and other.nonfinite.left_out == {5}


def test_the_store_holds_the_metrics_of_one_step():
    store = MetricStore()
    store.begin({"loss": 1.0}, False, ["a", "b"])
    store.record({"top1": 2.0})
    store.record({"top1": 3.0, "top5": 4.0})
    store.finish("a")
    store.finish("a")  # has no effect
    assert store.due == ["b"] and store.results == {"top1": 3.0, "top5": 4.0}
    assert store.take_results() == {"top1": 3.0, "top5": 4.0} and store.take_results() is None
    store.record({"top1": 2.0})
    store.begin({"loss": 2.0}, True, [])
    assert (store.scalars, store.skipped, store.results, store.due) == ({"loss": 2.0}, True, None, [])
