"""Checkpoints that lie about themselves: a clear error, never a crash, and nothing outside their directory is read."""

import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint.arrays import CheckpointError
from plsc.checkpoint.convert import convert
from plsc.checkpoint.formats import read_weights, rename
from plsc.checkpoint.model_config import model_section
from plsc.checkpoint.reader import Checkpoint
from tests.checkpoint.test_formats import official_state, plsc_state


def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(begin, end, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


EIGHT = b"\0" * 8
FILES = {
    "a header larger than memory": safetensors({}, length=2**63),
    "a header of a terabyte": safetensors({}, length=2**40),
    "a header beyond the end": safetensors({}, length=100),
    "overlapping": safetensors({"a": tensor(0, 8), "b": tensor(4, 12)}, EIGHT + b"\0" * 4),
    "backwards": safetensors({"a": tensor(8, 0)}, EIGHT),
    "beyond the end": safetensors({"a": tensor(0, 2**50, (2**48,))}, EIGHT),
    "more elements than bytes": safetensors({"a": tensor(0, 8, (2**62, 4))}, EIGHT),
    "a negative side": safetensors({"a": tensor(0, 8, (-2,))}, EIGHT),
    "bytes that belong to nothing": safetensors({"a": tensor(0, 8)}, EIGHT * 2),
    "no such type": safetensors({"a": tensor(0, 8, dtype="X9")}, EIGHT),
    "a type that is a list": safetensors({"a": {**tensor(0, 8), "dtype": ["F32"]}}, EIGHT),
    "nested": safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "no text": safetensors(b'{"\xff":1}'),
    "a list": safetensors(b"{[1]"),
    "nothing but a length": struct.pack("<Q", 1) + b"{",
}


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_header_of_others(tmp_path, name):
    path = tmp_path / "x.safetensors"
    path.write_bytes(FILES[name])
    with pytest.raises(CheckpointError, match=r"x\.safetensors is damaged: "):
        read_weights(path)


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3"])
def test_types_that_numpy_does_not_have(tmp_path, dtype):
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors({"a": tensor(0, 4 if dtype == "BF16" else 2, dtype=dtype)}, b"\0" * 4)[: -2 or None])
    with pytest.raises(CheckpointError, match=r"x\.safetensors (has values of a type that numpy|is damaged)"):
        read_weights(path)


