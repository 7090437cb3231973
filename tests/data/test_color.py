import colorsys

import numpy as np
import pytest
from PIL import Image

from plsc.data.color import ColorJitter
from tests.data.toys import noise


def jittered(image, seed=0, **strengths):
    options = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, **strengths}
    return np.asarray(ColorJitter(**options)({"image": image}, np.random.default_rng(seed))["image"]).astype(int)


def test_zero_strengths_change_nothing():
    np.testing.assert_array_equal(jittered(noise()), np.asarray(noise()))


def test_brightness_scales_by_a_factor_from_its_range():
    grey = Image.new("RGB", (2, 2), (100, 100, 100))
    factors = np.array([jittered(grey, seed, brightness=0.4)[0, 0, 0] / 100 for seed in range(300)])
    assert 0.59 <= factors.min() < 0.65
    assert 1.35 < factors.max() <= 1.41


def test_strong_changes_do_not_become_negative():
    assert min(jittered(noise(), seed, brightness=3.0).min() for seed in range(20)) >= 0


def test_contrast_keeps_a_flat_image():
    grey = Image.new("RGB", (2, 2), (90, 90, 90))
    np.testing.assert_array_equal(jittered(grey, contrast=0.9), np.asarray(grey))


def test_saturation_keeps_gray():
    grey = noise().convert("L").convert("RGB")
    np.testing.assert_allclose(jittered(grey, saturation=0.9), np.asarray(grey), atol=1)


def test_hue_is_rotated():
    red = Image.new("RGB", (1, 1), (200, 20, 20))
    hues = []
    for seed in range(200):
        hue, saturation, value = colorsys.rgb_to_hsv(*(jittered(red, seed, hue=0.25)[0, 0] / 255))
        assert abs(value - 200 / 255) < 0.02
        assert abs(saturation - 0.9) < 0.03
        hues.append((hue + 0.5) % 1 - 0.5)
    assert -0.26 < min(hues) < -0.2
    assert 0.2 < max(hues) < 0.26


def test_all_images_change_equally_from_the_generator():
    jitter = ColorJitter(0.4, 0.4, 0.4, 0.1)
    sample = jitter({"image": noise(), "target_image": noise(), "label": 1}, np.random.default_rng(5))
    again = jitter({"image": noise()}, np.random.default_rng(5))
    np.testing.assert_array_equal(np.asarray(sample["image"]), np.asarray(sample["target_image"]))
    np.testing.assert_array_equal(np.asarray(sample["image"]), np.asarray(again["image"]))
    assert sample["label"] == 1


def test_bad_strengths():
    with pytest.raises(ValueError, match=r"ColorJitter: hue must be in \[0.0, 0.5\], got 0.7"):
        ColorJitter(hue=0.7)
    with pytest.raises(ValueError, match="ColorJitter: contrast must be in"):
        ColorJitter(contrast=-1)
