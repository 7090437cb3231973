import struct
import subprocess
import warnings

import numpy as np
import pytest
from PIL import Image

from plsc.data.fast_image import load_fast
from plsc.data.images import ImageError, load_image, to_rgb
from tests.data.toys import jpeg_bomb, noise, png_bomb


def saved(tmp_path, image, name="image.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def pixels(path):
    image = load_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_rgb_is_not_changed(tmp_path):
    np.testing.assert_array_equal(pixels(saved(tmp_path, noise())), np.asarray(noise()))


def test_gray_and_one_bit(tmp_path):
    grey = noise().convert("L")
    expected = np.repeat(np.asarray(grey)[..., None], 3, axis=2)
    np.testing.assert_array_equal(pixels(saved(tmp_path, grey)), expected)
    one_bit = Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert("1")
    np.testing.assert_array_equal(pixels(saved(tmp_path, one_bit)), [[[0] * 3, [255] * 3]])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_over_white(tmp_path, mode):
    image = Image.new("RGBA", (3, 1), (10, 10, 10, 255))
    image.putpixel((1, 0), (10, 10, 10, 0))
    image.putpixel((2, 0), (0, 0, 0, 128))
    found = pixels(saved(tmp_path, image.convert(mode)))[0, :, 0]
    assert found[0] == 10
    assert found[1] == 255
    assert abs(int(found[2]) - 127) <= 1


def test_palette_with_and_without_transparency(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 100, 0])
    image.putpixel((1, 0), 1)
    np.testing.assert_array_equal(pixels(saved(tmp_path, image)), [[[200, 0, 0], [0, 100, 0]]])
    np.testing.assert_array_equal(pixels(saved(tmp_path, image, transparency=1)), [[[200, 0, 0], [255] * 3]])
    several = saved(tmp_path, image, transparency=bytes([128, 255]))
    np.testing.assert_allclose(pixels(several), [[[227, 127, 127], [0, 100, 0]]], atol=1)


def test_one_transparent_color(tmp_path):
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (4, 5, 6))
    np.testing.assert_array_equal(
        pixels(saved(tmp_path, image, transparency=(4, 5, 6))), [[[1, 2, 3], [255, 255, 255]]]
    )
    grey = Image.new("L", (2, 1), 7)
    grey.putpixel((1, 0), 9)
    np.testing.assert_array_equal(pixels(saved(tmp_path, grey, transparency=9)), [[[7] * 3, [255] * 3]])


@pytest.mark.parametrize("name", ["image.png", "image.tif"])
def test_sixteen_bits_are_scaled(tmp_path, name):
    values = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    found = pixels(saved(tmp_path, Image.fromarray(values), name))
    np.testing.assert_array_equal(found[0, :, 0], [0, 0, 1, 1, 128, 255])


def test_wide_integers():
    image = Image.fromarray(np.array([[0, 65535]], dtype=np.int32))
    assert image.mode == "I"
    np.testing.assert_array_equal(np.asarray(to_rgb(image))[0, :, 0], [0, 255])
    with pytest.raises(ValueError, match="range from 0 to 65536, beyond 16 bits"):
        to_rgb(Image.fromarray(np.array([[0, 65536]], dtype=np.int32)))


def test_floats_are_refused(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.zeros((2, 2), dtype=np.float32)), "image.tif")
    with pytest.raises(ImageError, match="image.tif.*floating-point"):
        load_image(path)


def test_cmyk(tmp_path):
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    found = pixels(saved(tmp_path, image, "image.jpg", quality=100))
    np.testing.assert_allclose(found, np.broadcast_to([255, 0, 0], found.shape), atol=6)


def test_orientation_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    assert load_image(saved(tmp_path, noise(20, 16), "image.jpg", exif=exif)).size == (20, 16)


def test_first_frame_of_several(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = saved(tmp_path, frames[0], "image.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(pixels(path)[0, 0], [255, 0, 0])


@pytest.mark.parametrize("name", ["image.png", "image.jpg", "image.tif"])
def test_truncated(tmp_path, name):
    path = saved(tmp_path, noise(64, 64), name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=name):
        load_image(path)


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b"\xff\xd8\xff\xe0"])
def test_no_image(tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match="broken.png.*replace or remove it"):
        load_image(path)


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.png: there is no such file"):
        load_image(tmp_path / "gone.png")


