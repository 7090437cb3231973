import numpy as np
import pytest
from PIL import Image

from plsc.data.transforms import (
    CenterCrop,
    RandomHorizontalFlip,
    RandomRegion,
    RandomResizedCrop,
    Resize,
    TwoSizeCrop,
    crop_and_resize,
)
from tests.data.toys import noise


def rng(seed=0):
    return np.random.default_rng(seed)


def gradient(width, height):
    """Image whose red channel is the column and whose green channel is the row."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([columns, rows, 0 * rows], axis=-1).astype(np.uint8))


def test_flip_mirrors_all_images():
    sample = {"image": noise(), "target_image": noise(seed=1), "label": 3}
    flipped = RandomHorizontalFlip(1.0)(sample, rng())
    for key in ("image", "target_image"):
        np.testing.assert_array_equal(np.asarray(flipped[key]), np.asarray(sample[key])[:, ::-1])
    assert flipped["label"] == 3
    assert RandomHorizontalFlip(0.0)(sample, rng()) is sample


def test_flip_probability():
    flip, sample, generator = RandomHorizontalFlip(), {"image": noise(2, 1)}, rng()
    share = np.mean([flip(sample, generator) is not sample for _ in range(2000)])
    assert abs(share - 0.5) < 0.05
    with pytest.raises(ValueError, match=r"RandomHorizontalFlip: probability must be in \[0.0, 1.0\], got 2"):
        RandomHorizontalFlip(2)


@pytest.mark.parametrize("fit", ["retry", "clamp"])
@pytest.mark.parametrize("size", [(400, 300), (30, 400), (1, 1), (3, 200)])
def test_regions_are_inside_the_image(fit, size):
    region, generator = RandomRegion((0.08, 1.0), (3 / 4, 4 / 3), fit), rng()
    for _ in range(300):
        left, top, width, height = region(*size, generator)
        assert 0 <= left < left + width <= size[0]
        assert 0 <= top < top + height <= size[1]


def test_regions_that_never_fit_become_the_largest_central_one():
    wide = RandomRegion((1.0, 1.0), (0.5, 0.5))
    assert wide(100, 40, rng()) == (40, 0, 20, 40)
    high = RandomRegion((1.0, 1.0), (2.0, 2.0))
    assert high(40, 100, rng()) == (0, 40, 40, 20)


@pytest.mark.parametrize("scale", [(0, 1), (0.5, 0.2), (0.5, 1.5)])
def test_bad_scale(scale):
    with pytest.raises(ValueError, match="scale must be two fractions of the area"):
        RandomResizedCrop(8, scale=scale)


def test_bad_ratio():
    with pytest.raises(ValueError, match="ratio must be two values of width / height"):
        TwoSizeCrop(8, 4, ratio=(2, 1))
    with pytest.raises(ValueError, match=r"ratio: its least value must be in \[0.001, 1000.0\], got 1e-05"):
        RandomResizedCrop(8, ratio=(1e-5, 1))
    with pytest.raises(ValueError, match=r"ratio: its greatest value must be in \[0.001, 1000.0\], got inf"):
        RandomResizedCrop(8, ratio=(1, float("inf")))


def test_a_narrow_image_keeps_a_pixel_of_each_side():
    assert RandomRegion((1.0, 1.0), (9, 9))(1, 2, np.random.default_rng(0))[2:] == (1, 1)
    assert RandomRegion((1.0, 1.0), (1 / 9, 1 / 9))(2, 1, np.random.default_rng(0))[2:] == (1, 1)


@pytest.mark.parametrize("component", [RandomResizedCrop, TwoSizeCrop, CenterCrop, Resize])
def test_bad_size(component):
    with pytest.raises(ValueError, match=f"{component.__name__}: a size must be at least 1 pixel, got 0"):
        component(0)


def test_resized_crop_sizes_are_height_width():
    assert RandomResizedCrop((8, 12))({"image": noise()}, rng())["image"].size == (12, 8)
    assert RandomResizedCrop(8)({"image": noise(), "label": 1}, rng())["label"] == 1


def test_both_crops_show_the_same_region():
    crop = TwoSizeCrop(32, 16, interpolation="bilinear", second_interpolation="bilinear")
    for seed in range(5):
        sample = crop({"image": gradient(200, 150)}, rng(seed))
        assert sample["image"].size == (32, 32)
        assert sample["target_image"].size == (16, 16)
        first, second = (np.asarray(sample[key]).astype(int) for key in ("image", "target_image"))
        halved = first.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
        assert np.abs(halved - second).max() <= 3


def test_crop_of_the_whole_is_a_resize():
    whole = crop_and_resize(noise(), (0, 0, 20, 16), (8, 8), "lanczos")
    np.testing.assert_array_equal(np.asarray(whole), np.asarray(noise().resize((8, 8), Image.Resampling.LANCZOS)))


def test_pixels_outside_the_region_have_no_influence():
    inside = gradient(40, 40)
    other = inside.copy()
    other.paste((255, 255, 255), (0, 0, 40, 10))
    region = (0, 10, 40, 30)
    first, second = (crop_and_resize(image, region, (12, 12), "bicubic") for image in (inside, other))
    np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


@pytest.mark.parametrize(
    ("size", "given", "expected"),
    [
        (8, (20, 16), (10, 8)),
        (8, (16, 20), (8, 10)),
        (10, (15, 10), (15, 10)),
        ((4, 6), (20, 16), (6, 4)),
        (7, (10, 9), (7, 7)),
    ],
)
def test_resize(size, given, expected):
    assert Resize(size)({"image": noise(*given)}, rng())["image"].size == expected


def test_center_crop_at_a_ratio():
    crop = CenterCrop(8, crop_ratio=0.5, interpolation="bilinear")
    image = noise(40, 32)
    expected = image.resize((20, 16), Image.Resampling.BILINEAR).crop((6, 4, 14, 12))
    np.testing.assert_array_equal(np.asarray(crop({"image": image}, rng())["image"]), np.asarray(expected))


def test_usual_center_crop_resizes_to_256():
    image = gradient(128, 128).resize((500, 400))
    expected = image.resize((320, 256), Image.Resampling.BICUBIC).crop((48, 16, 272, 240))
    found = CenterCrop(224)({"image": image}, rng())["image"]
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_center_crop_without_resizing():
    found = CenterCrop((4, 6), crop_ratio=None)({"image": gradient(20, 16)}, rng())["image"]
    assert found.size == (6, 4)
    assert found.getpixel((0, 0)) == (7, 6, 0)
    with pytest.raises(ValueError, match="20 x 16 pixels, smaller than the crop of 18 x 18; set crop_ratio"):
        CenterCrop(18, crop_ratio=None)({"image": noise()}, rng())
    with pytest.raises(ValueError, match="CenterCrop: crop_ratio must be in"):
        CenterCrop(8, crop_ratio=1.5)


@pytest.mark.parametrize("size", [(5, 9), (9, 5)])
def test_center_crop_of_a_rectangle(size):
    assert CenterCrop(size)({"image": noise()}, rng())["image"].size == (size[1], size[0])


@pytest.mark.parametrize("transform", [TwoSizeCrop(8, 4), RandomResizedCrop(8), RandomHorizontalFlip(), CenterCrop(8)])
def test_random_numbers_come_from_the_generator(transform):
    first, second = (transform({"image": noise()}, rng(3)) for _ in range(2))
    for key, image in first.items():
        np.testing.assert_array_equal(np.asarray(image), np.asarray(second[key]))
