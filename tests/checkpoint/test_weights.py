import numpy as np
import paddle
import pytest
from paddle import nn

from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint import weights as checkpoint_weights
from plsc.checkpoint.arrays import CheckpointError
from plsc.checkpoint.reader import Checkpoint
from plsc.config.tree import ConfigError
from plsc.optim.ema import WeightEMA
from plsc.optim.optimizers import AdamW
from tests.optim.toys import set_gradients, toy_task, values


def save(directory, task, step=1, optimizer=None, ema=None, config="Global: {epochs: 1}\n", **state):
    """Write a checkpoint of a task; return its directory."""
    parts = {"model": task.state_dict(), "optimizer": {} if optimizer is None else optimizer.state_dict()}
    parts.update({} if ema is None else {"ema": ema.state_dict()})
    arrays = {part: checkpoint_weights.snapshot(tensors) for part, tensors in parts.items()}
    return checkpoint_files.write(directory, step, arrays, state, config)


def restore(task, path, ema=False):
    """Load a checkpoint into a task; return the opened checkpoint."""
    checkpoint = Checkpoint(path)
    checkpoint_weights.restore_layer(task, checkpoint, checkpoint_weights.weights_of(checkpoint, ema))
    return checkpoint


def train(task, optimizer, ema, steps):
    for step in steps:
        set_gradients(task, step)
        optimizer.set_lr(0.01)
        optimizer.step()
        optimizer.clear_grad()
        ema.update(task)


def test_what_was_saved_is_loaded(tmp_path):
    task = toy_task()
    optimizer, ema = AdamW(task), WeightEMA(task, 0.9)
    train(task, optimizer, ema, range(2))
    loaded = Checkpoint(save(tmp_path, task, 2, optimizer, ema, seed=7, scaler={"scale": 2.0}))
    assert loaded.config_text == "Global: {epochs: 1}\n"
    assert (loaded.state["step"], loaded.state["seed"], loaded.state["scaler"]) == (2, 7, {"scale": 2.0})
    for read, tensors in (
        (loaded.model(), task.state_dict()),
        (loaded.optimizer(), optimizer.state_dict()),
        (loaded.ema(), ema.state_dict()),
    ):
        assert set(read) == set(tensors)
        for name, tensor in tensors.items():
            assert list(read[name].shape) == list(tensor.shape), name
            np.testing.assert_array_equal(read[name], tensor.numpy(), err_msg=name)


def test_a_run_resumed_from_disk_is_the_same_to_the_last_bit(tmp_path):
    straight = toy_task()
    parts = AdamW(straight, clip_norm=1.0), WeightEMA(straight, 0.9, warmup=True)
    train(straight, *parts, range(6))

    first = toy_task()
    halves = AdamW(first, clip_norm=1.0), WeightEMA(first, 0.9, warmup=True)
    train(first, *halves, range(3))
    path = save(tmp_path, first, 3, *halves)

    second = toy_task(seed=5)
    resumed = AdamW(second, clip_norm=1.0), WeightEMA(second, 0.9, warmup=True)
    checkpoint = restore(second, path)
    resumed[0].set_state_dict(checkpoint.optimizer())
    resumed[1].set_state_dict(checkpoint.ema())
    train(second, *resumed, range(3, 6))

    assert resumed[1].updates == 6
    for name, value in values(straight).items():
        np.testing.assert_array_equal(values(second)[name], value, err_msg=name)
        np.testing.assert_array_equal(resumed[1].averages[name].numpy(), parts[1].averages[name].numpy(), err_msg=name)


def test_the_average_is_restored_as_weights(tmp_path):
    task = toy_task()
    ema = WeightEMA(task, 0.5)
    train(task, AdamW(task), ema, range(2))
    other = toy_task(seed=3)
    restore(other, save(tmp_path, task, ema=ema), ema=True)
    for name, value in values(other).items():
        np.testing.assert_array_equal(value, ema.averages[name].numpy(), err_msg=name)


def test_an_average_that_was_not_kept(tmp_path):
    task = toy_task()
    with pytest.raises(ConfigError, match="step_00000001 holds no moving average of the weights; leave --ema out"):
        restore(task, save(tmp_path, task), ema=True)


def test_a_snapshot_does_not_change_with_the_weights():
    task = toy_task()
    taken = checkpoint_weights.snapshot(task.state_dict())["model.head.weight"]
    before = taken.copy()
    with paddle.no_grad():
        task.model.head.weight.add_(paddle.ones_like(task.model.head.weight))
    np.testing.assert_array_equal(taken, before)


def test_bfloat16_comes_back_exactly(tmp_path):
    values32 = np.array([1.0, -0.3359375, 3e38, 1e-30], "float32")
    tensor = paddle.to_tensor(values32).astype("bfloat16")
    exact = tensor.astype("float32").numpy()
    path = checkpoint_files.write(tmp_path, 1, {"model": checkpoint_weights.snapshot({"w": tensor})}, {}, "")
    read = Checkpoint(path).model()["w"]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, exact)
    target = paddle.zeros([4], "float32").astype("bfloat16")
    checkpoint_weights.assign(target, read)
    assert target.dtype == paddle.bfloat16
    np.testing.assert_array_equal(target.astype("float32").numpy(), exact)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_assign_keeps_dtype_and_shape(dtype):
    for shape in ([], [2, 3]):
        tensor = paddle.zeros(shape, dtype)
        checkpoint_weights.assign(tensor, np.ones(shape, "float32"))
        assert (tensor.shape, str(tensor.dtype).split(".")[-1]) == (shape, dtype)
        np.testing.assert_array_equal(tensor.numpy(), np.ones(shape, dtype))


def test_weights_of_another_model_change_nothing(tmp_path):
    path = save(tmp_path, toy_task())
    other = toy_task(seed=1, width=6)
    other.extra = nn.Linear(1, 1)
    before = values(other)
    with pytest.raises(CheckpointError) as error:
        restore(other, path)
    text = str(error.value)
    assert "extra.weight is missing in the checkpoint" in text
    assert "model.head.weight is [4, 5] in the checkpoint and [6, 5] in this model" in text
    assert "use the config it was saved with, or another Global.output_dir" in text
    for name, value in values(other).items():
        np.testing.assert_array_equal(value, before[name])


def test_names_the_model_does_not_have(tmp_path):
    bigger = toy_task()
    bigger.extra = nn.Linear(1, 1)
    with pytest.raises(CheckpointError, match="extra.weight is not in this model"):
        restore(toy_task(), save(tmp_path, bigger))


def test_a_long_list_is_cut(tmp_path):
    with pytest.raises(CheckpointError, match="and 6 more"):
        restore(nn.Sequential(*(nn.Linear(1, 1) for _ in range(7))), save(tmp_path, toy_task()))


def test_a_checkpoint_without_weights(tmp_path):
    path = checkpoint_files.write(tmp_path, 1, {"optimizer": {}}, {}, "")
    with pytest.raises(CheckpointError, match="is not a checkpoint of a run: model.safetensors is missing"):
        Checkpoint(path).model()


def test_a_checkpoint_whose_content_changed(tmp_path):
    path = save(tmp_path, toy_task())
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    with pytest.raises(CheckpointError, match="the content of model.safetensors has changed"):
        Checkpoint(path)