@pytest.fixture
def checkpoint(tmp_path):
    """A whole checkpoint, and `change(file, content)`, after which its checksums are right again."""
    path = checkpoint_files.write(
        tmp_path / "run" / "checkpoints", 1, {"model": {"model.w": np.ones(2, "float32")}}, {}, "{}\n"
    )

    def change(file, content):
        (path / file).write_bytes(content)
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        state["files"][file] = {"size": len(content), "crc32": zlib.crc32(content)}
        (path / "state.json").write_text(json.dumps(state), encoding="utf-8")

    return path, change


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_header_in_a_checkpoint_of_ours(checkpoint, name):
    path, change = checkpoint
    change("model.safetensors", FILES[name])
    with pytest.raises(CheckpointError, match="model.safetensors is damaged"):
        Checkpoint(path).model()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"../../secret": {"size": 1, "crc32": 0}}, "it names '../../secret', which is not a file beside it"),
        ({"/etc/hostname": {"size": 1, "crc32": 0}}, "it names '/etc/hostname', which is not a file beside it"),
        ({"..": {"size": 1, "crc32": 0}}, "it names '..', which is not a file beside it|.. is missing"),
        ({"model.safetensors": 3}, "state.json cannot be read"),
        ({"model.safetensors": {"size": "many", "crc32": 0}}, "state.json cannot be read"),
        ({"model.safetensors": {}}, "its state.json has no 'size'"),
        (["model.safetensors"], "state.json cannot be read"),
        (None, "state.json cannot be read"),
    ],
)
def test_state_names_files_beside_it_only(checkpoint, files, message):
    path, _ = checkpoint
    state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    (path / "state.json").write_text(json.dumps({**state, "files": files}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        Checkpoint(path)


@pytest.mark.parametrize(
    "text",
    ["[" * 200_000, "{}", "null", '{"format": 1e999, "files": {}}', '{"format": 1, "files": {}, "step": []}', "\ud800"],
)
def test_a_state_that_is_none(checkpoint, text):
    path, _ = checkpoint
    (path / "state.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CheckpointError, match="is not a (whole )?checkpoint"):
        Checkpoint(path)


@pytest.mark.parametrize("pointer", ["..", "../checkpoints/step_00000001x", "/etc", "\0", "x" * 10_000, "\udc80", ""])
def test_a_pointer_names_a_checkpoint_beside_it_only(checkpoint, pointer):
    path, _ = checkpoint
    (path.parent.parent / "state.json").write_text("{}", encoding="utf-8")
    (path.parent / "best").write_bytes(pointer.encode("utf-8", "surrogatepass"))
    with pytest.raises(CheckpointError, match="best names .*not a checkpoint any more"):
        Checkpoint.open(path.parent / "best")
    (path.parent / "latest").write_bytes(pointer.encode("utf-8", "surrogatepass"))
    assert Checkpoint.open(path.parent).path == path


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("Model: !!python/object/apply:os.system [ls]", "the tag 'tag:yaml.org,2002:python/object/apply:os.system'"),
        ("Model: [", "not valid YAML"),
        ("[" * 3000, "nested deeper than 64"),
        ("a: &a [x, x]\nb: &b [*a, *a]\n" + "".join(f"k{i}: &k{i} [*{'b' if i == 0 else f'k{i - 1}'}, "
            f"*{'b' if i == 0 else f'k{i - 1}'}]\n" for i in range(40)), "more than 100000 values|nested deeper"),
    ],
)  # fmt: skip
def test_its_config_is_plain_yaml(config, message):
    with pytest.raises(CheckpointError, match=message):
        model_section(config)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("{image_size: 1000000, patch_size: 1}", "has 1000000 x 1000000 patches, too many"),
        ("{image_size: 32, patch_size: 0}", "Model.encoder.patch_size of the checkpoint's config is not a size: 0"),
        ("{image_size: [1, 2, 3]}", "Model.encoder.image_size of the checkpoint's config is not a size"),
        ("{image_size: {a: b}}", "Model.encoder.image_size of the checkpoint's config is not a size"),
    ],
)
def test_a_position_table_of_an_impossible_size_is_not_computed(tmp_path, encoder, message):
    arrays = {"model": {"model.encoder.cls_token": np.zeros((1, 1, 8), "float32")}}
    checkpoint_files.write(tmp_path / "run", 1, arrays, {}, f"Model: {{encoder: {encoder}}}\n")
    with pytest.raises(CheckpointError, match=message):
        convert(tmp_path / "run", tmp_path / "x.pth", "official")
    assert not (tmp_path / "x.pth").exists()


SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)
KNOWN = [*official_state(), *plsc_state(), "model.encoder.cls_token", "blocks.0.attn.qkv.bias", "fc_norm.weight"]
NAMES = st.one_of(st.sampled_from(KNOWN), st.text(max_size=8), st.integers(0, 3))
VALUES = st.one_of(SHAPES.map(np.zeros), st.sampled_from([None, 3, "x", [1]]))


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=6), st.dictionaries(st.sampled_from(KNOWN), SHAPES, max_size=3))
def test_any_names_and_shapes_are_weights_or_a_clear_error(state, reshaped):
    whole = {**official_state(), **{name: np.zeros(shape) for name, shape in reshaped.items()}}
    for arrays in (state, {"model": state}, whole, {**whole, **state}):
        try:
            rename(arrays, "x")
        except CheckpointError as error:
            assert str(error)
