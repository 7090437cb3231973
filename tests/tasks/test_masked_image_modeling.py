import numpy as np
import paddle
import pytest

from plsc.engine.callbacks.pictures import as_images
from plsc.losses import CAELoss
from plsc.models import CAE, ViT
from plsc.tasks.masked_image_modeling import MaskedImageModeling
from plsc.tokenizers import PixelTarget, RandomTokenizer


def make_task(vocab_size=16, tokenizer=None, momentum=0.5):
    encoder = ViT(image_size=16, patch_size=4, embed_dim=16, depth=1, num_heads=2)
    model = CAE(encoder, regressor_depth=1, decoder_depth=1, vocab_size=vocab_size, teacher_momentum=momentum)
    tokenizer = tokenizer or RandomTokenizer(vocab_size, patch_size=4)
    main = "mse" if isinstance(tokenizer, PixelTarget) else "cross_entropy"
    return MaskedImageModeling(model, tokenizer, CAELoss(main=main))


def make_batch(size=3, masked=6, pixels=16):
    rng = np.random.default_rng(0)
    order = np.argsort(rng.random((size, 16)), axis=1)
    image = rng.random((size, 3, pixels, pixels)).astype("float32")
    return {
        "image": paddle.to_tensor(image * 2 - 1),
        "target_image": paddle.to_tensor(image),
        "masked_index": paddle.to_tensor(np.sort(order[:, :masked], axis=1)),
        "visible_index": paddle.to_tensor(np.sort(order[:, masked:], axis=1)),
    }


def test_targets_are_those_of_the_masked_patches():
    task, batch = make_task(), make_batch()
    tokens = task.tokenizer(batch).numpy()
    prepared = task.prepare(batch)
    expected = np.take_along_axis(tokens, batch["masked_index"].numpy(), axis=1)
    np.testing.assert_array_equal(prepared["targets"].numpy(), expected)


def test_pixel_targets_are_taken_whole():
    task, batch = make_task(48, PixelTarget(4)), make_batch()
    pixels = task.tokenizer(batch).numpy()
    targets = task.prepare(batch)["targets"].numpy()
    assert targets.shape == (3, 6, 48)
    np.testing.assert_array_equal(targets[1, 2], pixels[1, int(batch["masked_index"][1, 2])])
    assert np.isfinite(float(task(task.prepare(batch))["loss"]))


def test_the_teacher_moves_before_the_step_and_not_in_forward():
    task, batch = make_task(), make_batch()
    teacher = task.model.teacher.blocks[0].mlp.fc1.weight
    before = teacher.numpy().copy()
    task.model.encoder.blocks[0].mlp.fc1.weight.set_value(paddle.ones_like(teacher))
    task(task.prepare(batch))
    np.testing.assert_array_equal(teacher.numpy(), before)
    task.before_step(0.0)
    np.testing.assert_allclose(teacher.numpy(), 0.5 * before + 0.5, rtol=1e-6)


def test_weights_without_a_teacher_give_it_a_copy_of_the_encoder():
    task = make_task()
    teacher, student = task.model.teacher.cls_token, task.model.encoder.cls_token
    student.set_value(paddle.ones_like(student))
    task.on_weights_loaded(["model.encoder.cls_token", "model.teacher.cls_token"])
    assert not np.array_equal(teacher.numpy(), student.numpy())
    task.on_weights_loaded(["model.encoder.cls_token"])
    np.testing.assert_array_equal(teacher.numpy(), student.numpy())


def test_the_tokenizer_is_neither_saved_nor_trained():
    names = list(make_task().state_dict())
    assert names and all(name.startswith("model.") for name in names)


def test_a_vocabulary_of_another_size_is_an_error():
    with pytest.raises(ValueError, match="the tokenizer has 32 tokens.*predicts 16; set Model.vocab_size to 32"):
        make_task(16, RandomTokenizer(32, patch_size=4))


def test_a_tokenizer_of_another_grid_is_an_error():
    task = make_task(16, RandomTokenizer(16, patch_size=8))
    with pytest.raises(ValueError, match=r"gives 4 targets an image, but the encoder has 16 patches \(grid \(4, 4\)\)"):
        task.prepare(make_batch())


def test_pictures_show_original_and_masked_images():
    task, batch = make_task(), make_batch()
    pictures = as_images(task.pictures(batch))
    assert pictures["original"].shape == pictures["masked"].shape == (3, 16, 16, 3)
    hidden = (pictures["masked"] == 127).all(axis=-1).mean(axis=(1, 2))
    assert (hidden >= 6 / 16).all()


def test_it_says_how_well_tokens_are_predicted_and_whether_anything_collapses():
    task, batch = make_task(), make_batch()
    prepared = task.prepare(batch)
    found = {name: float(value) for name, value in task(prepared).items()}
    outputs = task.model(prepared["image"], prepared["visible_index"], prepared["masked_index"])
    predicted, targets = outputs["logits"].numpy().argmax(axis=-1), prepared["targets"].numpy()
    assert found["token_accuracy"] == pytest.approx(100 * (predicted == targets).mean(), abs=1e-4)
    for name, tokens in (("target_perplexity", targets), ("predicted_perplexity", predicted)):
        shares = np.unique(tokens, return_counts=True)[1] / tokens.size
        assert found[name] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-4)
    latent, target = outputs["latent"].numpy(), outputs["latent_target"].numpy()
    lengths = np.linalg.norm(latent, axis=-1) * np.linalg.norm(target, axis=-1)
    assert found["alignment_cosine"] == pytest.approx(((latent * target).sum(axis=-1) / lengths).mean(), abs=1e-5)
    assert found["latent_std"] == pytest.approx(target.reshape(-1, 16).std(axis=0).mean(), rel=1e-4)


def test_pixels_have_no_accuracy():
    task, batch = make_task(48, PixelTarget(4)), make_batch()
    names = set(task(task.prepare(batch)))
    assert names == {"loss", "loss_main", "loss_align", "alignment_cosine", "latent_std"}


def test_what_it_measures_changes_no_gradient():
    task, batch = make_task(), make_batch()
    prepared = task.prepare(batch)
    measured = task(prepared)
    assert all(value.stop_gradient for name, value in measured.items() if not name.startswith("loss"))
