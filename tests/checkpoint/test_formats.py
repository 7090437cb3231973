import argparse
import json
import struct
import sys
import types
from pathlib import PurePosixPath

import numpy as np
import paddle
import pytest

from plsc.checkpoint.arrays import CheckpointError
from plsc.checkpoint.formats import read_weights, recognise, rename
from plsc.checkpoint.torch_file import write_torch_file
from plsc.checkpoint.transfer import initialise
from plsc.config.settings import Init
from plsc.models import CAE, Classifier, LinearHead, ViT
from plsc.nn.pos_embed import sincos_2d
from plsc.safe_pickle import Unknown
from plsc.tasks.classification import Classification
from plsc.tasks.masked_image_modeling import MaskedImageModeling
from plsc.tokenizers import RandomTokenizer
from tests.checkpoint.test_weights import save
from tests.optim.toys import toy_task, values
from tests.parity import fixtures

REMAP = json.loads((fixtures.Path(fixtures.__file__).parent / "golden" / "ckpt_remap.json").read_text(encoding="utf-8"))


def official_state():
    """A pre-training model as the authors save it: names and shapes of the reference."""
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype("float32") for name, shape in REMAP["saved_shapes"].items()}


def plsc_state():
    """The same weights as PLSC saves them."""
    names = REMAP["plsc_names_of_saved_keys"]
    state = {}
    for name, value in official_state().items():
        linear = value.ndim == 2 and name.endswith("weight")
        state[names[name]] = np.ascontiguousarray(value.T) if linear else value
    return state


def make_cae(config, depth=None):
    encoder = ViT(
        image_size=config["img_size"], patch_size=config["patch_size"], embed_dim=config["embed_dim"],
        depth=depth or config["depth"], num_heads=config["num_heads"], mlp_ratio=config["mlp_ratio"],
        layer_scale=config["layer_scale_init_value"],
    )  # fmt: skip
    return CAE(
        encoder, config["regressor_depth"], config["decoder_depth"], config["decoder_embed_dim"],
        config["decoder_num_heads"], config["decoder_num_classes"], config["decoder_layer_scale_init_value"],
    )  # fmt: skip


def make_task(model):
    return MaskedImageModeling(model, RandomTokenizer(model.vocab_size, 4), None)


def test_both_references_give_the_same_weights():
    ours, theirs = rename(official_state(), "a"), rename(plsc_state(), "b")
    assert set(ours.arrays) == set(theirs.arrays)
    for name, value in ours.arrays.items():
        np.testing.assert_array_equal(value, theirs.arrays[name], err_msg=name)


@pytest.mark.parametrize("form", ["model.pd", "bare.pd", "model.pth", "names.safetensors"])
def test_a_published_pretraining_model_loads_whole(tmp_path, form):
    path = tmp_path / form
    if form == "model.pd":
        arguments = {"model": plsc_state(), "optimizer": {"x": np.zeros(2)}, "epoch": 799, "scaler": {}, "args": {}}
        paddle.save(arguments, str(path))
    elif form == "bare.pd":
        paddle.save({"model": {k: paddle.to_tensor(v) for k, v in plsc_state().items()}}, str(path))
    elif form == "model.pth":
        write_torch_file(path, official_state())
    else:
        from safetensors.numpy import save_file

        save_file(official_state(), path)
    model = make_cae(REMAP["pretrain_config"])
    task = make_task(model)
    report = initialise(task, Init(checkpoint=str(path), take=None, allow_unexpected=["*.pos_embed"]))
    assert not report.new
    expected = official_state()
    fused = expected["encoder.blocks.1.attn.qkv.weight"]
    np.testing.assert_array_equal(model.encoder.blocks[1].attn.qkv.weight.numpy(), fused.T)
    np.testing.assert_array_equal(model.head.weight.numpy(), expected["pretext_neck.head.weight"].T)
    cross = expected["pretext_neck.regressor_blocks.0.cross_attn.k.weight"]
    np.testing.assert_array_equal(model.regressor.blocks[0].cross_attn.k.weight.numpy(), cross.T)
    for name, value in model.encoder.state_dict().items():
        np.testing.assert_array_equal(model.teacher.state_dict()[name].numpy(), value.numpy())


