import math

import numpy as np
import paddle
import pytest

from plsc.losses import CAELoss
from plsc.models import CAE, ViT
from plsc.nn.pos_embed import sincos_2d
from plsc.nn.utils import count_parameters, set_training
from tests.models.toys import images, split_positions, tiny_vit


@pytest.fixture(autouse=True)
def seed():
    paddle.seed(0)


def tiny_cae(encoder=None, **changes):
    options = {"regressor_depth": 2, "decoder_depth": 2, "vocab_size": 32}
    return CAE(encoder or tiny_vit(), **{**options, **changes})


def loss_of(model):
    visible, masked = split_positions()
    return CAELoss()(model(images(), visible, masked), paddle.zeros(masked.shape, dtype="int64"))["loss"]


@pytest.mark.parametrize("changes", [{}, {"decoder_embed_dim": 24, "decoder_num_heads": 6}, {"decoder_depth": 0}])
def test_shapes_and_gradients(changes):
    model = tiny_cae(**changes)
    visible, masked = split_positions()
    outputs = model(images(), visible, masked)
    width = changes.get("decoder_embed_dim", 16)
    assert outputs["logits"].shape == [2, 6, 32]
    assert outputs["latent"].shape == outputs["latent_target"].shape == [2, 6, width]
    assert outputs["latent_target"].stop_gradient
    loss_of(model).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith("teacher."), name


def test_vit_b_trains_the_published_number_of_parameters():
    with paddle.LazyGuard():
        model = CAE(ViT())
    assert count_parameters(model) == {"trained": 148_681_472, "frozen": 85_656_576, "buffers": (197 + 197 + 196) * 768}


@pytest.mark.parametrize("width, depth, heads", [(384, 12, 6), (1024, 24, 16)])
def test_parameters_of_the_other_sizes(width, depth, heads):
    with paddle.LazyGuard():
        model = CAE(ViT(embed_dim=width, depth=depth, num_heads=heads))
    matrices = 12 * width**2
    encoder = depth * (matrices + 14 * width) + (16 * 16 * 3 + 1) * width + 3 * width
    rest = 4 * (matrices + 18 * width) + 4 * (matrices + 14 * width) + 5 * width + (width + 1) * 8192
    assert count_parameters(model)["trained"] == encoder + rest


def test_latents_do_not_depend_on_the_pixels_behind_the_mask():
    model = tiny_cae()
    visible, masked = paddle.arange(12).unsqueeze(0), paddle.arange(12, 16).unsqueeze(0)
    x = images(1)
    changed = x.clone()
    changed[:, :, 12:, :] = 9.0
    first, second = model(x, visible, masked), model(changed, visible, masked)
    np.testing.assert_array_equal(first["latent"].numpy(), second["latent"].numpy())
    np.testing.assert_array_equal(first["logits"].numpy(), second["logits"].numpy())
    assert not np.allclose(first["latent_target"].numpy(), second["latent_target"].numpy())


def test_teacher_sees_the_masked_patches_and_stays_behind():
    model = tiny_cae()
    visible, masked = split_positions()
    expected = model.encoder(images(), masked)[:, 1:].numpy()
    model.encoder.norm.bias.set_value(model.encoder.norm.bias + 1.0)
    targets = model(images(), visible, masked)["latent_target"].numpy()
    np.testing.assert_allclose(targets, expected, atol=1e-6)
    model.update_teacher()
    targets = model(images(), visible, masked)["latent_target"].numpy()
    np.testing.assert_allclose(targets, expected + 1.0, atol=1e-5)


def test_teacher_starts_as_the_encoder_moves_and_is_saved():
    model = tiny_cae(teacher_momentum=0.75)
    pairs = list(zip(model.teacher.named_parameters(), model.encoder.named_parameters()))
    assert all(name == other and np.array_equal(t.numpy(), e.numpy()) for (name, t), (other, e) in pairs)
    before = model.teacher.norm.bias.numpy().copy()
    model.encoder.norm.bias.set_value(model.encoder.norm.bias + 1.0)
    model.update_teacher()
    np.testing.assert_allclose(model.teacher.norm.bias.numpy(), before + 0.25, atol=1e-6)
    assert "teacher.norm.bias" in model.state_dict()


def test_teacher_drops_paths_in_training():
    model = tiny_cae(tiny_vit(drop_path_rate=0.5))
    visible, masked = split_positions()
    first, second = (model(images(), visible, masked)["latent_target"].numpy() for _ in range(2))
    assert not np.array_equal(first, second)


def test_drop_path_ramps_are_independent():
    model = tiny_cae(tiny_vit(drop_path_rate=0.1), regressor_drop_path_rate=0.2, decoder_drop_path_rate=0.3)
    for part, last in ((model.encoder, 0.1), (model.regressor, 0.2), (model.decoder, 0.3)):
        assert [block.drop_path.rate for block in part.blocks] == [0.0, last]


def test_regressor_inherits_the_encoders_options():
    encoder = tiny_vit(mlp_ratio=3.0, qkv_bias=False, qk_scale=0.3, norm_eps=1e-5, attn_drop_rate=0.1)
    block = tiny_cae(encoder).regressor.blocks[0]
    assert block.mlp.fc1.weight.shape == [16, 48]
    assert block.cross_attn.q_bias is None
    assert block.cross_attn.scale == 0.3 and block.cross_attn.attn_drop_rate == 0.1
    assert block.norm2._epsilon == 1e-5


