"""Images with extreme aspect ratios: a small file must not become a huge intermediate image."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

from plsc.data import transforms
from plsc.data.fast_image import FastImage, load_fast, of_array
from plsc.data.images import ImageError, load_image
from plsc.data.pipeline import SampleDataset
from plsc.data.rand_augment import RandAugment
from plsc.data.transforms import CenterCrop, RandomResizedCrop, Resize, TwoSizeCrop
from tests.data.toys import noise

READERS = pytest.mark.parametrize("read", [load_image, load_fast])
THIN = [(1, 60_000), (60_000, 1), (300_000, 2), (1, 4_000_000), (2, 70_000)]


def rng(seed=0):
    return np.random.default_rng(seed)


def smooth(width, height, seed=0):
    """A smooth image of any size, like a photograph."""
    small = rng(seed).integers(0, 256, (max(1, height // 5), max(1, width // 5), 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(400, 300), (300, 400), (40, 900), (900, 7), (7, 5), (500, 500)])
@pytest.mark.parametrize("fast", [False, True])
def test_resizing_a_part_equals_cropping_the_resized_image(monkeypatch, interpolation, size, fast):
    image = smooth(*size)
    crop = CenterCrop(56, interpolation=interpolation)
    expected = np.asarray(crop({"image": image}, rng())["image"]).astype(int)
    monkeypatch.setattr(transforms, "_MOST_BETWEEN", 0)
    found = crop({"image": of_array(np.asarray(image)) if fast else image}, rng())["image"]
    assert isinstance(found, FastImage) == fast
    off = np.abs(np.asarray(found).astype(int) - expected)
    if interpolation == "nearest":  # if a pixel's center is between two pixels, both are correct
        assert (off > 0).mean() < 0.1
    else:
        assert off.max() <= 1


@pytest.mark.parametrize("size", [(640, 427), (8000, 50), (3, 2), (4000, 6000), (1, 1), (64, 64)])
@pytest.mark.parametrize(("crop", "ratio"), [(224, 0.875), (384, 1.0)])
def test_ordinary_images_are_resized_as_a_whole(size, crop, ratio):
    image = smooth(*size)
    short = int(crop / ratio)
    wide = image.width > image.height
    whole = (int(short * image.width / image.height), short) if wide else (short, int(short * size[1] / size[0]))
    left, top = round((whole[0] - crop) / 2), round((whole[1] - crop) / 2)
    expected = image.resize(whole, Image.Resampling.BICUBIC).crop((left, top, left + crop, top + crop))
    found = CenterCrop(crop, ratio)({"image": image}, rng())["image"]
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


class _Sizes:
    """Record the sizes of all images that Pillow and OpenCV create."""

    def __init__(self, monkeypatch):
        self.pixels = []
        resize = Image.Image.resize

        def noted(image, size, *arguments, **options):
            self.pixels.append(size[0] * size[1])
            if size[1] < image.height:  # Pillow resizes the width first, for all required rows
                self.pixels.append(size[0] * image.height)
            return resize(image, size, *arguments, **options)

        monkeypatch.setattr(Image.Image, "resize", noted)


@pytest.mark.parametrize("size", THIN)
@pytest.mark.parametrize(
    "transform",
    [
        CenterCrop(224),
        CenterCrop((32, 96), 0.5),
        Resize((224, 224)),
        RandomResizedCrop(224),
        RandomResizedCrop(224, fit="clamp"),
        RandomResizedCrop(224, ratio=(1e-3, 1e3)),
        TwoSizeCrop(224, 112),
    ],
)
def test_no_intermediate_image_is_huge(monkeypatch, size, transform):
    sizes = _Sizes(monkeypatch)
    for image in (Image.new("RGB", size, (9, 99, 200)), of_array(np.full((size[1], size[0], 3), 99, dtype=np.uint8))):
        for seed in range(3):
            for result in transform({"image": image}, rng(seed)).values():
                assert max(result.size) <= 224
                assert len(np.unique(np.asarray(result).reshape(-1, 3), axis=0)) == 1, "of one colour"
    assert all(count <= transforms._MOST_BETWEEN for count in sizes.pixels)


@READERS
@pytest.mark.parametrize("name", ["thin.png", "thin.jpg"])
def test_a_result_beyond_the_limit_names_the_file(tmp_path, read, name):
    path = tmp_path / name
    Image.new("L", (60_000, 1), 99).save(path)
    dataset = SampleDataset([{"image": read(str(path)), "path": str(path)}], [Resize(256), CenterCrop(224, None)])
    message = f"{name}: Resize failed: 60,000 x 1 pixels would become 15,360,000 x 256, but the limit is 89,478,485"
    with pytest.raises(ImageError, match=message):
        dataset[0, 0]


@READERS
def test_augmentation_takes_any_shape(tmp_path, read):
    path = tmp_path / "thin.png"
    Image.new("RGB", (60_000, 2), (9, 99, 200)).save(path)
    for seed in range(20):
        sample = RandAugment()({"image": read(str(path))}, rng(seed))
        assert sample["image"].size == np.asarray(sample["image"]).shape[1::-1] == (60_000, 2)


LIMITED = """
import resource, sys
import numpy as np
from PIL import Image
from plsc.data.fast_image import load_fast
from plsc.data.images import load_image
from plsc.data.pipeline import SampleDataset
from plsc.data.transforms import CenterCrop, RandomResizedCrop, Resize, TwoSizeCrop
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20,) * 2)
for path in sys.argv[1:]:
    for load in (load_image, load_fast):
        crops = (CenterCrop(224), RandomResizedCrop(224, fit="clamp"), TwoSizeCrop(224, 112))
        for transform in (*crops, Resize((224, 224))):
            sample = SampleDataset([{"image": load(path), "path": path}], [transform])[0, 0]
            assert sample["image"].shape == (3, 224, 224)
print("fine")
"""


def test_memory_is_limited(tmp_path):
    paths = [str(tmp_path / f"{width}x{height}.png") for width, height in THIN]
    for path, size in zip(paths, THIN):
        Image.new("L", size, 99).save(path)
    command = [sys.executable, "-c", textwrap.dedent(LIMITED), *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "fine\n", done.stderr


class _Hungry:
    """A transform that runs out of memory."""

    def __call__(self, sample, rng):
        if sample["image"].width == 20:
            raise MemoryError
        return sample


def test_memory_errors_name_the_image():
    samples = SampleDataset([{"image": noise(20, 16), "path": "large\n.png"}], [_Hungry()])
    with pytest.raises(ImageError, match=r"large\\n.png: needs more memory than is available"):
        samples[0, 0]
