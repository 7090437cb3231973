"""Weights that fit a model with other attention heads are refused wherever the checkpoint tells its heads."""

import argparse
import pickle

import numpy as np
import paddle
import pytest

from plsc.checkpoint import heads
from plsc.checkpoint.convert import convert
from plsc.checkpoint.formats import read_weights
from plsc.checkpoint.reader import Checkpoint
from plsc.checkpoint.transfer import initialise
from plsc.checkpoint.weights import CheckpointError
from plsc.config.settings import Init
from plsc.models import AttentiveHead, Classifier, LinearHead, ViT
from plsc.tasks.classification import Classification
from tests.checkpoint.test_formats import REMAP, make_cae, make_task, official_state, plsc_state
from tests.checkpoint.test_weights import restore, save

WHOLE = {"take": None, "allow_unexpected": ["*.pos_embed"]}
SMALL = "cae_small_patch16_224_8k_vocab"  # 12 heads in both references


def pretraining(num_heads=4, decoder_num_heads=4):
    config = {**REMAP["pretrain_config"], "num_heads": num_heads, "decoder_num_heads": decoder_num_heads}
    return make_task(make_cae(config))


def published(path, state, **arguments):
    """A file of a reference: the weights, and the arguments of the program that trained them."""
    file = {"model": state, "epoch": 799, "args": argparse.Namespace(**arguments)}
    path.write_bytes(pickle.dumps(file, protocol=2))
    return path


def classification(num_heads, head=None, **options):
    encoder = ViT(image_size=16, patch_size=4, embed_dim=24, depth=1, num_heads=num_heads, mlp_ratio=2.0, **options)
    pooling = "tokens" if head is not None else "mean"
    return Classification(Classifier(encoder, head or LinearHead(24, 3), pooling), None)


def saved(path, task, config):
    save(path / "checkpoints", task, config=config, encoder="model.encoder")
    return str(path)


def config_of(num_heads, head=""):
    heads_key = "" if num_heads is None else f", num_heads: {num_heads}"
    return f"Model:\n  name: Classifier\n  encoder: {{name: ViT, embed_dim: 24{heads_key}}}\n{head}"


@pytest.mark.parametrize("form", ["plsc", "official"])
def test_the_name_of_the_model_in_a_published_file(tmp_path, form):
    state = plsc_state() if form == "plsc" else official_state()
    path = published(tmp_path / "model", state, model=SMALL, decoder_num_heads=4)
    task = pretraining()
    before = task.model.encoder.cls_token.numpy().copy()
    with pytest.raises(CheckpointError) as caught:
        initialise(task, Init(checkpoint=str(path), **WHOLE))
    message = str(caught.value)
    assert "model.encoder.blocks.0.attn has 4 attention heads in the model, model.encoder has 12" in message
    assert f"from its model, {SMALL}" in message and "set Model.encoder.num_heads to 12" in message
    assert "regressor" not in message
    np.testing.assert_array_equal(task.model.encoder.cls_token.numpy(), before)


def test_decoder_heads_in_the_arguments_of_a_published_file(tmp_path):
    published(tmp_path / "a.pth", official_state(), decoder_num_heads=8)
    task = pretraining()
    with pytest.raises(CheckpointError, match=r"set Model\.decoder_num_heads to 8"):
        initialise(task, Init(checkpoint=str(tmp_path / "a.pth"), **WHOLE))
    encoder_only = Init(checkpoint=str(tmp_path / "a.pth"), allow_unexpected=["pos_embed"])
    assert "4 attention heads are assumed" in str(initialise(task, encoder_only))


def test_columns_of_the_bias_tables_that_are_left_out(tmp_path):
    source = classification(4, relative_position_bias="per_block")
    arrays = {name: value.numpy() for name, value in source.state_dict().items()}
    from safetensors.numpy import save_file

    save_file(arrays, tmp_path / "a.safetensors")
    init = Init(checkpoint=str(tmp_path / "a.safetensors"), allow_unexpected=["*relative_position_bias.*"])
    with pytest.raises(CheckpointError, match=r"from the columns of model\.encoder\.blocks\.0\.attn"):
        initialise(classification(3), init)
    assert not initialise(classification(4), init).notes


@pytest.mark.parametrize(("told", "built"), [(4, 6), (None, 6)])
def test_the_config_of_an_own_checkpoint(tmp_path, told, built):
    source = classification(4 if told else 12)
    run = saved(tmp_path, source, config_of(told))
    with pytest.raises(CheckpointError, match=r"set Model\.encoder\.num_heads to " + str(told or 12)):
        initialise(classification(built), Init(run))
    assert not initialise(classification(told or 12), Init(run)).notes
    path = Checkpoint.open(run).path
    with pytest.raises(CheckpointError, match="attention heads"):
        restore(classification(built), path)
    restore(classification(told or 12), path)


def test_an_attentive_head_of_an_own_checkpoint(tmp_path):
    head = "  head: {name: AttentiveHead, num_heads: 3}\n"
    run = saved(tmp_path, classification(4, AttentiveHead(24, 3, num_heads=3)), config_of(4, head))
    with pytest.raises(CheckpointError, match=r"set Model\.head\.num_heads to 3"):
        initialise(classification(4, AttentiveHead(24, 3, num_heads=6)), Init(run, take="model"))
    initialise(classification(4, AttentiveHead(24, 3, num_heads=6)), Init(run))  # the encoder alone
    initialise(classification(4, AttentiveHead(24, 3, num_heads=3)), Init(run, take="model"))


def test_a_converted_checkpoint_keeps_what_its_source_told(tmp_path):
    published(tmp_path / "a.pth", official_state(), model=SMALL, decoder_num_heads=4)
    convert(tmp_path / "a.pth", tmp_path / "own", "own")
    assert {p: n for p, (n, _) in read_weights(tmp_path / "own").heads.items()} == {
        "model.encoder": 12, "model.teacher": 12, "model.head": 12, "model.regressor": 4, "model.decoder": 4
    }  # fmt: skip
    with pytest.raises(CheckpointError, match="from its record of the source"):
        initialise(pretraining(), Init(checkpoint=str(tmp_path / "own"), allow_unexpected=["pos_embed"]))


def test_what_is_not_told_is_assumed_aloud(tmp_path):
    paddle.save({"model": plsc_state()}, str(tmp_path / "a.pd"))
    report = initialise(pretraining(), Init(checkpoint=str(tmp_path / "a.pd"), **WHOLE))
    assert "the model's 4 attention heads are assumed; the checkpoint has no record of its own" in str(report)
    wide = Classification(Classifier(ViT(16, 4, embed_dim=384, depth=1, num_heads=12), LinearHead(384, 3)), None)
    assert "(most published models of this width have 6)" in heads.assumed(wide, {})


@pytest.mark.parametrize("config", ["", "Model: [1]", "Model: {encoder: {name: Other}}", "a: [", "Model: {name: CAE}"])
def test_configs_that_tell_nothing(config):
    assert heads.of_config(config) == {}


@pytest.mark.parametrize("arguments", [None, 3, {}, {"model": 7}, {"model": "mine", "decoder_num_heads": "x"}])
def test_arguments_that_tell_nothing(arguments):
    assert heads.of_arguments(arguments) == {}
