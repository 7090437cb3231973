import pickle
import sys
import types

import numpy as np
import paddle
import pytest
from paddle.nn import functional as F

from plsc.checkpoint import files as checkpoint_files
from plsc.nn.utils import set_training
from plsc.tokenizers import DalleTokenizer, DiscreteVAE, DVAETokenizer, PixelTarget, RandomTokenizer
from plsc.tokenizers.dalle import DalleDecoder, DalleEncoder, unmap_pixels


def batch(size=2, pixels=16):
    image = np.random.default_rng(0).random((size, 3, pixels, pixels)).astype("float32")
    return {"image": paddle.to_tensor(image), "target_image": paddle.to_tensor(image)}


def make_dvae(**options):
    paddle.seed(0)
    return DiscreteVAE(image_size=16, patch_size=4, vocab_size=8, width=8, **options)


def save_run(path, model, config="Model: {name: DiscreteVAE, image_size: 16, patch_size: 4, vocab_size: 8, width: 8}"):
    arrays = {f"model.{name}": value.numpy() for name, value in model.state_dict().items()}
    return checkpoint_files.write(path / "checkpoints", 5, {"model": arrays}, {"encoder": "model"}, config)


def test_a_run_of_tokenizer_training_becomes_a_tokenizer(tmp_path):
    model = make_dvae()
    save_run(tmp_path, model)
    tokenizer = DVAETokenizer(str(tmp_path))
    set_training(model, False)
    tokens = tokenizer(batch())
    expected = model.token_logits(batch()["image"]).argmax(axis=-1)
    np.testing.assert_array_equal(tokens.numpy(), expected.numpy())
    assert tokens.shape == [2, 16] and tokens.dtype == paddle.int64 and tokenizer.vocab_size == 8
    decoded = tokenizer.decode(tokens)
    assert decoded.shape == [2, 3, 16, 16] and float(decoded.min()) >= 0 and float(decoded.max()) <= 1


def test_a_run_of_something_else_is_no_tokenizer(tmp_path):
    save_run(tmp_path, make_dvae(), "Model: {name: CAE}")
    with pytest.raises(ValueError, match="does not hold a DiscreteVAE; train one with the task TokenizerTraining"):
        DVAETokenizer(str(tmp_path))


def test_a_run_whose_config_is_far_larger_than_its_weights_is_not_built(tmp_path):
    save_run(tmp_path, make_dvae(), "Model: {name: DiscreteVAE, image_size: 16, patch_size: 4, num_blocks: 200000}")
    with pytest.raises(ValueError, match="parameters, but the model in its config has many more"):
        DVAETokenizer(str(tmp_path))


def test_a_missing_run_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        DVAETokenizer(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("straight_through", [False, True])
def test_gradients_reach_the_encoder_through_soft_tokens(straight_through):
    model = make_dvae(straight_through=straight_through)
    outputs = model(batch()["image"])
    assert outputs["logits"].shape == [2, 16, 8] and outputs["reconstruction"].shape == [2, 3, 16, 16]
    outputs["reconstruction"].mean().backward()
    assert float(model.encoder[0].weight.grad.abs().sum()) > 0


def test_straight_through_tokens_are_hard_in_value():
    model = make_dvae(straight_through=True)
    tokens = model._soft_tokens(paddle.randn([2, 5, 8])).numpy()
    np.testing.assert_allclose(np.sort(tokens, axis=-1)[..., -1], 1, atol=1e-6)
    np.testing.assert_allclose(tokens.sum(axis=-1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 30}, "patch_size must divide image_size, got 4 for images of 30 x 30"),
        ({"vocab_size": 1}, "vocab_size must be at least 2"),
    ],
)
def test_impossible_sizes_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        DiscreteVAE(**options)


def test_an_image_of_another_size_is_an_error():
    with pytest.raises(ValueError, match=r"takes images of \(16, 16\), got \(8, 8\)"):
        make_dvae()(paddle.zeros([1, 3, 8, 8]))


def test_random_tokens_depend_on_pixels_and_seed_alone():
    one, two, other = (RandomTokenizer(64, patch_size=4, seed=seed)(batch()).numpy() for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()
    assert one.shape == (2, 16) and len(np.unique(one)) > 5


def test_a_missing_second_crop_is_an_error():
    with pytest.raises(ValueError, match="needs the second crop, target_image; use the transform TwoSizeCrop"):
        RandomTokenizer(8, 4)({"image": paddle.zeros([1, 3, 8, 8])})
    with pytest.raises(ValueError, match="not scaled to"):
        RandomTokenizer(8, 4)({"target_image": paddle.zeros([1, 3, 8, 8], dtype="uint8")})


def test_pixel_targets_of_a_patch_are_its_pixels():
    image = batch()["image"]
    targets = PixelTarget(4, "none")({"image": image})
    expected = image[1, :, 4:8, 8:12].transpose([1, 2, 0]).flatten()
    np.testing.assert_array_equal(targets[1, 6].numpy(), expected.numpy())


def test_patches_that_do_not_fill_the_image_are_an_error():
    with pytest.raises(ValueError, match="patch_size 5 does not divide"):
        PixelTarget(5)(batch())


def test_missing_dalle_weights_say_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="DALL-E's tokenizer is not there.*train a tokenizer"):
        DalleTokenizer(str(tmp_path))