@pytest.mark.parametrize("scale", [None, 0.0])
def test_without_layer_scale_the_regressor_keeps_ones(scale):
    model = tiny_cae(decoder_layer_scale=scale)
    gammas = {name: p for name, p in model.named_parameters() if "gamma" in name and name[:7] != "teacher"}
    regressor = {name for name in gammas if name.startswith("regressor.")}
    assert len(regressor) == 4 and all(name.startswith("encoder.") for name in set(gammas) - regressor)
    assert all(gammas[name].stop_gradient and (gammas[name].numpy() == 1).all() for name in regressor)


def test_position_tables():
    same, wider = tiny_cae(), tiny_cae(decoder_embed_dim=24, decoder_num_heads=6)
    np.testing.assert_array_equal(same.pos_embed.numpy(), sincos_2d((4, 4), 16, cls_rows=0))
    np.testing.assert_array_equal(wider.pos_embed.numpy(), sincos_2d((4, 4), 24, cls_rows=0))
    learned = tiny_cae(tiny_vit(pos_embed="learned"))
    assert learned.pos_embed is None
    assert not [name for name in learned.state_dict() if name.endswith("pos_embed") and "." not in name]
    loss_of(learned).backward()
    assert learned.encoder.pos_embed.grad is not None


def linear_weights(model):
    return {n: p.numpy() for n, p in model.named_parameters() if p.ndim == 2 and not n.startswith("teacher.")}


def test_xavier_reaches_every_linear_layer():
    model = tiny_cae(tiny_vit(embed_dim=32), decoder_embed_dim=24, decoder_num_heads=6)
    for name, weight in linear_weights(model).items():
        bound = math.sqrt(6 / sum(weight.shape))
        assert 0.9 * bound < np.abs(weight).max() <= bound * (1 + 1e-6), name
    assert np.abs(model.encoder.patch_embed.proj.weight.numpy()).max() <= 0.02 * (1 + 1e-5)
    assert 0 < np.abs(model.mask_token.numpy()).max() <= 0.02 * (1 + 1e-5)


@pytest.mark.parametrize("init", ["xavier", "fixed"])
def test_tokens_and_patch_embedding_are_drawn_as_in_the_authors_pre_training(init):
    model = tiny_cae(tiny_vit(embed_dim=32, pos_embed="learned"), init=init)
    names = ("encoder.cls_token", "encoder.pos_embed", "encoder.patch_embed.proj.weight", "mask_token")
    for name in names:
        value = dict(model.named_parameters())[name].numpy()
        assert 0.015 < np.abs(value).max() <= 0.02 * (1 + 1e-5), name
    assert not model.encoder.patch_embed.proj.bias.numpy().any()


def test_an_encoder_with_xavier_keeps_its_patch_embedding():
    encoder = tiny_vit(embed_dim=32, init="xavier")
    before = encoder.patch_embed.proj.weight.numpy().copy()
    np.testing.assert_array_equal(tiny_cae(encoder).encoder.patch_embed.proj.weight.numpy(), before)


def test_fixed_initialisation_is_scaled_down_with_depth():
    for name, weight in linear_weights(tiny_cae(tiny_vit(embed_dim=32), init="fixed")).items():
        limit = 0.02
        if name.endswith(("attn.proj.weight", "fc2.weight")):
            limit /= math.sqrt(2 * (int(name.split("blocks.")[1].split(".")[0]) + 1))
        assert 0.85 * limit < np.abs(weight).max() <= limit * (1 + 1e-5), name


def test_inference_mode_repeats_itself():
    model = tiny_cae(tiny_vit(drop_path_rate=0.5, drop_rate=0.2), regressor_drop_path_rate=0.5)
    set_training(model, False)
    assert float(loss_of(model)) == float(loss_of(model))


def test_mixed_precision_keeps_the_losses_in_float32():
    model = tiny_cae()
    with paddle.amp.auto_cast(level="O1", dtype="bfloat16"):
        loss = loss_of(model)
    loss.backward()
    assert loss.dtype == paddle.float32
    assert float(loss) == pytest.approx(float(loss_of(model)), rel=0.05)


@pytest.mark.parametrize(
    "vit, changes, message",
    [
        ({"relative_position_bias": "shared"}, {}, "pre-trains without relative position bias, got .*: shared"),
        ({}, {"regressor_depth": -1}, "regressor_depth must be at least 0, got -1"),
        ({}, {"decoder_depth": -1}, "decoder_depth must be at least 0, got -1"),
        ({}, {"vocab_size": 0}, "vocab_size must be at least 1, got 0"),
        ({}, {"teacher_momentum": 1.5}, r"teacher_momentum must be in \[0, 1\], got 1.5"),
        ({}, {"decoder_embed_dim": 22, "decoder_num_heads": 2}, "multiple of 4, got 22"),
        ({}, {"decoder_num_heads": 5}, "multiple of decoder_num_heads: 16 does not divide into 5"),
    ],
)
def test_refuses_what_does_not_fit(vit, changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_cae(tiny_vit(**vit), **changes)


@pytest.mark.parametrize("visible, masked", [(8, 6), (16, 0)])
def test_refuses_masks_of_another_grid(visible, masked):
    index = [paddle.zeros([2, count], dtype="int64") for count in (visible, masked)]
    with pytest.raises(ValueError, match=rf"leave {visible} patches visible and hide {masked}.*grid to \[4, 4\]"):
        tiny_cae()(images(), *index)