READERS = pytest.mark.parametrize("read", [load_image, load_fast])


@READERS
@pytest.mark.parametrize("bomb", [png_bomb, jpeg_bomb])
def test_a_decompression_bomb_is_not_decoded(tmp_path, read, bomb):
    path = tmp_path / "bomb"
    path.write_bytes(bomb(10_000, 9_000))
    message = r"bomb: has 10,000 x 9,000 pixels, but the limit is 89,478,485 pixels, because decoding a small file "
    message += "could fill the memory; if you trust the file, set PLSC_MAX_IMAGE_PIXELS in the environment, otherwise"
    with warnings.catch_warnings(), pytest.raises(ImageError, match=message):
        warnings.simplefilter("ignore")
        read(str(path))
    path.write_bytes(bomb(60_000, 60_000))  # above twice the limit Pillow raises an error without the size
    with pytest.raises(ImageError, match="has (60,000 x 60,000|more than 178,956,970) pixels, but the limit is 89,478"):
        read(str(path))


@READERS
@pytest.mark.parametrize("name", ["image.png", "image.jpg"])
def test_the_environment_sets_the_limit(tmp_path, monkeypatch, read, name):
    path = str(saved(tmp_path, noise(20, 16), name))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match="image.*pixels, but the limit is 100 pixels"):
        read(path)
    monkeypatch.setenv("PLSC_MAX_IMAGE_PIXELS", "320")
    assert read(path).size == (20, 16)
    for wrong in ("many", "0", "-1", "1e9"):
        monkeypatch.setenv("PLSC_MAX_IMAGE_PIXELS", wrong)
        with pytest.raises(ValueError, match=f"PLSC_MAX_IMAGE_PIXELS must be a positive whole number.*got '{wrong}'"):
            read(path)


@READERS
def test_no_limit(tmp_path, monkeypatch, read):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read(str(saved(tmp_path, noise(20, 16)))).size == (20, 16)


@READERS
def test_no_image_starts_another_program(tmp_path, monkeypatch, read):
    """Pillow starts Ghostscript for PostScript, independent of the file's name."""
    path = tmp_path / "image.jpg"
    noise().save(path, "EPS")
    started = []
    for name in ("run", "Popen", "check_call", "check_output", "call"):
        monkeypatch.setattr(subprocess, name, lambda *arguments, **_: started.append(arguments))
    with pytest.raises(ImageError, match="image.jpg: is not an image of a known format"):
        read(str(path))
    assert started == []


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "TGA", "ICO"])
def test_formats(tmp_path, kind):
    path = tmp_path / "image"
    noise(16, 16).save(path, kind)
    assert load_image(path).size == (16, 16)


RAMP = np.linspace(0, 1, 64 * 64).reshape(64, 64)


@READERS
@pytest.mark.parametrize(
    ("name", "greatest", "dtype", "bits"),
    [
        ("8 in 32.tif", 255, np.int32, None),
        ("8 in 32.tif", 255, np.int32, 8),
        ("8 in 16.tif", 255, np.uint16, 8),
        ("12 in 16.png", 4095, np.uint16, 12),
        ("12 in 16.tif", 4095, np.uint16, 12),
        ("12 in 32.tif", 4095, np.int32, 12),
        ("24 in 32.tif", 2**24 - 1, np.int32, 24),
        ("16.png", 65535, np.uint16, None),
    ],
)
def test_values_of_any_depth_become_all_levels(tmp_path, read, name, greatest, dtype, bits):
    values = np.round(RAMP * greatest).astype(dtype)
    found = np.asarray(read(str(saved(tmp_path, Image.fromarray(values), name)), bits=bits))
    expected = np.round(values * (255 / greatest))
    np.testing.assert_allclose(found[..., 0], expected, atol=0 if bits is None else 1)
    assert len(np.unique(found)) == 256


