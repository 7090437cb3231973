"""Files of weights in the formats of torch and Paddle."""

import argparse
import collections
import contextlib
import enum
import pathlib
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import paddle
import pytest

from plsc.safe_pickle import Unknown, UnsafeFileError, read_pickle, read_state_file

FILES = Path(__file__).parent.parent / "files"
EXPECTED = {
    "weight": np.arange(6, dtype="float32").reshape(2, 3),
    "transposed": np.arange(6, dtype="float32").reshape(2, 3).T,
    "half": np.array([0.5, -2.0], dtype="float16"),
    "brain": np.array([1.0, -3.0], dtype="float32"),
    "count": np.array(7, dtype="int64"),
}


def test_plain_containers_and_arrays_pass(tmp_path):
    columns = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    content = {
        "model": collections.OrderedDict(w=np.eye(3, dtype="float32"), f=columns),
        "epoch": 3, "scaler": {"scale": 2.0, "use": True}, "args": argparse.Namespace(lr=0.1, name="x"),
        "numbers": (np.float32(0.5), np.int64(4)), "big_endian": np.arange(3, dtype=">i4"),
    }  # fmt: skip
    path = tmp_path / "plain.pd"
    for protocol in (2, 4):
        path.write_bytes(pickle.dumps(content, protocol))
        found = read_state_file(path)
        np.testing.assert_array_equal(found["model"]["w"], np.eye(3))
        np.testing.assert_array_equal(found["model"]["f"], np.arange(6.0).reshape(2, 3))
        np.testing.assert_array_equal(found["big_endian"], [0, 1, 2])
        assert found["args"] == {"lr": 0.1, "name": "x"}
        assert found["numbers"] == (0.5, 4) and found["scaler"] == {"scale": 2.0, "use": True}


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_files_of_paddle(tmp_path, protocol):
    layer = paddle.nn.Linear(2, 3)
    optimizer = paddle.optimizer.AdamW(parameters=layer.parameters())
    layer(paddle.ones([1, 2])).sum().backward()
    optimizer.step()
    path = tmp_path / "state.pd"
    paddle.save({"model": layer.state_dict(), "optimizer": optimizer.state_dict()}, str(path), protocol=protocol)
    found = read_state_file(path)
    np.testing.assert_array_equal(found["model"]["weight"], layer.weight.numpy())
    assert all(isinstance(v, np.ndarray) for v in found["model"].values())


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
def test_files_of_torch(name):
    found = read_state_file(FILES / name)["model"]
    assert set(found) == set(EXPECTED)
    for key, value in EXPECTED.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)
        assert found[key].dtype == value.dtype and found[key].shape == value.shape


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
def test_a_file_that_was_cut_off_is_named(tmp_path, name, share):
    whole = (FILES / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UnsafeFileError, match=name):
        read_state_file(path)


def test_random_damage_raises_unsafe_file_error(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.pth"
    for name in ("zip.pth", "legacy.pth"):
        whole = bytearray((FILES / name).read_bytes())
        for _ in range(150):
            damaged = bytearray(whole)
            for place in rng.integers(0, len(whole), 3):
                damaged[place] = rng.integers(0, 256)
            path.write_bytes(bytes(damaged))
            with contextlib.suppress(UnsafeFileError):
                read_state_file(path)


def test_a_pickle_of_python_2(tmp_path):
    """Such files contain text instead of bytes, for example the archives of CIFAR."""
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01(K\x02t"
    array += b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb"
    array += b"\x89U\x02\x07\xfftb"
    found = read_pickle(b"\x80\x02}U\x04data" + array + b"s.", "batch")
    np.testing.assert_array_equal(found["data"], np.array([7, 255], dtype=np.uint8))


def test_shared_objects_stay_shared(tmp_path):
    shared = np.zeros(3, dtype="float32")
    found = read_pickle(pickle.dumps({"a": [shared, shared], "b": shared}), "x")
    assert found["a"][0] is found["a"][1] is found["b"]


class History:
    """Object of an unknown class with numbers and functions, such as training logs."""

    def __init__(self):
        self.log, self.functions = np.arange(3.0), {"mean": np.mean, "max": max}


class Kind(enum.Enum):
    COSINE = "cos"


def module(name, parameters, children=()):
    """Object with the attributes of a torch module, of a class that is not available when it is read."""
    made = types.new_class(name)()
    made.__dict__.update(_parameters=parameters, _buffers={}, _modules=collections.OrderedDict(children), training=True)
    return made


@pytest.fixture
def theirs(monkeypatch):
    """Add a module for writing and remove it before reading."""
    package = types.ModuleType("theirs")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "theirs", package)

        def write(content, *classes, protocol=4):
            for kind in classes:
                patch.setattr(kind, "__module__", "theirs")
                setattr(package, kind.__qualname__, kind)
            return pickle.dumps(content, protocol)

        yield write


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_unknown_objects_become_placeholders(theirs, protocol):
    content = {
        "model": {"w": np.ones(2, "float32")},
        "log": History(), "kind": Kind.COSINE, "path": pathlib.PurePosixPath("a/b"), "keys": {Kind.COSINE: 1},
        "paths": {pathlib.PurePosixPath("a")}, "text": np.array(["a", "b"], dtype=object), "words": np.array(["ab"]),
        "queue": collections.deque([1, 2], 5), "state": collections.defaultdict(dict, a=1), "function": max,
        "version": np.random.default_rng(0).bit_generator.state,
    }  # fmt: skip
    data = theirs(content, History, Kind, protocol=protocol)
    del sys.modules["theirs"]
    found = read_pickle(data, "x")
    np.testing.assert_array_equal(found["model"]["w"], [1, 1])
    assert found["log"].name == "theirs.History" and set(found["log"].values) == {"log", "functions"}
    np.testing.assert_array_equal(found["log"].values["log"], [0, 1, 2])
    for key in ("kind", "path", "text", "words", "queue", "function"):
        assert type(found[key]) is Unknown, key
    assert found["state"] == {"a": 1} and list(found["keys"].values()) == [1]
    assert "theirs" not in sys.modules


def test_a_torch_module_becomes_the_dict_of_its_tensors(theirs):
    inner = module("Conv", {"w": np.ones((1, 2)), "b": None})
    outer = module("Encoder", {"scale": np.ones(1)}, [("input", inner), ("twin", inner), ("relu", module("ReLU", {}))])
    outer.parent = outer
    data = theirs(outer, *{type(m) for m in (outer, inner, outer._modules["relu"])})
    found = read_pickle(data, "x")
    assert list(found) == ["scale", "input.w", "twin.w"]
    np.testing.assert_array_equal(found["input.w"], [[1, 1]])


def test_a_tensor_of_an_unknown_type_is_a_placeholder_too():
    storage = b"(X\x07\0\0\0storagectorch\nFloat8_e4m3fnStorage\nX\x01\0\0\0" + b"0Nk".replace(b"k", b"K\x02tQ")
    data = b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\0K\x02\x85K\x01\x85\x89}tRs."
    assert read_pickle(data, "x")["w"].name == "torch.Float8_e4m3fnStorage"
