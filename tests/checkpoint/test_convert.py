import re

import numpy as np
import paddle
import pytest

from plsc.checkpoint.convert import convert
from plsc.checkpoint.formats import read_weights
from plsc.checkpoint.torch_file import write_torch_file
from plsc.nn.pos_embed import relative_position_index, sincos_2d
from plsc.nn.utils import to_pair
from plsc.safe_pickle import read_state_file
from tests.checkpoint.test_formats import make_cae, official_state, plsc_state
from tests.parity import fixtures

SIZES = {"small": (12, 4), "base": (12, 4), "large": (24, 4)}


def same(left, right):
    assert set(left) == set(right)
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name], err_msg=name)


def with_table(state):
    return {**state, "encoder.pos_embed": sincos_2d((4, 4), 16)}


@pytest.mark.parametrize("through", ["own", "safetensors"])
def test_plsc_round_trip(tmp_path, through):
    paddle.save({"model": with_table(plsc_state()), "epoch": 1}, str(tmp_path / "a.pd"))
    convert(tmp_path / "a.pd", tmp_path / f"b.{through}", through)
    convert(tmp_path / f"b.{through}", tmp_path / "c.pd", "plsc")
    same(read_state_file(tmp_path / "c.pd")["model"], with_table(plsc_state()))
    same({k: np.asarray(v) for k, v in paddle.load(str(tmp_path / "c.pd"))["model"].items()}, with_table(plsc_state()))


@pytest.mark.parametrize("through", ["own", "safetensors", "plsc"])
def test_official_round_trip(tmp_path, through):
    write_torch_file(tmp_path / "a.pth", with_table(official_state()))
    convert(tmp_path / "a.pth", tmp_path / f"b.{through}", through)
    convert(tmp_path / f"b.{through}", tmp_path / "c.pth", "official")
    same(read_state_file(tmp_path / "c.pth")["model"], with_table(official_state()))


@pytest.mark.parametrize("size", SIZES)
def test_full_key_lists_of_each_size_survive_both_references(tmp_path, size):
    depth, heads = SIZES[size]
    config = {
        "img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": depth, "num_heads": heads, "mlp_ratio": 4.0,
        "layer_scale_init_value": 0.1, "regressor_depth": 4, "decoder_depth": 4, "decoder_embed_dim": 16,
        "decoder_num_heads": heads, "decoder_num_classes": 32, "decoder_layer_scale_init_value": 0.1,
    }  # fmt: skip
    model = make_cae(config)
    state = {f"model.{name}": value.numpy() for name, value in model.state_dict().items()}
    from safetensors.numpy import save_file

    save_file(state, tmp_path / "own.safetensors")
    for to in ("plsc", "official"):
        convert(tmp_path / "own.safetensors", tmp_path / f"x.{to}", to)
        back = read_weights(tmp_path / f"x.{to}")
        same(back.arrays, state)


def classifier_state(path):
    """Parameters of a fixture, with the indices of the bias tables, which the references save too."""
    config, arrays = fixtures.read(path)
    state = fixtures.group(arrays, "param")
    image, patch = to_pair(config["img_size"], "img_size"), to_pair(config["patch_size"], "patch_size")
    grid = image[0] // patch[0], image[1] // patch[1]
    tables = [name for name in state if name.endswith("relative_position_bias_table")]
    indices = {name.replace("bias_table", "index"): relative_position_index(grid) for name in tables}
    return {**indices, **state}


@pytest.mark.parametrize("path", fixtures.of_kind("finetune", "linprobe", "attentive"))
def test_classifiers_return_to_the_names_they_came_with(tmp_path, path):
    state = classifier_state(path)
    write_torch_file(tmp_path / "a.pth", state)
    convert(tmp_path / "a.pth", tmp_path / "own", "own")
    convert(tmp_path / "own", tmp_path / "c.pth", "official")
    same(read_state_file(tmp_path / "c.pth")["model"], state)


def in_plsc(state, affine):
    """An official classifier as PLSC's main saves it; in old Paddles each batch norm has a weight and a bias."""
    probe = any("running_mean" in name for name in state)
    renamed = {}
    for name, value in state.items():
        name = name.replace("attentive_blocks.", "linear_blocks.")
        name = re.sub(r"(linear_blocks\.\d+\.norm1_[qkv])\.", r"\1_cross.", name)
        name = re.sub(r"^(?:fc_norm|head\.0)\.running_mean$", "head.0._mean", name)
        name = re.sub(r"^(?:fc_norm|head\.0)\.running_var$", "head.0._variance", name)
        name = re.sub(r"^head\.(?=weight|bias)", "head.1." if probe else "head.", name)
        linear = value.ndim == 2 and name.endswith("weight")
        if not name.endswith("num_batches_tracked"):
            renamed[name] = np.ascontiguousarray(value.T) if linear else value
    if probe and affine:
        width = renamed["head.0._mean"].shape
        renamed.update({"head.0.weight": np.ones(width, "float32"), "head.0.bias": np.zeros(width, "float32")})
    return renamed


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("path", fixtures.of_kind("finetune", "linprobe", "attentive"))
def test_plscs_classifiers_have_plscs_names_and_return_from_the_authors(tmp_path, path, affine):
    state = classifier_state(path)
    theirs = in_plsc(state, affine)
    paddle.save({"model": theirs, "epoch": 99}, str(tmp_path / "a.pd"))
    write_torch_file(tmp_path / "a.pth", state)
    convert(tmp_path / "a.pd", tmp_path / "b.pth", "official")
    written = read_state_file(tmp_path / "b.pth")["model"]
    tracked = {name: np.zeros((), "int64") for name in state if name.endswith("num_batches_tracked")}
    same(written, {**state, **tracked})
    convert(tmp_path / "b.pth", tmp_path / "c.pd", "plsc")
    same(read_state_file(tmp_path / "c.pd")["model"], theirs)
    convert(tmp_path / "a.pth", tmp_path / "d.pd", "plsc")
    same(read_state_file(tmp_path / "d.pd")["model"], in_plsc(state, affine=False))
    for through in ("own", "safetensors"):
        convert(tmp_path / "a.pd", tmp_path / f"e.{through}", through)
        convert(tmp_path / f"e.{through}", tmp_path / f"{through}.pd", "plsc")
        same(read_state_file(tmp_path / f"{through}.pd")["model"], theirs)