@READERS
def test_a_range_that_is_unknown_or_exceeded_is_refused(tmp_path, read):
    path = str(saved(tmp_path, Image.fromarray((RAMP * 4095).astype(np.int32)), "12 in 32.tif"))
    with pytest.raises(ImageError, match="32.tif.*32-bit integers from 0 to 4095 of an unknown full range; set"):
        read(path)
    with pytest.raises(ImageError, match="32.tif.*range from 0 to 4095, beyond 10 bits; raise the dataset's `bits`"):
        read(path, bits=10)


def test_full_range_16_bit_values_are_scaled():
    values = np.arange(65536, dtype=np.int64)
    found = np.asarray(to_rgb(Image.fromarray(values.reshape(256, 256).astype(np.uint16))))[..., 0]
    np.testing.assert_array_equal(found.ravel(), (values + 128) // 257)


def tiff(bands, photometric, extra=None, size=4, dtype=np.uint8):
    """A TIFF in which every pixel has the values `bands`, with the tag ExtraSamples `extra` (None: without it)."""
    array = np.broadcast_to(np.array(bands, dtype=dtype), (size, size, len(bands)))
    data, bits = array.tobytes(), 8 * array.itemsize
    tags = {256: (4, [size]), 257: (4, [size]), 258: (3, [bits] * len(bands)), 259: (3, [1]), 262: (3, [photometric])}
    tags.update({273: (4, [8]), 277: (3, [len(bands)]), 278: (4, [size]), 279: (4, [len(data)]), 284: (3, [1])})
    if extra is not None:
        tags[338] = (3, extra)
    start = 8 + len(data)
    behind, entries, tail = start + 2 + 12 * len(tags) + 4, b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        raw = struct.pack("<" + {3: "H", 4: "I"}[kind] * len(values), *values)
        at = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack("<I", behind + len(tail))
        tail += b"" if len(raw) <= 4 else raw
        entries += struct.pack("<HHI", tag, kind, len(values)) + at
    head = b"II*\0" + struct.pack("<I", start)
    return head + data + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0) + tail


@READERS
@pytest.mark.parametrize(
    ("extra", "expected"),
    [(None, [200, 100, 50]), ([0], [200, 100, 50]), ([2], [227, 177, 152])],
    ids=["unnamed", "unspecified", "alpha"],
)
@pytest.mark.parametrize("wide", [False, True])
def test_a_fourth_band_is_transparency_only_if_the_file_says_so(tmp_path, read, extra, expected, wide):
    path, bands = tmp_path / "image.tif", np.array([200, 100, 50, 128])
    path.write_bytes(tiff(bands * 257, 2, extra, dtype=np.uint16) if wide else tiff(bands, 2, extra))
    np.testing.assert_allclose(np.asarray(read(str(path)))[0, 0], expected, atol=1)


@READERS
@pytest.mark.parametrize(("bands", "extra"), [(4, [0] * 3), (8, [0] * 7)])
def test_bands_that_cannot_be_read_are_named(tmp_path, read, bands, extra):
    path = tmp_path / "image.tif"
    path.write_bytes(tiff([9] * bands, 1, extra))
    message = rf"image.tif: is a TIFF of {bands} bands of 8 bits \(whole numbers\), which Pillow does not decode; save "
    with pytest.raises(ImageError, match=message):
        read(str(path))


@READERS
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(40), "is a HEIC image, which Pillow does not decode; convert it"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer of Git LFS"),
        (b"II*\0\xff\xff\xff\x7f", "is a TIFF whose header cannot be read"),
        (b"MM\0*", "is a TIFF whose header cannot be read"),
    ],
)
def test_other_kinds_of_files_are_named(tmp_path, read, content, says):
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=f"image.jpg: {says}"):
        read(str(path))


@READERS
def test_names_are_escaped_in_messages(tmp_path, read):
    path = tmp_path / "caf\udce9\n2026-01-01 forged \x1b[2J.png"
    path.write_bytes(b"x")
    with pytest.raises(ImageError) as caught:
        read(str(path))
    assert r"caf\xe9\n2026-01-01 forged \x1b[2J.png: is not an image" in str(caught.value)
    with pytest.raises(FileNotFoundError) as caught:
        read(str(path) + "x")
    assert r"caf\xe9\n2026" in str(caught.value)
