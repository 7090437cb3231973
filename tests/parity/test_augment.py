"""Crops, resizing and normalization against the reference: pixels exactly, statistics within sampling error."""

import numpy as np
import paddle
import pytest
from PIL import Image

from plsc.data.batch_transforms import Normalize, ToFloat
from plsc.data.transforms import RandomRegion, TwoSizeCrop, crop_and_resize
from tests.parity.fixtures import called, read, recorded


@pytest.fixture(scope="module", params=called("augment_pixels.npz"))
def pixels(request):
    return read(request.param)[1]


@pytest.fixture(scope="module", params=recorded("augment_stats.json", lambda content: [("stats", content)]))
def stats(request):
    return request.param


def part_of(stats, name):
    """Statistics of a crop; missing entries are those of the whole file."""
    if name not in stats:
        pytest.skip(f"{name} is not in augment_stats.json")
    return {**{key: stats[key] for key in ("image_wh", "scale", "ratio", "draws")}, **stats[name]}


@pytest.mark.parametrize(
    ("expected", "place", "interpolation"), [("first_bicubic", 0, "bicubic"), ("second_lanczos", 1, "lanczos")]
)
def test_crop_and_resize(pixels, expected, place, interpolation):
    top, left, height, width = (int(value) for value in pixels["crop_ijhw"])
    size = int(pixels["sizes"][place])
    found = crop_and_resize(Image.fromarray(pixels["image"]), (left, top, width, height), (size, size), interpolation)
    difference = np.abs(np.asarray(found).astype(int) - pixels[expected].astype(int))
    assert difference.max() <= 1  # another version of Pillow may round differently


def test_two_size_crop_is_that_crop(pixels, monkeypatch):
    top, left, height, width = (int(value) for value in pixels["crop_ijhw"])
    crop = TwoSizeCrop(*(int(size) for size in pixels["sizes"]))
    monkeypatch.setattr(crop, "region", lambda *arguments: (left, top, width, height))
    sample = crop({"image": Image.fromarray(pixels["image"])}, np.random.default_rng(0))
    for key, expected in (("image", "first_bicubic"), ("target_image", "second_lanczos")):
        assert np.abs(np.asarray(sample[key]).astype(int) - pixels[expected].astype(int)).max() <= 1


def test_normalised(pixels):
    batch = {"image": paddle.to_tensor(pixels["first_bicubic"].transpose(2, 0, 1)[None])}
    found = Normalize()(batch, None)["image"].numpy()[0]
    np.testing.assert_allclose(found, pixels["first_normalized_imagenet"], atol=1e-6)


def test_mapped_for_the_tokenizer(pixels):
    batch = {"target_image": paddle.to_tensor(pixels["second_lanczos"].transpose(2, 0, 1)[None])}
    found = ToFloat()(batch, None)["target_image"].numpy()[0]
    np.testing.assert_allclose(0.8 * found + 0.1, pixels["second_mapped"], atol=1e-6)


def test_default_normalisation(stats):
    expected = part_of(stats, "normalize")["imagenet_default_mean_and_std_flag"]
    assert list(Normalize().mean) == expected["mean"]
    assert list(Normalize().std) == expected["std"]


def draw(stats, fit):
    """Draw regions; return relative areas, logarithms of width / height, and (left, top, width, height)."""
    region, rng = RandomRegion(stats["scale"], stats["ratio"], fit), np.random.default_rng(0)
    regions = np.array([region(*stats["image_wh"], rng) for _ in range(stats["draws"])])
    width, height = regions[:, 2], regions[:, 3]
    return width * height / np.prod(stats["image_wh"]), np.log(width / height), regions


def assert_quantiles(values, expected, name):
    """Assert that the fraction of our draws below each reference quantile is correct within 5 standard errors."""
    for level, value in expected.items():
        level = float(level)
        below, up_to = np.mean(values < value), np.mean(values <= value)
        error = 5 * np.sqrt(2 * level * (1 - level) / len(values))  # both sides are samples
        assert below - error <= level <= up_to + error, (name, level, below, up_to)


@pytest.mark.parametrize(("fit", "part"), [("retry", None), ("clamp", "linprobe_random_resized_crop")])
def test_crop_statistics(stats, fit, part):
    expected = part_of(stats, part) if part else stats
    areas, aspects, _ = draw(expected, fit)
    assert_quantiles(areas, expected["area_fraction_quantiles"], "area")
    assert_quantiles(aspects, expected["log_aspect_w_over_h_quantiles"], "aspect")


def test_crop_means_and_places(stats):
    areas, aspects, regions = draw(stats, "retry")
    assert abs(areas.mean() - stats["area_fraction_mean"]) < 5 * areas.std() * np.sqrt(2 / len(regions))
    assert abs(aspects.mean() - stats["log_aspect_mean"]) < 5 * aspects.std() * np.sqrt(2 / len(regions))
    for axis, name in ((1, "top"), (0, "left")):
        room = stats["image_wh"][axis] - regions[:, 2 + axis]
        shares = regions[room > 0, axis] / room[room > 0]
        assert abs(shares.mean() - stats[f"{name}_fraction_of_range_mean"]) < 5 * shares.std() * np.sqrt(
            2 / len(regions)
        )


def test_crop_extremes(stats):
    _, _, regions = draw(stats, "retry")
    for column, name in enumerate("jiwh"):
        side = stats["image_wh"][column % 2]
        np.testing.assert_allclose(
            [regions[:, column].min(), regions[:, column].max()], stats["min_max"][name], atol=0.03 * side
        )


@pytest.mark.parametrize(("side", "column"), [("width", 2), ("height", 3)])
def test_clamped_crops_touch_the_border_as_often(stats, side, column):
    expected = part_of(stats, "linprobe_random_resized_crop")
    _, _, regions = draw(expected, "clamp")
    share = expected[f"fraction_clamped_to_full_{side}"]
    error = 5 * np.sqrt(2 * max(share * (1 - share), 1e-4) / len(regions))
    assert abs(np.mean(regions[:, column] == expected["image_wh"][column - 2]) - share) < error