def test_a_batch_norm_with_a_learned_scale_is_refused(tmp_path):
    state = in_plsc(fixtures.group(fixtures.read(fixtures.named("linprobe_standard.npz"))[1], "param"), affine=True)
    state["head.0.weight"][0] = 2
    paddle.save({"model": state}, str(tmp_path / "a.pd"))
    with pytest.raises(ValueError, match="a.pd: its head's batch norm has a learned weight"):
        convert(tmp_path / "a.pd", tmp_path / "b.pth", "official")


@pytest.mark.parametrize("through", ["own", "safetensors"])
def test_the_index_of_a_grid_that_is_not_square_survives(tmp_path, through):
    state = fixtures.group(fixtures.read(fixtures.named("finetune_nopos_nolayerscale.npz"))[1], "param")
    table = np.random.default_rng(0).normal(size=(3 * 15 + 3, 4)).astype("float32")
    changed = {"table": table, "index": relative_position_index((2, 8))}
    for name in state:
        state[name] = next((value for end, value in changed.items() if name.endswith(end)), state[name])
    write_torch_file(tmp_path / "a.pth", state)
    convert(tmp_path / "a.pth", tmp_path / f"b.{through}", through)
    assert read_weights(tmp_path / f"b.{through}").grid == (2, 8)
    convert(tmp_path / f"b.{through}", tmp_path / "c.pth", "official")
    same(read_state_file(tmp_path / "c.pth")["model"], state)
    write_torch_file(tmp_path / "d.pth", {n: value for n, value in state.items() if not n.endswith("index")})
    with pytest.raises(ValueError, match="has 48 rows, which does not fit a square grid, and the file does not store"):
        convert(tmp_path / "d.pth", tmp_path / "e.pth", "official")


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_timm_round_trip_of_the_encoder(tmp_path, suffix):
    write_torch_file(tmp_path / "a.pth", with_table(official_state()))
    convert(tmp_path / "a.pth", tmp_path / f"vit.{suffix}", "timm-vit")
    back, source = read_weights(tmp_path / f"vit.{suffix}"), read_weights(tmp_path / "a.pth")
    encoder = {name: value for name, value in source.arrays.items() if name.startswith("model.encoder.")}
    same(back.arrays, encoder)


def test_timm_names_are_those_of_timm(tmp_path):
    write_torch_file(tmp_path / "a.pth", with_table(official_state()))
    convert(tmp_path / "a.pth", tmp_path / "vit.pth", "timm-vit")
    names = set(read_state_file(tmp_path / "vit.pth")["model"])
    block = ("norm1.weight", "attn.qkv.weight", "attn.qkv.bias", "attn.proj.bias", "ls1.gamma", "mlp.fc2.weight")
    assert {f"blocks.1.{name}" for name in block} <= names
    assert {"cls_token", "pos_embed", "patch_embed.proj.weight", "norm.weight"} <= names


def test_a_relative_position_bias_has_no_place_in_timm(tmp_path):
    path = fixtures.named("finetune_mean_relpos.npz")
    write_torch_file(tmp_path / "a.pth", fixtures.group(fixtures.read(path)[1], "param"))
    with pytest.raises(ValueError, match="timm's VisionTransformer has no relative position bias"):
        convert(tmp_path / "a.pth", tmp_path / "vit.pth", "timm-vit")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pth"]


def test_what_exists_is_replaced_only_by_force(tmp_path):
    write_torch_file(tmp_path / "a.pth", official_state())
    (tmp_path / "b.pd").write_text("mine")
    with pytest.raises(FileExistsError, match="b.pd exists; choose another name or give --force"):
        convert(tmp_path / "a.pth", tmp_path / "b.pd", "plsc")
    assert (tmp_path / "b.pd").read_text() == "mine"
    convert(tmp_path / "a.pth", tmp_path / "b.pd", "plsc", force=True)
    assert read_weights(tmp_path / "b.pd").arrays


def test_a_source_that_cannot_be_read_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        convert(tmp_path / "missing", tmp_path / "out.pd", "plsc")
    assert not list(tmp_path.iterdir())


def test_a_batch_norm_before_the_head_is_folded_into_it(toy_runs, tmp_path):
    from safetensors.numpy import load_file

    import plsc

    probe = toy_runs.train_probe(tmp_path / "probe")
    convert(probe, tmp_path / "timm.safetensors", "timm-vit")
    arrays = load_file(tmp_path / "timm.safetensors")
    model = plsc.load(probe)
    image = next((toy_runs.images / "val" / "0").iterdir())
    logits = model.features(image) @ arrays["head.weight"].T + arrays["head.bias"]
    assert np.allclose(logits, model.logits(image), atol=1e-4)
    assert not any("batch_norm" in name for name in arrays)


def test_an_attentive_head_has_no_place_in_timm(tmp_path):
    from safetensors.numpy import save_file

    arrays = {"model.encoder.cls_token": np.zeros((1, 1, 4), "f"), "model.head.query_token": np.zeros((1, 1, 4), "f")}
    save_file(arrays, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="timm's VisionTransformer has no attentive head"):
        convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", "timm-vit")
