"""The fast decoder against Pillow: equal random draws and sizes, nearly equal pixels."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

cv2 = pytest.importorskip("cv2", reason="the fast decoder needs OpenCV: pip install -e '.[fast]'")
simplejpeg = pytest.importorskip("simplejpeg", reason="the fast decoder needs simplejpeg: pip install -e '.[fast]'")

from plsc.config import registry  # noqa: E402
from plsc.data.color import ColorJitter, enhanced  # noqa: E402
from plsc.data.fast_image import FastImage, load_fast, of_array  # noqa: E402
from plsc.data.folder import ImageFolder  # noqa: E402
from plsc.data.images import ImageError, load_image  # noqa: E402
from plsc.data.pipeline import SampleDataset  # noqa: E402
from plsc.data.rand_augment import OPERATIONS  # noqa: E402
from plsc.data.transforms import (  # noqa: E402
    CenterCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    TwoSizeCrop,
    crop_and_resize,
)


def smooth(width, height, seed=0):
    """An image like a photograph: random colors at low resolution, enlarged, with some detail."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (max(2, height // 40), max(2, width // 40), 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    detail = rng.normal(0, 6, (height, width, 1))
    return Image.fromarray((np.asarray(image) + detail).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for number, size in enumerate([(500, 375), (375, 500), (640, 427), (90, 60), (1600, 1200)]):
        smooth(*size, seed=number).save(root / f"{number}.jpg", quality=92)
    return root


def arrays(folder, decoder, transforms, epoch=0):
    samples = SampleDataset(ImageFolder(str(folder), decoder=decoder), transforms)
    return [samples[epoch, index] for index in range(len(samples))]


PIPELINES = {
    "pre-training": [RandomHorizontalFlip(), TwoSizeCrop(224, 112)],
    "probe": [RandomResizedCrop(224, fit="clamp"), RandomHorizontalFlip()],
    "evaluation": [CenterCrop(224)],
    "crop only": [Resize(256), CenterCrop(224, crop_ratio=None)],
    "high and narrow": [RandomResizedCrop([96, 40], interpolation="bilinear")],
    "twice mirrored": [RandomHorizontalFlip(1.0), RandomResizedCrop(64), RandomHorizontalFlip(1.0)],
    "nothing": [Resize([60, 90])],
}


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("epoch", [0, 1])
def test_the_same_regions_with_nearly_the_same_pixels(folder, name, epoch):
    pairs = zip(*(arrays(folder, decoder, PIPELINES[name], epoch) for decoder in ("pillow", "fast")))
    for exact, fast in pairs:
        assert set(exact) == set(fast)
        for key in ("image", "target_image"):
            if key in exact:
                assert exact[key].shape == fast[key].shape and fast[key].dtype == np.uint8
                difference = np.abs(exact[key].astype(int) - fast[key])
                assert difference.mean() < 5.5  # of 255; the detail is noise, which other filters average differently


def test_an_untouched_image_is_decoded_whole(folder):
    assert load_fast(str(folder / "0.jpg")).size == (500, 375)
    exact = np.asarray(load_image(folder / "0.jpg")).astype(int)
    assert np.abs(exact - np.asarray(load_fast(str(folder / "0.jpg")))).mean() < 3.0


def spy(monkeypatch):
    """List to which every array decoded from now on is appended."""
    decoded, original = [], simplejpeg.decode_jpeg

    def decode(*arguments, buffer, **options):
        decoded.append(buffer)
        return original(*arguments, buffer=buffer, **options)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", decode)
    return decoded


def test_a_large_photograph_is_decoded_no_larger_than_needed(folder, monkeypatch):
    decoded = spy(monkeypatch)
    image = load_fast(str(folder / "4.jpg"))
    crop_and_resize(image, (0, 0, 1600, 1200), (224, 224), "bicubic")
    assert [pixels.shape for pixels in decoded] == [(300, 400, 3)]
    crop_and_resize(image, (0, 0, 1600, 1200), (112, 112), "bicubic")  # the decoded pixels are large enough
    assert len(decoded) == 1
    crop_and_resize(image, (100, 100, 300, 200), (224, 224), "bicubic")
    assert decoded[-1].shape == (304, 1600, 3)  # at full size, down to the last row of the crop


def test_rows_below_a_crop_are_not_decoded(folder, monkeypatch):
    decoded = spy(monkeypatch)
    image = load_fast(str(folder / "0.jpg"))
    whole = np.asarray(load_fast(str(folder / "0.jpg"))).astype(int)
    part = np.asarray(image.crop((100, 30, 400, 130)))
    assert decoded[-1].shape == (144, 500, 3)  # whole rows of blocks
    assert (whole[30:130, 100:400] == part).all()
    np.asarray(image.crop((0, 0, 500, 140)))
    assert len(decoded) == 2  # the decoded rows are enough
    np.asarray(image.crop((0, 200, 500, 300)))
    assert decoded[-1].shape == (304, 500, 3)


def test_a_file_that_simplejpeg_does_not_finish_is_left_to_pillow(tmp_path):
    """simplejpeg ignores this after an earlier warning, and returns uninitialized memory."""
    data = bytearray(encoded(smooth(200, 150), "JPEG", progressive=True))
    at = data.rindex(b"\xff\xc4")  # a table between two scans
    data[at - 2 : at + 2] = b"\xff\xd0\xff\x60"
    (tmp_path / "a.jpg").write_bytes(bytes(data))
    for read in (load_image, lambda path: np.asarray(load_fast(str(path)))):
        with pytest.raises(ImageError, match="a.jpg: (is not an image of a known format|cannot be read as an image)"):
            read(tmp_path / "a.jpg")
    assert simplejpeg.decode_jpeg(bytes(data), "RGB", strict=False).shape == (150, 200, 3)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
def test_a_low_crop_of_any_kind_of_jpeg(tmp_path, options):
    (tmp_path / "a.jpg").write_bytes(encoded(smooth(200, 150), "JPEG", **options))
    for box in [(10, 0, 90, 33), (10, 0, 90, 149), (10, 100, 90, 150)]:
        exact = np.asarray(load_image(tmp_path / "a.jpg").crop(box)).astype(int)
        assert np.abs(exact - np.asarray(load_fast(str(tmp_path / "a.jpg")).crop(box))).mean() < 3.5


def test_the_file_is_decoded_once_for_two_crops(folder, monkeypatch):
    calls = []
    original = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *a, **k: calls.append(1) or original(*a, **k))
    arrays(folder, "fast", PIPELINES["pre-training"])
    assert len(calls) == 5


