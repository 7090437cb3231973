import math

import numpy as np
import paddle
import pytest

from plsc.config.registry import MODELS
from plsc.costs.networks import encoder_activations
from plsc.models import ViT
from plsc.nn.pos_embed import sincos_2d
from plsc.nn.utils import count_parameters, set_training
from tests.models.toys import images, split_positions, tiny_vit


@pytest.fixture(autouse=True)
def seed():
    paddle.seed(0)


def test_is_registered():
    assert MODELS.get("ViT") is ViT


def test_all_patches_or_some():
    vit = tiny_vit()
    visible, _ = split_positions()
    assert vit(images()).shape == [2, 17, 16]
    assert vit(images(), visible).shape == [2, 11, 16]
    everything = paddle.arange(16).expand([2, 16])
    np.testing.assert_allclose(vit(images(), everything).numpy(), vit(images()).numpy(), atol=1e-5)


def test_visible_tokens_do_not_see_the_others():
    vit, visible = tiny_vit(), paddle.to_tensor([[0, 1, 5]])
    x = images(1)
    changed = x.clone()
    changed[:, :, 12:, :] = 9.0  # the last row of patches, 12 to 15
    np.testing.assert_array_equal(vit(x, visible).numpy(), vit(changed, visible).numpy())


def test_features_come_before_the_norm():
    vit = tiny_vit()
    np.testing.assert_allclose(vit.norm(vit.forward_features(images())).numpy(), vit(images()).numpy(), atol=1e-6)


@pytest.mark.parametrize("kind", ["sincos", "sincos_official", "learned", "none"])
@pytest.mark.parametrize("bias", ["none", "per_block", "shared", "both"])
def test_positions_and_biases_on_a_grid_that_is_not_square(kind, bias):
    vit = tiny_vit(image_size=(16, 24), patch_size=(4, 8), pos_embed=kind, relative_position_bias=bias)
    assert vit.grid_size == (4, 3) and vit.image_size == (16, 24) and vit.patch_size == (4, 8)
    vit(images(height=16, width=24)).square().sum().backward()
    assert all(p.grad is not None for p in vit.parameters())
    names = {name for name, _ in vit.named_parameters()}
    assert ("pos_embed" in names) == (kind == "learned")
    tables = {name for name in names if name.endswith("table")}
    per_block = {f"blocks.{i}.attn.relative_position_bias.table" for i in range(2)}
    assert tables & per_block == (per_block if bias in ("per_block", "both") else set())
    assert ("relative_position_bias.table" in tables) == (bias in ("shared", "both"))


def test_fixed_positions_are_no_parameter_and_not_saved():
    vit = tiny_vit()
    assert "pos_embed" not in vit.state_dict()
    assert "pos_embed" not in dict(vit.named_parameters())
    np.testing.assert_array_equal(vit.pos_embed.numpy(), sincos_2d((4, 4), 16))
    assert count_parameters(vit)["frozen"] == 0


def test_float64_reaches_the_position_table():
    vit = tiny_vit()
    vit.to(dtype="float64")
    assert vit.pos_embed.dtype == paddle.float64
    assert vit(images().astype("float64")).dtype == paddle.float64


def test_layer_scale_can_be_left_out():
    for scale in (None, 0.0):
        assert not [name for name, _ in tiny_vit(layer_scale=scale).named_parameters() if "gamma" in name]


def test_drop_path_rises_with_depth_and_acts_in_training_only():
    vit = tiny_vit(depth=3, drop_path_rate=0.4)
    assert [block.drop_path.rate for block in vit.blocks] == pytest.approx([0.0, 0.2, 0.4])
    assert not np.array_equal(vit(images()).numpy(), vit(images()).numpy())
    set_training(vit, False)
    np.testing.assert_array_equal(vit(images()).numpy(), vit(images()).numpy())


def test_token_dropout():
    vit = tiny_vit(drop_rate=0.3)
    assert not np.array_equal(vit(images()).numpy(), vit(images()).numpy())


def test_initial_values_are_those_of_the_authors_classifier():
    vit = tiny_vit(embed_dim=64, depth=2, pos_embed="learned", image_size=32)
    for name, parameter in vit.named_parameters():
        value = parameter.numpy()
        if name.endswith(("attn.proj.weight", "fc2.weight")):
            scale = math.sqrt(2 * (int(name.split(".")[1]) + 1))
            assert value.std() == pytest.approx(0.02 / scale, rel=0.1), name
        elif "norm" in name:
            assert (value == (1 if name.endswith("weight") else 0)).all(), name
        elif "gamma" in name:
            assert (value == np.float32(0.1)).all(), name
        elif name.startswith("patch_embed."):  # PyTorch's default of a convolution
            bound = 1 / math.sqrt(3 * 4 * 4)
            assert 0.8 * bound < np.abs(value).max() <= bound * (1 + 1e-6), name
            assert value.std() == pytest.approx(bound / math.sqrt(3), rel=0.2), name
        elif name.endswith("bias"):
            assert not value.any(), name
        else:
            assert value.std() == pytest.approx(0.02, rel=0.25 if value.size == 64 else 0.1), name
            assert np.abs(value).max() > 0.03, name  # not cut at one deviation


def test_without_last_norm():
    vit, normed = tiny_vit(last_norm=False), tiny_vit()
    normed.set_state_dict({**normed.state_dict(), **vit.state_dict()})
    assert set(normed.state_dict()) - set(vit.state_dict()) == {"norm.weight", "norm.bias"}
    np.testing.assert_array_equal(vit(images()).numpy(), normed.forward_features(images()).numpy())
    assert "norm" in encoder_activations(normed) and "norm" not in encoder_activations(vit)


def test_layer_index():
    vit = tiny_vit(pos_embed="learned", relative_position_bias="per_block")
    depths = {name: vit.layer_index(name) for name, _ in vit.named_parameters()}
    assert vit.num_layers == 4
    for name, depth in depths.items():
        if name.startswith("blocks."):
            assert depth == int(name.split(".")[1]) + 1
        else:
            assert depth == (3 if name.startswith("norm.") else 0), name
    assert vit.layer_index("relative_position_bias.table") == 3


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"image_size": 18}, r"image_size \(18, 18\) is not a multiple of patch_size \(4, 4\)"),
        ({"patch_size": 0}, "patch_size must be a positive whole number"),
        ({"num_heads": 3}, "num_heads must divide the width: 16 does not divide into 3 heads"),
        ({"embed_dim": 18, "num_heads": 2}, "multiple of 4, got 18"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"drop_rate": 1.0}, r"drop_rate must be in \[0, 1\), got 1.0"),
        ({"drop_path_rate": 1.0}, r"drop_path_rate must be in \[0, 1\)"),
    ],
)
def test_refuses_what_does_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_vit(**changes)


def test_refuses_a_part_of_the_patches_with_relative_bias():
    with pytest.raises(ValueError, match="a part of the patches cannot be encoded with relative position bias"):
        tiny_vit(relative_position_bias="shared")(images(), split_positions()[0])


def test_refuses_an_image_of_another_size():
    with pytest.raises(ValueError, match=r"built for images of \(16, 16\)"):
        tiny_vit()(images(height=20, width=20))
