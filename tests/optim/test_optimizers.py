import numpy as np
import paddle
import pytest
from paddle import nn

from plsc.config import registry
from plsc.optim.optimizers import LARS, SGD, AdamW, _global_norm
from plsc.optim.optimizers import _multiply as multiply
from tests.optim.toys import set_gradients, toy_task, values

EVERY = [
    pytest.param(lambda task: AdamW(task, layer_decay=0.5, clip_norm=0.1), id="AdamW"),
    pytest.param(lambda task: SGD(task, nesterov=True, weight_decay=0.1), id="SGD"),
    pytest.param(lambda task: LARS(task, weight_decay=0.1), id="LARS"),
]


def train(task, optimizer, steps, branch_from=0):
    """Take the steps of a range; the branch has gradients from step `branch_from` on."""
    for step in steps:
        set_gradients(task, step, use_branch=step >= branch_from)
        optimizer.clip_gradients()
        optimizer.set_lr(0.01 * (step + 1))
        optimizer.step()
        optimizer.clear_grad()


def arrays(optimizer):
    return {name: value.numpy().copy() for name, value in optimizer.state_dict().items()}


def single(value, dtype="float64"):
    """A layer with a matrix and a vector filled with `value`."""
    layer = nn.Layer()
    layer.matrix = layer.create_parameter([2, 2], dtype=dtype, default_initializer=nn.initializer.Constant(value))
    layer.vector = layer.create_parameter([2], dtype=dtype, default_initializer=nn.initializer.Constant(value))
    return layer


def descend(layer, optimizer, gradients, rate=0.1):
    """Take steps with given gradients, equal for all elements."""
    for gradient in gradients:
        ((layer.matrix * gradient).sum() + (layer.vector * gradient).sum()).backward()
        optimizer.set_lr(rate)
        optimizer.step()
        optimizer.clear_grad()
    return float(layer.matrix[0, 0]), float(layer.vector[0])


def test_adamw_equals_torch():
    """torch.optim.AdamW: decay by lr * wd first, epsilon outside the bias-corrected root."""
    gradients, rate, epsilon = [0.3, -1.0, 2.0, 1e-9], 0.1, 1e-3
    layer = single(1.5)
    matrix, vector = descend(layer, AdamW(layer, 0.2, 0.8, 0.95, epsilon), gradients, rate)
    for actual, decay in ((matrix, 0.2), (vector, 0.0)):
        weight, first, second = 1.5, 0.0, 0.0
        for step, gradient in enumerate(gradients, start=1):
            weight *= 1 - rate * decay
            first = 0.8 * first + 0.2 * gradient
            second = 0.95 * second + 0.05 * gradient**2
            weight -= rate * (first / (1 - 0.8**step)) / ((second / (1 - 0.95**step)) ** 0.5 + epsilon)
        assert actual == pytest.approx(weight, abs=1e-8)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_equals_torch(nesterov):
    gradients, rate = [0.3, -1.0, 2.0], 0.1
    layer = single(1.5)
    actual = descend(layer, SGD(layer, 0.9, nesterov, weight_decay=0.2), gradients, rate)
    for ours, decay in zip(actual, (0.2, 0.0)):
        weight, velocity = 1.5, 0.0
        for gradient in gradients:
            gradient = gradient + decay * weight
            velocity = 0.9 * velocity + gradient
            weight -= rate * (gradient + 0.9 * velocity if nesterov else velocity)
        assert ours == pytest.approx(weight, abs=1e-7)


def test_layer_decay_scales_the_update():
    task = toy_task()
    before = values(task)
    optimizer = AdamW(task, weight_decay=0.0, layer_decay=0.5, epsilon=1e-12)
    train(task, optimizer, [0])
    after = values(task)
    # Adam's first update is the learning rate in every element.
    for name, scale in (("encoder.embed.weight", 0.25), ("encoder.block.weight", 0.5), ("head.weight", 1.0)):
        change = np.abs(after[f"model.{name}"] - before[f"model.{name}"])
        np.testing.assert_allclose(change, 0.01 * scale, rtol=1e-3)


def test_clipping_equals_torch():
    task = toy_task()
    optimizer = SGD(task, clip_norm=0.05)
    set_gradients(task, 0)
    gradients = {p.name: p.grad.numpy().copy() for p in task.parameters() if p.grad is not None}
    norm = np.sqrt(sum(np.square(g.astype(np.float64)).sum() for g in gradients.values()))
    assert norm > 0.05
    assert float(optimizer.clip_gradients()) == pytest.approx(norm, rel=1e-6)
    for parameter in task.parameters():
        if parameter.grad is not None:
            np.testing.assert_allclose(
                parameter.grad.numpy(), gradients[parameter.name] * (0.05 / (norm + 1e-6)), rtol=1e-5
            )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_clipping_without_the_host_multiplies_in_place(dtype):
    """As on a GPU, where the host does not read the factor."""
    gradient = paddle.to_tensor([1.0, -4.0], dtype=dtype)
    same = gradient
    multiply([gradient], paddle.to_tensor(0.5))
    assert same.astype("float32").tolist() == [0.5, -2.0] and same.dtype == gradient.dtype


