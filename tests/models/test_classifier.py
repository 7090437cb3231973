import numpy as np
import paddle
import pytest

from plsc.models import AttentiveHead, Classifier, LinearHead
from plsc.nn.utils import count_parameters, set_training
from tests.models.toys import images, tiny_vit


@pytest.fixture(autouse=True)
def seed():
    paddle.seed(0)


@pytest.mark.parametrize("pooling", ["cls", "mean", "tokens", "positioned_tokens"])
def test_pooling(pooling):
    encoder = tiny_vit()
    head = AttentiveHead(16, 5, num_heads=4) if "tokens" in pooling else LinearHead(16, 5)
    model = Classifier(encoder, head, pooling)
    tokens = encoder.forward_features(images())
    expected = {
        "cls": encoder.norm(tokens)[:, 0],
        "mean": encoder.norm(tokens[:, 1:].mean(axis=1)),
        "tokens": encoder.norm(tokens),
        "positioned_tokens": encoder.norm(tokens) + encoder.pos_embed,
    }[pooling]
    np.testing.assert_allclose(model.forward_features(images()).numpy(), expected.numpy(), atol=1e-6)
    assert model(images()).shape == [2, 5]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_every_parameter_learns(pooling):
    model = Classifier(tiny_vit(relative_position_bias="per_block"), LinearHead(16, 5), pooling)
    model(images()).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_frozen_encoder_neither_learns_nor_drops_paths():
    encoder = tiny_vit(drop_path_rate=0.9)
    before = encoder.norm.bias.numpy().copy()
    model = Classifier(encoder, LinearHead(16, 5, batch_norm=True), "cls", freeze_encoder=True)
    set_training(model, True)
    first, second = model.forward_features(images()), model.forward_features(images())
    np.testing.assert_array_equal(first.numpy(), second.numpy())
    assert not encoder.training and model.head.training
    model(images()).square().sum().backward()
    assert all(p.grad is None for p in encoder.parameters())
    assert all(p.grad is not None for p in model.head.parameters())
    assert count_parameters(model)["trained"] == 16 * 5 + 5
    np.testing.assert_array_equal(encoder.norm.bias.numpy(), before)


def test_layer_index():
    model = Classifier(tiny_vit(), LinearHead(16, 5))
    assert model.num_layers == 4
    names = ["encoder.cls_token", "encoder.blocks.1.norm1.weight", "encoder.norm.weight", "head.linear.weight"]
    assert [model.layer_index(name) for name in names] == [0, 2, 3, 3]


def test_refuses_a_head_of_another_width():
    with pytest.raises(ValueError, match="head takes features of width 8, the encoder gives 16.*in_features to 16"):
        Classifier(tiny_vit(), LinearHead(8, 5))


def test_refuses_positions_where_there_are_none():
    with pytest.raises(ValueError, match="positioned_tokens needs an encoder with positions"):
        Classifier(tiny_vit(pos_embed="none"), AttentiveHead(16, 5, num_heads=4), "positioned_tokens")
