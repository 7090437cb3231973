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


def test_rgb_as_it_is(tmp_path):
    np.testing.assert_array_equal(pixels(saved(tmp_path, noise())), np.asarray(noise()))


def test_grey_and_one_bit(tmp_path):
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


def test_one_transparent_colour(tmp_path):
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


def test_orientation_is_left_alone(tmp_path):
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
    message = r"bomb: has 10,000 x 9,000 pixels, and the limit is 89,478,485 in all, so that no small file fills the "
    message += "memory; if the file is to be trusted, set PLSC_MAX_IMAGE_PIXELS in the environment, otherwise replace"
    with warnings.catch_warnings(), pytest.raises(ImageError, match=message):
        warnings.simplefilter("ignore")
        read(str(path))
    path.write_bytes(bomb(60_000, 60_000))  # above twice the limit Pillow raises by itself, and does not say the size
    with pytest.raises(ImageError, match="has (60,000 x 60,000|more than 178,956,970) pixels, and the limit is 89,478"):
        read(str(path))


@READERS
@pytest.mark.parametrize("name", ["image.png", "image.jpg"])
def test_the_environment_sets_the_limit(tmp_path, monkeypatch, read, name):
    path = str(saved(tmp_path, noise(20, 16), name))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match="image.*pixels, and the limit is 100 in all"):
        read(path)
    monkeypatch.setenv("PLSC_MAX_IMAGE_PIXELS", "320")
    assert read(path).size == (20, 16)
    for wrong in ("many", "0", "-1", "1e9"):
        monkeypatch.setenv("PLSC_MAX_IMAGE_PIXELS", wrong)
        with pytest.raises(ValueError, match=f"PLSC_MAX_IMAGE_PIXELS is the largest number of pixels.*got '{wrong}'"):
            read(path)


@READERS
def test_no_limit(tmp_path, monkeypatch, read):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read(str(saved(tmp_path, noise(20, 16)))).size == (20, 16)


@READERS
def test_no_image_starts_another_program(tmp_path, monkeypatch, read):
    """Pillow hands PostScript to Ghostscript, whatever the file is called."""
    path = tmp_path / "image.jpg"
    noise().save(path, "EPS")
    started = []
    for name in ("run", "Popen", "check_call", "check_output", "call"):
        monkeypatch.setattr(subprocess, name, lambda *arguments, **_: started.append(arguments))
    with pytest.raises(ImageError, match="image.jpg: is no image of a known format"):
        read(str(path))
    assert started == []


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "TGA", "ICO"])
def test_formats(tmp_path, kind):
    path = tmp_path / "image"
    noise(16, 16).save(path, kind)
    assert load_image(path).size == (16, 16)
