import numpy as np
import paddle
import pytest

from plsc.optim.ema import WeightEMA
from tests.optim.toys import toy_task, values


def shift(task, amount):
    with paddle.no_grad():
        for parameter in task.parameters():
            parameter.set_value(parameter + amount)
        task.encoder.seen.set_value(task.encoder.seen + 1)


@pytest.mark.parametrize("warmup, decays", [(False, [0.9, 0.9, 0.9]), (True, [1 / 10, 2 / 11, 3 / 12])])
def test_average(warmup, decays):
    task = toy_task()
    ema = WeightEMA(task, 0.9, warmup)
    expected = values(task)["model.head.weight"]
    for decay in decays:
        shift(task, 1.0)
        ema.update(task)
        expected = decay * expected + (1 - decay) * values(task)["model.head.weight"]
    np.testing.assert_allclose(ema.averages["model.head.weight"].numpy(), expected, rtol=1e-6)


def test_counters_are_copied_and_fixed_tables_are_not_kept():
    task = toy_task()
    ema = WeightEMA(task, 0.5)
    shift(task, 1.0)
    ema.update(task)
    assert int(ema.averages["model.encoder.seen"]) == 1
    assert set(ema.averages) == set(task.state_dict())


def test_swap_uses_the_average_and_restores_the_weights():
    task = toy_task()
    ema = WeightEMA(task, 0.5)
    shift(task, 1.0)
    ema.update(task)
    own, average = values(task), {name: value.numpy() for name, value in ema.averages.items()}
    with pytest.raises(RuntimeError, match="in between"), ema.swap(task):
        inside = values(task)
        raise RuntimeError("in between")
    for name in own:
        np.testing.assert_array_equal(inside[name], average[name])
        np.testing.assert_array_equal(values(task)[name], own[name])


def test_a_restored_average_continues_equally():
    first, second = toy_task(1), toy_task(2)
    ema = WeightEMA(first, 0.9, warmup=True)
    shift(first, 1.0)
    ema.update(first)
    other = WeightEMA(second, 0.9, warmup=True)
    other.set_state_dict({name: value.numpy() for name, value in ema.state_dict().items()})
    second.set_state_dict(first.state_dict())
    for task, average in ((first, ema), (second, other)):
        shift(task, 0.3)
        average.update(task)
    assert ema.updates == other.updates == 2
    for name, value in ema.averages.items():
        np.testing.assert_array_equal(value.numpy(), other.averages[name].numpy())


def test_a_state_does_not_change_with_the_average_once_copied():
    task = toy_task()
    ema = WeightEMA(task, 0.0)
    before = ema.averages["model.head.weight"].numpy().copy()
    shift(task, 1.0)
    np.testing.assert_array_equal(ema.averages["model.head.weight"].numpy(), before)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decay_out_of_range(decay):
    with pytest.raises(ValueError, match=r"EMA.decay must be in \[0, 1\), or null for none, got"):
        WeightEMA(toy_task(), decay)


def test_a_state_of_another_model_is_refused():
    ema = WeightEMA(toy_task(), 0.9)
    state = ema.state_dict()
    state["model.tail.weight"] = state.pop("model.head.weight")
    with pytest.raises(ValueError, match="another model.*model.head.weight, model.tail.weight; resume with the config"):
        ema.set_state_dict(state)
    with pytest.raises(ValueError, match="shapes that differ: model.encoder.cls_token, .*; resume with the config"):
        ema.set_state_dict(WeightEMA(toy_task(width=6), 0.9).state_dict())
