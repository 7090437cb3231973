import numpy as np
import paddle
import pytest

from plsc.evaluation.frozen.features import Features, extract, standardised, stratified_split
from plsc.models.vit import ViT


def vit():
    paddle.seed(0)
    return ViT(image_size=16, patch_size=8, embed_dim=16, depth=3, num_heads=2, init="xavier", drop_path_rate=0.3)


def batches(count=10, size=4, labels=True):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(count, 3, 16, 16)).astype("float32")
    made = []
    for start in range(0, count, size):
        batch = {"image": paddle.to_tensor(images[start : start + size])}
        if labels:
            batch["label"] = paddle.arange(start, min(count, start + size)) % 3
        made.append(batch)
    return paddle.to_tensor(images), made


def test_features_are_the_encoders_in_the_datasets_order():
    encoder = vit()
    images, made = batches()
    found = extract(encoder, made, with_tokens=True)
    encoder.training, training = False, encoder.training
    for layer in encoder.sublayers():
        layer.training = False
    with paddle.no_grad():
        tokens, before = encoder(images), encoder.forward_features(images)
        mean = encoder.norm(before[:, 1:].mean(axis=1))
    assert training  # the mode was restored
    assert found.labels.tolist() == [i % 3 for i in range(10)]
    np.testing.assert_allclose(found.tokens, tokens.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.cls[:, -1], tokens[:, 0].numpy(), atol=1e-5)
    np.testing.assert_allclose(found.mean[:, -1], mean.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.mean_after, tokens[:, 1:].mean(axis=1).numpy(), atol=1e-5)
    np.testing.assert_array_equal(found.of_last_block()["mean after norm"], found.mean_after)
    assert found.take(np.array([2, 1])).mean_after.shape == (2, 16)
    assert found.cls.shape == found.mean.shape == (10, 3, 16)


def test_tokens_are_kept_only_if_asked_for():
    assert extract(vit(), batches()[1]).tokens.shape == (10, 0, 16)


def test_batch_transforms_come_first():
    double = lambda batch, rng: {**batch, "image": 2 * batch["image"]}  # noqa: E731
    plain, doubled = (extract(vit(), batches()[1], transforms).cls for transforms in ([], [double]))
    assert np.abs(plain - doubled).max() > 1e-3


def test_hooks_are_gone_afterwards():
    encoder = vit()
    first = extract(encoder, batches()[1])
    np.testing.assert_array_equal(extract(encoder, batches()[1]).cls, first.cls)
    assert not any(block._forward_post_hooks for block in encoder.blocks)


def test_images_without_labels_are_refused():
    with pytest.raises(ValueError, match="the dataset has no labels; sort the images into one folder per class"):
        extract(vit(), batches(labels=False)[1])


def toy(count=6, blocks=5, width=2):
    values = np.arange(count * blocks * width, dtype=np.float32).reshape(count, blocks, width)
    return Features(np.arange(count) % 2, values, -values, np.zeros((count, 0, width), np.float32))


def test_feature_sets_of_linear_probes():
    sets = toy().sets()
    assert {name: part.shape[1] for name, part in sets.items()} == {
        "cls": 2, "mean": 2, "cls+mean": 4, "cls of 4 blocks": 8, "mean of 4 blocks": 8, "cls+mean of 4 blocks": 16,
    }  # fmt: skip
    np.testing.assert_array_equal(sets["cls of 4 blocks"][:, -2:], sets["cls"])


def test_features_by_block():
    blocks = toy().by_block()
    assert list(blocks)[:2] == ["cls of block 1", "mean of block 1"] and len(blocks) == 10
    np.testing.assert_array_equal(blocks["cls of block 5"], toy().sets()["cls"])


def test_selecting_images():
    some = toy().take(np.array([4, 1]))
    assert len(some) == 2 and some.labels.tolist() == [0, 1]


def test_features_are_standardized_by_the_training_images():
    rng = np.random.default_rng(0)
    train, test = standardised(rng.normal(5, 3, (200, 4)), rng.normal(5, 3, (50, 4)))
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(train.std(axis=0), 1, atol=1e-4)
    assert test.dtype == np.float32 and abs(test.mean()) < 0.3


def test_a_split_is_stratified():
    labels = np.repeat([0, 1, 2], [50, 20, 1])
    large, small = stratified_split(labels, 0.2)
    assert np.bincount(labels[small], minlength=3).tolist() == [10, 4, 0]
    assert sorted([*large, *small]) == list(range(71))
    assert stratified_split(labels, 0.2, seed=1)[1].tolist() != small.tolist()
