import json

import numpy as np
import paddle
import pytest

from plsc.checkpoint.formats import read_weights, recognise, rename
from plsc.checkpoint.torch_file import write_torch_file
from plsc.checkpoint.transfer import initialise
from plsc.models import CAE, Classifier, LinearHead, ViT
from plsc.settings import Init
from plsc.storage import CheckpointError
from plsc.tasks.classification import Classification
from plsc.tasks.masked_image_modeling import MaskedImageModeling
from plsc.tokenizers import RandomTokenizer
from tests.checkpoint.test_store import save
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
    settings = Init(
        checkpoint=str(path), allow_missing=["*relative_position_bias.*"], allow_unexpected=["*pos_embed"]
    )
    report = initialise(task, settings)
    assert sorted(report.new) == [f"model.encoder.blocks.{i}.attn.relative_position_bias.table" for i in range(2)]
    np.testing.assert_array_equal(encoder.norm.weight.numpy(), official_state()["encoder.norm.weight"])


@pytest.mark.parametrize("path", fixtures.of_kind("pretrain", "finetune", "linprobe", "attentive"))
def test_every_fixture_is_recognised_and_known(path):
    _, arrays = fixtures.read(path)
    state = fixtures.group(arrays, "param")
    weights = rename(state, path.name)
    assert recognise(state) in ("pre-training model", "classifier")
    assert all(name.startswith("model.") for name in weights.arrays)


def test_fixed_position_tables_are_told_from_learned_ones():
    from plsc.nn.pos_embed import sincos_2d

    state = official_state()
    assert "model.encoder.pos_embed" in rename(state, "a").arrays
    state["encoder.pos_embed"] = sincos_2d((4, 4), 16)
    weights = rename(state, "a")
    assert "model.encoder.pos_embed" not in weights.arrays
    np.testing.assert_array_equal(weights.fixed["encoder.pos_embed"], state["encoder.pos_embed"])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"conv.weight": np.zeros(1)}, r"its names are of no format known here \(conv.weight"),
        ({}, "no format known here"),
        ({**official_state(), "surprise.weight": np.zeros(1)}, "nothing here is called surprise.weight"),
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