@pytest.mark.parametrize("clip_norm", [None, 1e6])
def test_small_gradients_are_not_clipped_and_the_norm_is_returned(clip_norm):
    task = toy_task()
    optimizer = SGD(task, clip_norm=clip_norm)
    set_gradients(task, 0)
    before = task.model.head.weight.grad.numpy().copy()
    assert float(optimizer.clip_gradients()) > 0
    np.testing.assert_array_equal(task.model.head.weight.grad.numpy(), before)


def test_clipping_without_gradients():
    assert float(SGD(toy_task(), clip_norm=1.0).clip_gradients()) == 0.0


def test_gradients_accumulate_until_they_are_cleared():
    task = toy_task()
    optimizer = SGD(task)
    set_gradients(task, 0)
    once = task.model.head.weight.grad.numpy().copy()
    set_gradients(task, 0)
    np.testing.assert_allclose(task.model.head.weight.grad.numpy(), 2 * once, rtol=1e-6)
    optimizer.clear_grad()
    set_gradients(task, 0)
    np.testing.assert_array_equal(task.model.head.weight.grad.numpy(), once)


@pytest.mark.parametrize("build", EVERY)
@pytest.mark.parametrize("branch_from", [0, 4], ids=["all", "some without a gradient so far"])
def test_a_resumed_run_is_bit_equal(build, branch_from):
    straight = toy_task()
    train(straight, build(straight), range(6), branch_from)

    first = toy_task()
    optimizer = build(first)
    train(first, optimizer, range(3), branch_from)
    weights, state = values(first), arrays(optimizer)

    second = toy_task(seed=9)  # as in another process: other tensor names, other values
    names = [{p.name for p in task.parameters()} for task in (first, second)]
    assert not names[0] & names[1]
    for name, value in second.state_dict().items():
        value.set_value(weights[name])
    optimizer = build(second)
    optimizer.set_state_dict(state)
    train(second, optimizer, range(3, 6), branch_from)

    for name, value in values(straight).items():
        np.testing.assert_array_equal(values(second)[name], value, err_msg=name)


@pytest.mark.parametrize("build", EVERY)
def test_a_parameter_is_not_updated_in_a_step_that_does_not_use_it(build):
    task = toy_task()
    optimizer = build(task)
    train(task, optimizer, [0], branch_from=0)
    assert task.model.branch.weight.grad is None
    before, state = values(task), arrays(optimizer)
    train(task, optimizer, [1], branch_from=9)
    assert np.array_equal(values(task)["model.branch.weight"], before["model.branch.weight"])
    assert not np.array_equal(values(task)["model.head.weight"], before["model.head.weight"])
    for name, value in arrays(optimizer).items():
        assert np.array_equal(value, state[name]) == name.startswith("model.branch."), name


@pytest.mark.parametrize("build", EVERY)
def test_a_state_may_be_loaded_into_a_used_optimizer(build):
    task = toy_task()
    optimizer = build(task)
    train(task, optimizer, range(2))
    state = arrays(optimizer)
    train(task, optimizer, range(2, 4))
    optimizer.set_state_dict(state)
    for name, value in arrays(optimizer).items():
        np.testing.assert_array_equal(value, state[name], err_msg=name)


def test_two_optimizers_of_one_task_have_states_of_the_same_names():
    task = toy_task()
    assert set(AdamW(task).state_dict()) == set(AdamW(task).state_dict())


def test_names_of_a_state():
    names = set(AdamW(toy_task()).state_dict())
    kinds = {"moment1", "moment2", "beta1_pow_acc", "beta2_pow_acc"}
    assert {name.split("/")[1] for name in names} == kinds
    assert "model.branch.weight/moment1" in names
    assert {name.split("/")[1] for name in LARS(toy_task()).state_dict()} == {"velocity"}


