"""What is called at each step leaves no Python objects behind."""

import gc

import numpy as np
import paddle
import pytest

from plsc.data.batch_transforms import Normalize
from plsc.data.erasing import RandomErasing
from plsc.data.loader import DataLoader
from plsc.data.mixup import MixupCutmix
from plsc.nn.drop_path import DropPath
from plsc.nn.functional import project_heads
from plsc.nn.utils import tensor_of
from plsc.tokenizers.pixel import PixelTarget
from tests.data.toys import Images

CALLS = 40
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)


def objects():
    gc.collect()
    return len(gc.get_objects())


def left(function):
    """Objects that remain for each call; 0 or next to it unless every call leaves some."""
    function()  # fills caches
    before = objects()
    for _ in range(CALLS):
        function()
    return (objects() - before) / CALLS


def attention():
    x, weight, q, v = (paddle.ones(shape) for shape in ([2, 5, 6], [6, 18], [6], [6]))
    weight.stop_gradient = False
    sum(part.sum() for part in project_heads(x, weight, q, v, num_heads=3)).backward()


def drop_path():
    x = paddle.ones([8, 2])
    x.stop_gradient = False
    DropPath(0.5)(x, lambda x: 2 * x).sum().backward()


def loader():
    loader = DataLoader(Images(8), batch_size=2)
    for number in range(2):
        loader.set_position(number, 0)
        list(loader)


def batch():
    return {"image": paddle.ones([4, 3, 8, 8]), "label": paddle.arange(4)}


def rng():
    return np.random.default_rng(0)


STEPS = {
    "tensor": lambda: tensor_of(PIXELS),
    "Normalize": lambda: Normalize()({"image": paddle.ones([4, 3, 8, 8]).astype("uint8")}, rng()),
    "MixupCutmix": lambda: MixupCutmix(num_classes=4)(batch(), rng()),
    "RandomErasing": lambda: RandomErasing(1.0)(batch(), rng()),
    "PixelTarget": lambda: PixelTarget(4, denorm=True)(batch()),
    "DropPath": drop_path,
    "attention": attention,
    "loader": loader,
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_leaves_no_objects(name):
    assert left(STEPS[name]) < 0.5


def test_the_count_finds_what_is_left():
    kept = []
    assert left(lambda: kept.append([])) == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "bool", "float16"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 3)])
def test_tensors_have_the_values_and_dtype_of_the_array(shape, dtype):
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    tensor = tensor_of(array)
    assert tensor.stop_gradient and tensor.numpy().dtype == array.dtype
    np.testing.assert_array_equal(tensor.numpy(), array)
    assert str(tensor.place) == str(paddle.to_tensor(array).place)


def test_tensors_of_lists_views_and_other_dtypes():
    array = np.arange(24.0).reshape(4, 6)
    np.testing.assert_array_equal(tensor_of(array[::2, ::-1]).numpy(), array[::2, ::-1])
    np.testing.assert_array_equal(tensor_of((0.1, 0.2), "float32").numpy(), np.float32([0.1, 0.2]))
    assert tensor_of([0.5], "bfloat16").dtype == paddle.bfloat16
    tensor = tensor_of(array)
    array[:] = 0.0
    assert tensor.numpy()[3, 5] == 23.0  # a copy