def test_the_encoder_of_a_published_file_goes_into_a_classifier(tmp_path):
    path = tmp_path / "official.pth"
    write_torch_file(path, official_state())
    config = REMAP["pretrain_config"]
    encoder = ViT(
        image_size=config["img_size"], patch_size=config["patch_size"], embed_dim=config["embed_dim"],
        depth=config["depth"], num_heads=config["num_heads"], mlp_ratio=config["mlp_ratio"],
        layer_scale=0.1, relative_position_bias="per_block",
    )  # fmt: skip
    task = Classification(Classifier(encoder, LinearHead(config["embed_dim"], 10)), None)
    settings = Init(checkpoint=str(path), allow_missing=["*relative_position_bias.*"], allow_unexpected=["*pos_embed"])
    report = initialise(task, settings)
    assert sorted(report.new) == [f"model.encoder.blocks.{i}.attn.relative_position_bias.table" for i in range(2)]
    np.testing.assert_array_equal(encoder.norm.weight.numpy(), official_state()["encoder.norm.weight"])


class TimmCosine(paddle.optimizer.lr.LRScheduler):
    """The attributes of PLSC's schedule, which its optimizer keeps in its groups."""

    def __init__(self):
        self.learning_rate, self.decay_unit, self.T_max, self.warmup_steps = 1.5e-3, "step", 800, 10
        self.eta_min, self.warmup_start_lr, self.warmup_prefix = 1e-5, 0.0, True
        self.base_lr = self.last_lr = 1.5e-3
        self.last_epoch, self.verbose, self._var_name = -1, False, None


@pytest.fixture
def save_as_plsc(tmp_path, monkeypatch):
    """Writes a model as PLSC's `misc.save_model` does at the end of an epoch of its `main_pretrain`."""
    name = "plsc.scheduler.lr_scheduler"
    monkeypatch.setattr(TimmCosine, "__module__", name)
    for part in ("plsc.scheduler", name):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    sys.modules[name].TimmCosine = TimmCosine

    def save(state, **args):
        parameters = {key: paddle.to_tensor(value) for key, value in state.items()}
        moments = {f"p{i}": {"step": 3, "exp_avg": v, "exp_avg_sq": v * v} for i, v in enumerate(parameters.values())}
        group = {
            "lr": TimmCosine(), "betas": (0.9, 0.999), "eps": 1e-8, "use_master_param": False,
            "exp_avg_force_fp32": False, "grad_clip": None,
        }  # fmt: skip
        groups = [{**group, "weight_decay": d, "params": list(moments)[i::2]} for i, d in enumerate((0.0, 0.05))]
        content = {
            "model": parameters,
            "optimizer": {"state": moments, "param_groups": groups},
            "epoch": 799,
            "scaler": paddle.amp.GradScaler(init_loss_scaling=2.0**16).state_dict(),
            "args": argparse.Namespace(window_size=(4, 4), patch_size=(4, 4), lr=1.5e-3, model="cae", **args),
        }
        paddle.save(content, str(tmp_path / "checkpoint-799.pd"))
        return tmp_path / "checkpoint-799.pd"

    return save


def test_what_plsc_saves_in_pretraining(save_as_plsc):
    path = save_as_plsc(plsc_state(), output_dir=PurePosixPath("output"))
    assert b"plsc.scheduler.lr_scheduler" in path.read_bytes()
    for part in ("plsc.scheduler", "plsc.scheduler.lr_scheduler"):
        del sys.modules[part]  # nothing may need it
    ours, bare = read_weights(path), rename(plsc_state(), "bare")
    assert set(ours.arrays) == set(bare.arrays) and ours.grid == (4, 4)
    for name, value in bare.arrays.items():
        np.testing.assert_array_equal(ours.arrays[name], value, err_msg=name)
    task = make_task(make_cae(REMAP["pretrain_config"]))
    report = initialise(task, Init(checkpoint=str(path), take=None, allow_unexpected=["*.pos_embed"]))
    assert not report.new
    assert "plsc.scheduler" not in sys.modules


@pytest.mark.parametrize("path", fixtures.of_kind("pretrain", "finetune", "linprobe", "attentive"))
def test_every_fixture_is_recognised_and_known(path):
    _, arrays = fixtures.read(path)
    state = fixtures.group(arrays, "param")
    weights = rename(state, path.name)
    assert recognise(state) in ("pre-training model", "classifier")
    assert all(name.startswith("model.") for name in weights.arrays)


