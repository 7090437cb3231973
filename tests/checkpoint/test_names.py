import json

import pytest

from plsc.checkpoint.names import (
    classifier_name,
    is_transposed,
    official_name,
    official_to_own,
    plsc_name,
    pretraining_name,
)
from plsc.models import CAE, ViT
from tests.parity import fixtures


@pytest.fixture(scope="module")
def key_lists():
    return json.loads(fixtures.named("ckpt_remap.json").read_text())


@pytest.fixture(scope="module")
def model():
    encoder = ViT(image_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=4)
    return CAE(encoder, 2, 2, decoder_embed_dim=24, decoder_num_heads=6, vocab_size=64)


def test_pretraining_names_of_both_references(key_lists, model):
    own = set(model.state_dict()) | {"encoder.pos_embed"}
    saved = {name for name in own if not name.startswith("teacher.")}
    assert {pretraining_name(name) for name in key_lists["saved_keys"]} == saved
    assert {pretraining_name(name) for name in key_lists["plsc_names_of_saved_keys"].values()} == saved


def test_pretraining_names_go_back(key_lists, model):
    by_official = key_lists["plsc_names_of_saved_keys"]
    for official, plsc in by_official.items():
        own = pretraining_name(official)
        assert official_name(own) == official
        assert plsc_name(own) == plsc
    for own in model.state_dict():
        assert pretraining_name(official_name(own)) == own
        assert pretraining_name(plsc_name(own)) == own


def test_transposed_are_the_two_dimensional_linear_weights(key_lists):
    for name, shape in key_lists["saved_shapes"].items():
        assert is_transposed(name) == (len(shape) == 2), name
        assert is_transposed(pretraining_name(name)) == (len(shape) == 2), name


@pytest.mark.parametrize(
    "reference, own",
    [
        ("cls_token", "encoder.cls_token"),
        ("pos_embed", "encoder.pos_embed"),
        ("blocks.3.attn.qkv.weight", "encoder.blocks.3.attn.qkv.weight"),
        ("blocks.3.attn.relative_position_bias_table", "encoder.blocks.3.attn.relative_position_bias.table"),
        ("blocks.3.attn.relative_position_index", None),
        ("rel_pos_bias.relative_position_bias_table", "encoder.relative_position_bias.table"),
        ("norm.weight", "encoder.norm.weight"),
        ("fc_norm.bias", "encoder.norm.bias"),
        ("fc_norm.running_var", "head.batch_norm.running_var"),
        ("fc_norm.num_batches_tracked", None),
        ("head.weight", "head.linear.weight"),
        ("head.0.running_mean", "head.batch_norm.running_mean"),
        ("head.0._variance", "head.batch_norm.running_var"),
        ("head.1.bias", "head.linear.bias"),
        ("query_token", "head.query_token"),
        ("attentive_blocks.0.norm1_q.weight", "head.blocks.0.norm1_q.weight"),
        ("linear_blocks.1.norm1_v_cross.bias", "head.blocks.1.norm1_v.bias"),
        ("attentive_blocks.0.cross_attn.proj.weight", "head.blocks.0.cross_attn.proj.weight"),
        ("attentive_blocks.0.norm2_cross.weight", None),
    ],
)
def test_classifier_names(reference, own):
    assert classifier_name(reference) == own


@pytest.mark.parametrize(
    "name, expected",
    [
        ("blocks.0.attn.proj.weight", ("encoder.blocks.0.attn.proj.weight", True)),
        ("patch_embed.proj.weight", ("encoder.patch_embed.proj.weight", False)),
        ("head.1.weight", ("head.linear.weight", True)),
        ("norm.weight", ("encoder.norm.weight", False)),
        ("blocks.0.attn.relative_position_index", None),
    ],
)
def test_official_to_own(name, expected):
    assert official_to_own(name, classifier=True) == expected