def test_a_state_of_another_optimizer_is_refused():
    state = arrays(AdamW(toy_task()))
    with pytest.raises(ValueError, match="does not fit this run's LARS"):
        LARS(toy_task()).set_state_dict(state)
    renamed = {name.replace("head", "tail"): value for name, value in state.items()}
    with pytest.raises(ValueError, match="(?s)not in this run: model.tail.*missing in the state: model.head.*resume"):
        AdamW(toy_task()).set_state_dict(renamed)
    with pytest.raises(ValueError, match="of another shape: model.encoder.cls_token/moment1"):
        AdamW(toy_task(width=6)).set_state_dict(state)
    with pytest.raises(ValueError, match="missing in the state: .* and 34 more"):
        AdamW(toy_task()).set_state_dict({})


def test_frozen_parameters_are_not_updated():
    task = toy_task()
    for parameter in task.encoder.parameters():
        parameter.stop_gradient = True
    before = values(task)
    optimizer = AdamW(task)
    train(task, optimizer, range(2))
    after = values(task)
    assert {name for group in optimizer.groups for name in group.parameters} == {
        f"model.{layer}.{kind}" for layer in ("head", "branch") for kind in ("weight", "bias")
    }
    for name, value in before.items():
        assert np.array_equal(after[name], value) == name.startswith("model.encoder."), name


def test_weight_decay_schedule():
    layer = single(1.0)
    optimizer = AdamW(layer, weight_decay=0.1, weight_decay_end=0.5)
    for progress, expected in ((0.0, 0.1), (0.5, 0.3), (1.0, 0.5)):
        optimizer.set_progress(progress)
        assert [group.weight_decay for group in optimizer.groups] == pytest.approx([expected, 0.0])
    descend(layer, optimizer, [0.0], rate=0.1)
    assert float(layer.matrix[0, 0]) == pytest.approx(1 - 0.1 * 0.5)
    assert float(layer.vector[0]) == 1.0


def test_weight_decay_schedule_requires_the_progress():
    layer = single(1.0)
    with pytest.raises(AssertionError, match="set_progress"):
        descend(layer, AdamW(layer, weight_decay_end=0.5), [0.0])


@pytest.mark.parametrize("build", EVERY)
def test_every_optimizer_accepts_the_progress(build):
    build(toy_task()).set_progress(0.5)


def test_integers_from_yaml_are_accepted():
    task = toy_task()
    optimizer = registry.OPTIMIZERS.build({"name": "AdamW", "weight_decay": 0, "beta1": 0}, model=task)
    train(task, optimizer, range(1))
    optimizer.set_lr(1)


def test_the_norm_of_half_precision_gradients_does_not_overflow():
    gradient = paddle.to_tensor(np.full(6, 200, "float16"))  # six times 200 squared is beyond float16
    assert float(_global_norm([gradient])) == pytest.approx(200 * 6**0.5, rel=1e-3)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"weight_decay": -0.1}, "weight_decay must be at least 0, got -0.1"),
        ({"clip_norm": 0}, "clip_norm must be above 0, got 0"),
        ({"beta1": 1.0}, r"beta1 must be in \[0, 1\), got 1.0"),
        ({"beta2": -0.1}, r"beta2 must be in \[0, 1\), got -0.1"),
        ({"epsilon": 0.0}, "epsilon must be above 0, got 0.0"),
        ({"weight_decay_end": -1.0}, "weight_decay_end must be at least 0, got -1.0"),
        ({"layer_decay": 2.0}, "layer_decay must be in"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        AdamW(toy_task(), **options)


def test_nothing_to_train():
    task = toy_task()
    for parameter in task.parameters():
        parameter.stop_gradient = True
    with pytest.raises(ValueError, match="no trainable parameter; check the section Freeze"):
        SGD(task)


def test_layer_decay_needs_depths():
    with pytest.raises(ValueError, match="layer_decay needs a model with layer_index"):
        AdamW(nn.Linear(2, 2), layer_decay=0.5)


@pytest.mark.parametrize("make", [AdamW, SGD])
def test_state_of_parameters_of_16_bits_with_masters(make):
    """As under AMP O2; Paddle keys the state by the names of the master weights."""

    def halved():
        task = toy_task()
        for layer in task.sublayers():
            if isinstance(layer, nn.Linear):
                layer.to(dtype="float16")
        optimizer = make(task)
        optimizer.inner._multi_precision = True
        return task, optimizer

    task, optimizer = halved()
    state = optimizer.state_dict()
    masters = {name for name in state if name.endswith("/master_weight")}
    assert masters == {f"{name}/master_weight" for name, p in optimizer.named.items() if p.dtype == paddle.float16}
    assert 0 < len(masters) < len(optimizer.named)
    for name in optimizer.named:
        assert any(key.startswith(f"{name}/") and key not in masters for key in state), name
    changed = {name: tensor.numpy() + 1 for name, tensor in state.items()}
    _, other = halved()
    other.set_state_dict(changed)
    for name, tensor in other.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), changed[name])