def test_fixed_position_tables_are_told_from_learned_ones():
    state = official_state()
    assert "model.encoder.pos_embed" in rename(state, "a").arrays
    state["encoder.pos_embed"] = sincos_2d((4, 4), 16)
    weights = rename(state, "a")
    assert "model.encoder.pos_embed" not in weights.arrays
    np.testing.assert_array_equal(weights.fixed["encoder.pos_embed"], state["encoder.pos_embed"])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"conv.weight": np.zeros(1)}, r"its names are of an unknown format \(conv.weight"),
        ({}, "its names are of an unknown format"),
        ({**official_state(), "surprise.weight": np.zeros(1)}, "it has unknown tensors: surprise.weight"),
    ],
)
def test_unknown_names_are_listed(state, message):
    with pytest.raises(ValueError, match=message):
        rename(state, "file.pth")


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "notes.pth"
    path.write_text("hello")
    with pytest.raises(ValueError, match="notes.pth"):
        read_weights(path)
    broken = tmp_path / "broken.pth"
    write_torch_file(broken, official_state())
    broken.write_bytes(broken.read_bytes()[:-4000])
    with pytest.raises(ValueError, match="broken.pth"):
        read_weights(broken)


@pytest.mark.parametrize("given", ["run", "run/checkpoints", "run/checkpoints/latest"])
def test_our_own(tmp_path, given):
    task = toy_task()
    save(tmp_path / "run" / "checkpoints", task, encoder="model.encoder")
    weights = read_weights(tmp_path / given)
    assert weights.encoder == "model.encoder"
    for name, value in values(task).items():
        np.testing.assert_array_equal(weights.arrays[name], value)


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        read_weights(tmp_path / "nowhere")


def vit_state(grid=(4, 4)):
    """A timm VisionTransformer without a head."""
    rng, dim = np.random.default_rng(1), 16
    shapes = {"cls_token": (1, 1, dim), "patch_embed.proj.weight": (dim, 3, 4, 4), "patch_embed.proj.bias": (dim,)}
    shapes["pos_embed"] = (1, 1 + grid[0] * grid[1], dim)
    for i in range(2):
        for name, shape in {
            "norm1.weight": (dim,), "norm1.bias": (dim,), "norm2.weight": (dim,), "norm2.bias": (dim,),
            "attn.qkv.weight": (3 * dim, dim), "attn.qkv.bias": (3 * dim,), "attn.proj.weight": (dim, dim),
            "attn.proj.bias": (dim,), "mlp.fc1.weight": (2 * dim, dim), "mlp.fc1.bias": (2 * dim,),
            "mlp.fc2.weight": (dim, 2 * dim), "mlp.fc2.bias": (dim,),
        }.items():  # fmt: skip
            shapes[f"blocks.{i}.{name}"] = shape
    shapes.update({"norm.weight": (dim,), "norm.bias": (dim,)})
    return {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}


def make_vit(image=(16, 16), **options):
    return ViT(
        image_size=image, patch_size=4, embed_dim=16, depth=2, num_heads=4, mlp_ratio=2, layer_scale=None, **options
    )


def classification(encoder):
    return Classification(Classifier(encoder, LinearHead(16, 3)), None)


def test_the_bias_of_the_keys_is_left_out_and_that_changes_nothing(tmp_path):
    state = vit_state()
    write_torch_file(tmp_path / "vit.pth", state)
    task = classification(make_vit(pos_embed="learned"))
    report = initialise(task, Init(checkpoint=str(tmp_path / "vit.pth")))
    assert "the keys' bias of 2 blocks was left out, which does not change their output" in str(report)
    attention, name = task.encoder.blocks[0].attn.to(dtype="float64"), "blocks.0.attn."
    x = np.random.default_rng(2).normal(size=(2, 5, 16))
    weight, bias = (state[f"{name}qkv.{part}"].astype("float64") for part in ("weight", "bias"))
    q, k, v = (part.reshape(2, 5, 4, 4).transpose(0, 2, 1, 3) for part in np.split(x @ weight.T + bias, 3, axis=-1))
    logits = q @ k.transpose(0, 1, 3, 2) / 2
    logits = np.exp(logits - logits.max(-1, keepdims=True))
    mixed = (logits / logits.sum(-1, keepdims=True) @ v).transpose(0, 2, 1, 3).reshape(2, 5, 16)
    expected = mixed @ state[f"{name}proj.weight"].T.astype("float64") + state[f"{name}proj.bias"]
    np.testing.assert_allclose(attention(paddle.to_tensor(x)).numpy(), expected, atol=1e-10)


def test_maes_decoder_is_left_out_whatever_it_holds(tmp_path):
    state = vit_state()
    decoder = {f"decoder_{name}": value for name, value in vit_state().items() if name.startswith("blocks.")}
    write_torch_file(tmp_path / "mae.pth", {**state, **decoder, "mask_token": np.ones((1, 1, 16), "float32")})
    report = initialise(classification(make_vit(pos_embed="learned")), Init(checkpoint=str(tmp_path / "mae.pth")))
    assert "25 tensors that only pre-training uses were left out: decoder_blocks.0.norm1.weight" in str(report)
    assert "bias of 2 blocks" in str(report)


