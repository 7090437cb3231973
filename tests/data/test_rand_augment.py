import numpy as np
import pytest
from PIL import Image, ImageOps

from plsc.data.rand_augment import OPERATIONS, RandAugment
from tests.data.toys import noise

WARP = {"resample": Image.Resampling.NEAREST, "fillcolor": (9, 8, 7)}


class Coin:
    """Random generator that always returns `value`."""

    def __init__(self, value):
        self.value = value

    def random(self):
        return self.value


def apply(name, level, image, heads=True):
    return np.asarray(OPERATIONS[name](level, Coin(0.0 if heads else 0.9), WARP)(image)).astype(int)


def grey(value):
    return Image.new("RGB", (2, 2), (value, value, value))


def test_the_operations_of_the_increasing_set():
    assert len(OPERATIONS) == 15


@pytest.mark.parametrize("name", sorted(OPERATIONS))
@pytest.mark.parametrize("level", [0.0, 0.55, 1.0])
def test_size_and_mode_stay(name, level):
    image = OPERATIONS[name](level, np.random.default_rng(0), WARP)(noise())
    assert image.size == (20, 16)
    assert image.mode == "RGB"


@pytest.mark.parametrize(
    "name", ["Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY", "Brightness", "Contrast", "Color"]
)
def test_level_zero_changes_nothing(name):
    np.testing.assert_array_equal(apply(name, 0.0, noise()), np.asarray(noise()))


@pytest.mark.parametrize(
    ("name", "level", "value", "expected"),
    [
        ("Brightness", 1.0, 100, 190),
        ("Posterize", 0.0, 0b11011011, 0b11010000),
        ("Posterize", 0.5, 0b11011011, 0b11000000),
        ("Posterize", 0.9, 0b11011011, 0b10000000),
        ("Posterize", 1.0, 0b11011011, 0),
        ("Solarize", 0.5, 127, 127),
        ("Solarize", 0.5, 128, 127),
        ("Solarize", 0.0, 255, 255),
        ("Solarize", 1.0, 5, 250),
        ("SolarizeAdd", 1.0, 20, 130),
        ("SolarizeAdd", 0.5, 127, 182),
        ("SolarizeAdd", 1.0, 128, 128),
        ("Invert", 0.5, 20, 235),
    ],
)
def test_pixel_values(name, level, value, expected):
    assert apply(name, level, grey(value))[0, 0].tolist() == [expected] * 3


def test_brightness_goes_both_ways():
    assert apply("Brightness", 1.0, grey(100), heads=False)[0, 0, 0] == 10


def test_posterize_equals_pillow():
    for level, bits in ((0.0, 4), (0.3, 3), (0.6, 2), (0.9, 1)):
        np.testing.assert_array_equal(apply("Posterize", level, noise()), np.asarray(ImageOps.posterize(noise(), bits)))


def test_translation_is_a_fraction_of_the_side_and_fills():
    moved = apply("TranslateX", 1.0, noise(20, 16))  # 0.45 * 20 = 9 pixels
    np.testing.assert_array_equal(moved[:, :11], np.asarray(noise(20, 16))[:, 9:])
    assert (moved[:, 11:] == [9, 8, 7]).all()
    back = apply("TranslateY", 1.0, noise(16, 20), heads=False)
    np.testing.assert_array_equal(back[9:], np.asarray(noise(16, 20))[:11])


def test_rotation_is_thirty_degrees_at_most():
    expected = noise().rotate(30, **WARP)
    np.testing.assert_array_equal(apply("Rotate", 1.0, noise()), np.asarray(expected))


def test_shear():
    image = noise(100, 100)
    sheared = apply("ShearX", 1.0, image)  # row y comes from x + 0.3 y
    np.testing.assert_array_equal(sheared[50, :80], np.asarray(image)[50, 15:95])


def test_frequency_and_level_of_operations(monkeypatch):
    levels = []

    def record(level, rng, warp):
        levels.append(level)
        return lambda image: image

    monkeypatch.setattr("plsc.data.rand_augment.OPERATIONS", dict.fromkeys(OPERATIONS, record))
    rng, augment, image = np.random.default_rng(0), RandAugment(), noise(2, 2)
    for _ in range(4000):
        augment({"image": image}, rng)
    assert abs(len(levels) / 4000 - 1.0) < 0.05  # two operations, each with probability 1/2
    assert max(levels) == 1.0
    assert abs(np.mean(levels) - 0.9) < 0.01
    assert abs(np.quantile(levels, 0.16) - 0.85) < 0.01


def test_all_images_change_equally_from_the_generator():
    augment = RandAugment("rand-m9-n4-mstd0.5-inc1", interpolation="random")
    for seed in range(10):
        sample = augment({"image": noise(), "target_image": noise()}, np.random.default_rng(seed))
        again = augment({"image": noise()}, np.random.default_rng(seed))
        np.testing.assert_array_equal(np.asarray(sample["image"]), np.asarray(sample["target_image"]))
        np.testing.assert_array_equal(np.asarray(sample["image"]), np.asarray(again["image"]))


def test_fill_is_the_mean():
    assert RandAugment().fill == (124, 116, 104)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("rand-m9-mstd0.5-inc1", (2, 9.0, 0.5)),
        ("rand-n3-m5-inc1", (3, 5.0, 0.0)),
        ("rand-inc1", (2, 10.0, 0.0)),
    ],
)
def test_policies(policy, expected):
    augment = RandAugment(policy)
    assert (augment.num_operations, augment.magnitude, augment.deviation) == expected


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("augmix-m3", "is not of the form rand-m9-mstd0.5-inc1"),
        ("rand-m9-x2-inc1", "is not of the form"),
        ("rand-m9-mstd0.5", "must end in -inc1"),
        ("rand-m11-inc1", "m must be at most 10"),
        ("rand-n1.5-inc1", "n a whole number"),
    ],
)
def test_bad_policies(policy, message):
    with pytest.raises(ValueError, match=message):
        RandAugment(policy)