def test_dalle_weights_of_something_else_are_refused(tmp_path):
    paddle.save({"conv.w": paddle.zeros([1])}, str(tmp_path / "encoder_weight.pd"))
    with pytest.raises(ValueError, match="does not hold the weights of DALL-E's tokenizer"):
        DalleTokenizer(str(tmp_path))


@pytest.mark.parametrize("denorm", [False, True])
@pytest.mark.parametrize("normalize", ["layernorm", "none", "channel", "patch"])
def test_pixel_targets_come_back_as_the_image(normalize, denorm):
    tokenizer, images = PixelTarget(4, normalize, denorm), batch()
    back = tokenizer.decode(tokenizer(images), images)
    assert np.allclose(back.numpy(), images["image"].numpy(), atol=1e-5)


@pytest.fixture
def dalle(tmp_path):
    """A folder with the weights of a tiny network, and the two networks."""
    paddle.seed(0)
    networks = {"encoder": DalleEncoder(8, 1, 16), "decoder": DalleDecoder(8, 8, 1, 16)}
    for part, network in networks.items():
        paddle.save(network.state_dict(), str(tmp_path / f"{part}_weight.pd"))
    return tmp_path, networks


def test_tokens_of_a_grid_that_is_not_square_are_decoded_on_it(dalle):
    folder, networks = dalle
    tokenizer = DalleTokenizer(str(folder))
    image = paddle.to_tensor(np.random.default_rng(0).random((2, 3, 16, 64)).astype("float32"))
    crops = {"target_image": image}
    tokens = tokenizer(crops)
    one_hot = F.one_hot(tokens, 16).transpose([0, 2, 1]).reshape([2, 16, 2, 8])
    expected = unmap_pixels(F.sigmoid(networks["decoder"](one_hot)[:, :3])).numpy()
    np.testing.assert_allclose(tokenizer.decode(tokens, crops).numpy(), expected, atol=1e-6)
    assert tokenizer.decode(tokens).shape == [2, 3, 32, 32]
    with pytest.raises(ValueError, match="16 tokens do not fill a grid of 3 x 5; give decode their batch"):
        tokenizer.decode(tokens, {"target_image": image[:, :, :, :40].tile([1, 1, 2, 1])[:, :, :24]})
    with pytest.raises(ValueError, match="12 tokens do not fill a grid of 3 x 3"):
        tokenizer.decode(tokens[:, :12])


class Module:
    """An object with the attributes of a torch module."""


def test_openais_own_files_are_read(dalle, tmp_path, monkeypatch):
    """They hold whole torch modules of classes that are not installed here."""
    folder, networks = dalle
    monkeypatch.setattr(Module, "__module__", "dall_e.encoder")
    for part in ("dall_e", "dall_e.encoder"):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    sys.modules["dall_e.encoder"].Module = Module

    def tree(names):
        module = Module()
        module.__dict__.update(_buffers={}, _parameters={n: v for n, v in names.items() if "." not in n})
        children = {n.split(".")[0] for n in names if "." in n}
        below = {c: {n[len(c) + 1 :]: v for n, v in names.items() if n.startswith(f"{c}.")} for c in children}
        module.__dict__["_modules"] = {child: tree(rest) for child, rest in below.items()}
        return module

    (tmp_path / "openai").mkdir()
    for part, network in networks.items():
        arrays = {name: value.numpy() for name, value in network.state_dict().items()}
        (tmp_path / "openai" / f"{part}.pkl").write_bytes(pickle.dumps(tree(arrays)))
    del sys.modules["dall_e.encoder"]
    theirs, ours = DalleTokenizer(str(tmp_path / "openai")), DalleTokenizer(str(folder))
    image = {"target_image": paddle.to_tensor(np.random.default_rng(0).random((1, 3, 16, 16)).astype("float32"))}
    np.testing.assert_array_equal(theirs(image).numpy(), ours(image).numpy())
    np.testing.assert_array_equal(theirs.decode(theirs(image)).numpy(), ours.decode(ours(image)).numpy())


def test_weights_of_dalle_without_elements_build_nothing(tmp_path):
    arrays = {name: np.zeros((2**30, 0, 7, 7), "float32") for name in ("blocks.input.w", "blocks.output.conv.w")}
    (tmp_path / "encoder_weight.pd").write_bytes(pickle.dumps(arrays))
    with pytest.raises(ValueError, match="encoder_weight.pd does not hold the weights of DALL-E's tokenizer"):
        DalleTokenizer(str(tmp_path))