def test_keys_that_are_normalised_need_their_bias():
    state = {**vit_state(), "blocks.0.attn.k_norm.weight": np.ones(4, "float32")}
    with pytest.raises(CheckpointError, match="blocks.0.attn.qkv.bias: the keys have a bias and a normalization"):
        rename(state, "x")


def bfloat16(value):
    bits = np.ascontiguousarray(value, "float32").view("uint32").astype("uint64")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("uint16")


def write_safetensors(path, arrays, dtype):
    header, data = {}, b""
    for name, value in arrays.items():
        raw = value.tobytes()
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize("grid", [(4, 4), (2, 8)])
@pytest.mark.parametrize("form", ["F16", "BF16", "half.pth"])
def test_files_of_16_bits(tmp_path, form, grid):
    state = {**vit_state(), "pos_embed": sincos_2d(grid, 16)}
    path = tmp_path / "vit.safetensors"
    if form == "half.pth":
        path = tmp_path / form
        write_torch_file(path, {name: value.astype("float16") for name, value in state.items()})
    else:
        convert = bfloat16 if form == "BF16" else lambda value: value.astype("float16")
        write_safetensors(path, {name: convert(value) for name, value in state.items()}, form)
    task = classification(make_vit((4 * grid[0], 4 * grid[1])))
    initialise(task, Init(checkpoint=str(path)))
    found, expected = task.encoder.blocks[1].mlp.fc1.weight.numpy(), state["blocks.1.mlp.fc1.weight"].T
    np.testing.assert_allclose(found, expected, rtol=2.0**-8)
    assert not np.array_equal(found, expected)


def test_a_table_of_16_bits_that_is_learned_stays(tmp_path):
    learned = (sincos_2d((4, 4), 16) + 0.01).astype("float16")
    assert "model.encoder.pos_embed" in rename({**vit_state(), "pos_embed": learned}, "x").arrays


WHOLE = vit_state()


def prefixed(prefix):
    return {prefix + name: value for name, value in WHOLE.items()}


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ({"state_dict": prefixed("model.")}, "its names begin with 'model.', which was taken off"),
        ({"state_dict": prefixed("backbone.")}, "its names begin with 'backbone.', which was taken off"),
        ({"state_dict": {**prefixed("model."), "loss.weight": np.ones(1)}},
         "1 of its tensors are not below 'model.' and were left out: loss.weight, ..."),
        ({"model": prefixed("module._orig_mod.")}, None),
        (prefixed("_orig_mod."), None),
        ({"teacher": prefixed("backbone."), "epoch": 3}, "the weights were taken from its entry 'teacher'"),
        ({"model_ema": WHOLE, "optimizer": {"state": {0: {"step": np.ones(1)}}}}, "from its entry 'model_ema'"),
    ],
)  # fmt: skip
def test_what_other_tools_put_before_the_names(content, note):
    found, expected = rename(content, "x"), rename(WHOLE, "x")
    assert set(found.arrays) == set(expected.arrays)
    said = [text for text in found.notes if text not in expected.notes]
    assert (note in " ".join(said)) if note else not said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"student": prefixed("module.backbone."), "teacher": prefixed("backbone."), "epoch": 3},
         r"it holds 2 networks, 'student' and 'teacher', of which only one can be taken .* content\['teacher'\]"),
        ({**prefixed("student.backbone."), **prefixed("teacher.backbone.")},
         "it holds 2 networks, 'student.backbone.' and 'teacher.backbone.'"),
        ({"epoch": 3, "net": "x"}, r"an unknown format \(epoch \(int\), net \(str\), ...\)"),
    ],
)  # fmt: skip
def test_what_a_file_holds_is_said(content, message):
    with pytest.raises(CheckpointError, match=message):
        rename(content, "x")


def test_a_weight_that_an_unknown_object_stands_for():
    with pytest.raises(CheckpointError, match="x: norm.weight is an object of torchao.Tensor, which is not supported"):
        rename({"model": {**WHOLE, "norm.weight": Unknown("torchao.Tensor")}}, "x")
    assert rename({"model": {**WHOLE, "norm._extra_state": Unknown("io.BytesIO")}, "args": Unknown("a.B")}, "x").arrays


def test_an_empty_array_is_refused_before_its_shape_is_used():
    for shape in ((0, 1 + 20_000**2, 16), (1, 0, 16)):
        with pytest.raises(CheckpointError, match="x: pos_embed has no elements"):
            rename({**WHOLE, "pos_embed": np.zeros(shape)}, "x")