@pytest.mark.parametrize("name", sorted(OPERATIONS))
@pytest.mark.parametrize("level", [0.3, 0.9, 1.0])
def test_operations_of_randaugment(name, level):
    image = smooth(224, 224)
    warp = {"resample": Image.Resampling.BICUBIC, "fillcolor": (124, 116, 104)}
    exact = OPERATIONS[name](level, np.random.default_rng(0), warp)(image)
    fast = OPERATIONS[name](level, np.random.default_rng(0), warp)(of_array(np.asarray(image)))
    assert isinstance(fast, FastImage) and fast.size == exact.size
    difference = np.abs(np.asarray(exact).astype(int) - np.asarray(fast))
    warped = name in ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
    assert difference.mean() < (3.0 if warped else 0.6)


@pytest.mark.parametrize("kind", ["Brightness", "Contrast", "Color", "Sharpness"])
@pytest.mark.parametrize("factor", [0.1, 0.7, 1.0, 1.9])
def test_enhancements_differ_by_rounding(kind, factor):
    image = smooth(64, 48)
    change = enhanced(getattr(ImageEnhance, kind), factor)
    exact, fast = np.asarray(change(image)).astype(int), np.asarray(change(of_array(np.asarray(image))))
    assert np.abs(exact - fast).max() <= 2


def test_color_jitter_draws_the_same():
    image = smooth(64, 48)
    exact, fast = (
        ColorJitter(hue=0.1)({"image": start}, np.random.default_rng(3))["image"]
        for start in (image, of_array(np.asarray(image)))
    )
    assert np.abs(np.asarray(exact).astype(int) - np.asarray(fast)).mean() < 2


ROTATED = Image.Exif()
ROTATED[274] = 6  # orientation: a quarter turn


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("png", encoded(smooth(40, 30), "PNG")),
        ("alpha", encoded(smooth(40, 30).convert("RGBA"), "PNG")),
        ("cmyk.jpg", encoded(smooth(40, 30).convert("CMYK"), "JPEG")),
        ("grey.jpg", encoded(smooth(40, 30).convert("L"), "JPEG")),
        ("rotated.jpg", encoded(smooth(40, 30), "JPEG", exif=ROTATED)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_kinds_of_files_look_as_with_pillow(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    exact, fast = np.asarray(load_image(path)).astype(int), np.asarray(load_fast(str(path)))
    assert exact.shape == fast.shape and np.abs(exact - fast).mean() < 3.0


@pytest.mark.parametrize("keep", [2, 20, 1500])
def test_a_damaged_file_is_named_once(tmp_path, keep):
    data = encoded(smooth(200, 150), "JPEG")
    (tmp_path / "bad.jpg").write_bytes(data[:keep])
    samples = SampleDataset(ImageFolder(str(tmp_path), decoder="fast"), [RandomResizedCrop(64)])
    with pytest.raises(ImageError, match=r"bad\.jpg: (cannot be read|is not an image)") as caught:
        samples[0, 0]
    assert str(caught.value).count("bad.jpg") == 1


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.jpg: there is no such file"):
        load_fast(str(tmp_path / "no.jpg"))


def test_an_image_beyond_the_limit_is_not_decoded(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match="has 500 x 375 pixels, but the limit is 1,000 pixels"):
        load_fast(str(folder / "0.jpg"))


def test_other_transpose_methods_are_refused(folder):
    with pytest.raises(ValueError, match="decoder: fast does not support .*set decoder: pillow"):
        load_fast(str(folder / "0.jpg")).transpose(Image.Transpose.ROTATE_90)


@pytest.mark.parametrize("module", ["cv2", "simplejpeg"])
def test_missing_libraries_are_named(folder, monkeypatch, module):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ImportError, match=r"decoder: fast needs simplejpeg and OpenCV .*pip install -e '\.\[fast\]'"):
        ImageFolder(str(folder), decoder="fast")


@pytest.mark.parametrize("name", ["ImageFolder", "ListFile", "ImageNet"])
def test_every_dataset_of_files_has_the_option(name):
    assert "decoder" in registry.DATASETS.parameters(name)
