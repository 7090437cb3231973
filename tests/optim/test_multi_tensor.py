"""Updating many parameters by one kernel call equals Paddle's update of each parameter."""

import paddle
import pytest

from plsc.optim import multi_tensor
from plsc.optim.multi_tensor import MultiTensorAdamW
from plsc.optim.optimizers import AdamW
from tests.optim.toys import set_gradients, toy_task, values


def one_by_one(optimizer):
    """Replace the inner optimizer by Paddle's AdamW."""
    decayed = {optimizer.named[name].name for group in optimizer.groups if group.decayed for name in group.parameters}
    optimizer.inner = paddle.optimizer.AdamW(
        learning_rate=0.0,
        beta1=0.8,
        beta2=0.95,
        epsilon=1e-6,
        weight_decay=0.2,
        parameters=optimizer.parameters,
        apply_decay_param_fun=lambda name: name in decayed,
    )
    return optimizer


def make(layer_decay=None):
    task = toy_task()
    return task, AdamW(task, 0.2, 0.8, 0.95, 1e-6, layer_decay)


def descend(task, optimizer, steps, branch_from=0):
    for step in steps:
        set_gradients(task, step, use_branch=step >= branch_from)
        optimizer.set_lr(0.01 * (step + 1))
        optimizer.step()
        optimizer.clear_grad()
    return {**values(task), **{name: tensor.numpy() for name, tensor in optimizer.state_dict().items()}}


@pytest.fixture
def calls(monkeypatch):
    """Number of parameters of each kernel call."""
    sizes, kernel = [], multi_tensor._C_ops.fused_adam_

    class Counting:
        @staticmethod
        def fused_adam_(parameters, *arguments):
            sizes.append(len(parameters))
            return kernel(parameters, *arguments)

    monkeypatch.setattr(multi_tensor, "_C_ops", Counting)
    return sizes


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if (found[name] != wanted[name]).any()] == []


@pytest.mark.parametrize("layer_decay", [None, 0.5])
@pytest.mark.parametrize("branch_from", [0, 2])
def test_results_are_bit_equal_to_paddles(layer_decay, branch_from):
    task, optimizer = make(layer_decay)
    reference = toy_task()
    expected = one_by_one(AdamW(reference, 0.2, 0.8, 0.95, 1e-6, layer_decay))
    before = values(task)
    found = descend(task, optimizer, range(4), branch_from)
    assert_same(found, descend(reference, expected, range(4), branch_from))
    assert all((found[name] != before[name]).any() for name, _ in task.named_parameters())


def test_two_calls_update_everything(calls):
    task, optimizer = make()
    descend(task, optimizer, range(3))
    assert len(calls) == 2 * 3 and sum(calls[:2]) == len(optimizer.parameters)


def test_each_depth_forms_separate_groups(calls):
    task, optimizer = make(layer_decay=0.5)
    descend(task, optimizer, range(1))
    assert len(calls) == len(optimizer.groups) and sum(calls) == len(optimizer.parameters)


def test_parameters_with_fewer_updates_form_a_separate_group(calls):
    """Their bias correction differs, and the GPU kernel uses that of the first parameter for all."""
    task, optimizer = make()
    descend(task, optimizer, range(3), branch_from=2)
    assert sum(calls[:2]) == sum(calls[2:4]) < len(optimizer.parameters) == sum(calls[4:]) and len(calls[4:]) > 2


def test_the_state_of_another_run_is_regrouped(calls):
    """Groups depend on the loaded powers of the betas, not on those counted before."""
    task, optimizer = make()
    descend(task, optimizer, range(3), branch_from=2)
    state = {name: tensor.numpy() for name, tensor in optimizer.state_dict().items()}
    weights = {name: tensor.numpy() for name, tensor in task.state_dict().items()}
    wanted = descend(task, optimizer, range(3, 5))

    fresh_task, fresh = make()
    descend(fresh_task, fresh, range(1))
    fresh.set_state_dict(state)
    fresh_task.set_state_dict(weights)
    calls.clear()
    assert_same(descend(fresh_task, fresh, range(3, 5)), wanted)
    assert len(calls) > 2 * 2


def test_dtypes_form_separate_groups():
    task, optimizer = make()
    task.model.head.to(dtype="float64")
    optimizer.state_dict()  # creates the moments
    matrices = [parameter for parameter in optimizer.parameters if parameter.ndim == 2]
    assert len({optimizer.inner._treatment(parameter) for parameter in matrices}) == 2


def test_nothing_to_update():
    task, optimizer = make()
    before = values(task)
    optimizer.step()
    assert_same(values(task), before)
    assert isinstance(optimizer.inner, MultiTensorAdamW)
