import numpy as np
import paddle
import pytest

from plsc.data.mixup import MixupCutmix, draw_box


def batch(size=6, height=12, width=16, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.standard_normal((size, 3, height, width)).astype("float32")
    return {"image": paddle.to_tensor(image), "label": paddle.to_tensor(np.arange(size) % 4)}


def smoothed(labels, classes=4, smoothing=0.1):
    return np.eye(classes)[labels] * (1 - smoothing) + smoothing / classes


def shares_of(labels, soft, smoothing=0.1):
    """Fraction of its own label that each image keeps, where its partner has another label."""
    labels = np.asarray(labels)
    own = soft[np.arange(len(labels)), labels] - smoothing / 4
    return np.where(labels == labels[::-1], np.nan, own / (1 - smoothing))


def test_mixup_blends_images_and_labels_alike():
    given = batch()
    mixed = MixupCutmix(4, cutmix_alpha=0.0)(given, np.random.default_rng(1))
    image, label = given["image"].numpy(), given["label"].numpy()
    share = np.nanmean(shares_of(label, mixed["label"].numpy()))
    assert 0 < share < 1
    np.testing.assert_allclose(mixed["image"].numpy(), share * image + (1 - share) * image[::-1], atol=1e-5)
    expected = share * smoothed(label) + (1 - share) * smoothed(label[::-1])
    np.testing.assert_allclose(mixed["label"].numpy(), expected, atol=1e-6)
    assert mixed["label"].dtype == paddle.float32
    np.testing.assert_array_equal(given["image"].numpy(), image)


def test_cutmix_pastes_one_rectangle_and_counts_its_pixels():
    given = batch()
    image, label = given["image"].numpy(), given["label"].numpy()
    for seed in range(10):
        mixed = MixupCutmix(4, mixup_alpha=0.0)(given, np.random.default_rng(seed))
        kept = (mixed["image"].numpy() == image).all(axis=1)
        pasted = (mixed["image"].numpy() == image[::-1]).all(axis=1)
        assert (kept | pasted).all()
        assert (kept == kept[0]).all()
        rows, columns = np.nonzero(pasted[0])
        if len(rows):
            assert pasted[0].sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        shares = shares_of(label, mixed["label"].numpy())
        np.testing.assert_allclose(shares[~np.isnan(shares)], kept[0].mean(), atol=1e-6)


def test_box_has_the_area_it_should_before_it_is_cut():
    rng = np.random.default_rng(0)
    sizes = set()
    for _ in range(200):
        top, bottom, left, right = draw_box(40, 80, 0.75, rng)
        assert 0 <= top <= bottom <= 40
        assert 0 <= left <= right <= 80
        sizes.add((bottom - top, right - left))
    assert max(sizes) == (20, 40)


def test_switches_between_the_two():
    given, rng = batch(4), np.random.default_rng(0)
    image = given["image"].numpy()
    cut = [
        bool(((m == image) | (m == image[::-1])).all())
        for m in (MixupCutmix(4)(given, rng)["image"].numpy() for _ in range(200))
    ]
    assert 0.35 < np.mean(cut) < 0.65


@pytest.mark.parametrize("alpha", [0.8, 1.0])
def test_shares_follow_the_beta_distribution(alpha):
    mixup, rng = MixupCutmix(4, mixup_alpha=alpha, cutmix_alpha=0.0), np.random.default_rng(0)
    drawn = np.array([mixup._draw(2, 2, rng)[0] for _ in range(4000)])
    expected = np.random.default_rng(1).beta(alpha, alpha, 4000)
    np.testing.assert_allclose(np.quantile(drawn, [0.1, 0.5, 0.9]), np.quantile(expected, [0.1, 0.5, 0.9]), atol=0.04)


def test_never_mixing_still_smooths_labels():
    given = batch()
    mixed = MixupCutmix(4, prob=0.0)(given, np.random.default_rng(0))
    np.testing.assert_array_equal(mixed["image"].numpy(), given["image"].numpy())
    np.testing.assert_allclose(mixed["label"].numpy(), smoothed(given["label"].numpy()), atol=1e-6)


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize("size", [2, 5, 6])
def test_modes_and_odd_batches(mode, size):
    given = batch(size)
    mixed = MixupCutmix(4, mode=mode)(given, np.random.default_rng(2))
    assert mixed["image"].shape == given["image"].shape
    np.testing.assert_allclose(mixed["label"].numpy().sum(axis=1), 1.0, atol=1e-5)
    if size % 2:  # the middle one is its own partner
        middle = size // 2
        np.testing.assert_allclose(mixed["image"].numpy()[middle], given["image"].numpy()[middle], atol=1e-6)


def test_shares_by_mode():
    given = batch(6)
    found = {}
    for mode in ("batch", "pair", "elem"):
        mixed = MixupCutmix(4, cutmix_alpha=0.0, mode=mode)(given, np.random.default_rng(3))
        found[mode] = shares_of(given["label"].numpy(), mixed["label"].numpy()).round(5)
    assert len(set(found["batch"])) == 1
    np.testing.assert_allclose(found["pair"], found["pair"][::-1])
    assert len(set(found["pair"])) == 3
    assert len(set(found["elem"])) == 6


def test_from_the_generator():
    first, second = (MixupCutmix(4)(batch(), np.random.default_rng(7)) for _ in range(2))
    for key in ("image", "label"):
        np.testing.assert_array_equal(first[key].numpy(), second[key].numpy())


def test_one_image_has_no_partner():
    with pytest.raises(ValueError, match="one image in the batch and nothing to mix it with; use a larger batch_size"):
        MixupCutmix(4)(batch(1), np.random.default_rng(0))


def test_needs_labels_and_normalised_images():
    given = batch()
    with pytest.raises(ValueError, match="MixupCutmix: the batch has no labels"):
        MixupCutmix(4)({"image": given["image"]}, np.random.default_rng(0))
    with pytest.raises(ValueError, match="MixupCutmix: images are .*uint8; put Normalize before it"):
        MixupCutmix(4)({**given, "image": given["image"].astype("uint8")}, np.random.default_rng(0))


@pytest.mark.parametrize("alphas", [(0.0, 0.0), (-1.0, 1.0)])
def test_bad_alphas(alphas):
    with pytest.raises(ValueError, match="mixup_alpha and cutmix_alpha must not be negative, and one of them"):
        MixupCutmix(4, *alphas)


def test_bad_probability():
    with pytest.raises(ValueError, match="switch_prob must be in .0, 1., got 1.5"):
        MixupCutmix(4, switch_prob=1.5)
