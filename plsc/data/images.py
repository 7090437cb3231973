"""Image files as RGB pixels, as the reference decodes them; `fast_image` is the other way."""

import functools
import os
from pathlib import Path
from typing import List, Optional, Tuple, Union

import numpy as np
from PIL import Image, UnidentifiedImageError

from plsc.data.file_kinds import kind_of
from plsc.errors import PlscError
from plsc.text import lines, printable

LIMIT = "PLSC_MAX_IMAGE_PIXELS"  # in the environment, so that it holds in every process and for every command

_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # modes of more than 8 bits
# Of the formats that Pillow knows, those that it decodes itself: for EPS it starts another program.
_FORMATS: Tuple[str, ...] = (
    "JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF", "MPO", "DIB", "JPEG2000", "AVIF", "ICO", "PCX", "SGI", "QOI",
    "TGA",
)  # fmt: skip
_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")
_EXTRA_SAMPLES = 338  # tag of TIFF that says what further bands are, such as transparency
_CV2_NO_MEMORY = -4


class ImageError(PlscError, ValueError):
    """A file that is damaged, no image, or of a kind that has no RGB meaning."""


class ImageSizeError(ImageError):
    """An image that a transform would make too large; without the name of its file, which the transform cannot know."""


def load_image(path: Union[str, Path], bits: Optional[int] = None) -> Image.Image:
    """Decodes a file into an RGB image; the first frame if there are several.

    Transparency is composed over white, 16 bits are scaled to 8, and EXIF orientation is left alone, as in the
    reference (torchvision's default loader).

    Args:
        path: The file.
        bits: See `to_rgb`.

    Raises:
        FileNotFoundError: If there is no such file.
        ImageError: If it cannot be decoded, naming the file and the reason.
    """
    limit = pixel_limit()
    try:
        with open(path, "rb") as file, Image.open(file, formats=_formats()) as image:
            check_size(path, *image.size, limit)
            image.load()
            return to_rgb(image, bits)
    except FileNotFoundError:
        raise FileNotFoundError(f"{printable(path)}: there is no such file") from None
    except Image.DecompressionBombError:  # Pillow does not say how large
        raise _too_large(path, f"more than {2 * (limit or 0):,}", limit or 0) from None
    except UnidentifiedImageError:
        kind = kind_of(path)
        what = "is no image of a known format, or damaged; replace or remove it" if kind is None else f"is {kind}"
        raise ImageError(f"{printable(path)}: {what}") from None
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders of damaged files raise anything from OSError to struct.error
        if is_out_of_memory(error):
            raise out_of_memory(path) from error
        raise ImageError(
            f"{printable(path)}: cannot be read as an image: {lines(error)}; if it is damaged, replace or remove it"
        ) from error


def to_rgb(image: Image.Image, bits: Optional[int] = None) -> Image.Image:
    """A decoded image of any mode as RGB.

    Args:
        image: Palette, grey, 1-bit, 16-bit, CMYK or colour, with or without transparency. A fourth band of a TIFF that
            does not say that it is transparency, such as near-infrared, is left out.
        bits: How many bits the values of a grey image of more than 8 bits use: 2^bits - 1 becomes 255. None: 16, or 8
            if it has 32 bits and no value above 255. At most 24.

    Raises:
        ValueError: If the pixels are floats, or whole numbers beyond `bits` or of an unknown range.
    """
    if image.mode in _DEEP:
        image = _to_eight_bits(image, bits)
    elif image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose range is unknown; convert it to 8 bits")
    if image.mode == "RGBA" and image.format == "TIFF" and _EXTRA_SAMPLES not in getattr(image, "tag_v2", ()):
        return image.convert("RGB")
    if image.mode in _ALPHA or (image.mode in ("1", "L", "P", "RGB") and "transparency" in image.info):
        return _over_white(image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def greatest_of_16_bits(path: Union[str, Path]) -> Optional[int]:
    """The greatest value of a grey image of 16 bits; None for any other image and for what cannot be read."""
    try:
        with open(path, "rb") as file, Image.open(file, formats=_formats()) as image:
            check_size(path, *image.size, pixel_limit())
            of_32_bits = image.mode == "I" and image.format == "TIFF"
            return int(np.asarray(image).max()) if image.mode in _DEEP and not of_32_bits else None
    except Exception:  # noqa: BLE001 - a damaged image is an error where it is used
        return None


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of Python, Pillow, NumPy or OpenCV says that there is not enough memory."""
    return isinstance(error, MemoryError) or getattr(error, "code", None) == _CV2_NO_MEMORY


def out_of_memory(name: Union[str, Path]) -> ImageError:
    """The error of an image that needs more memory than there is."""
    return ImageError(
        f"{printable(name)}: needs more memory than there is; make it smaller or remove it, or use fewer num_workers"
    )


def pixel_limit() -> Optional[int]:
    """The most pixels that an image may have: of the environment, or Pillow's (about 89 million); None: any number.

    Raises:
        ValueError: If the environment says something else.
    """
    given = os.environ.get(LIMIT)
    if given is not None:
        if not given.isdecimal() or int(given) < 1:
            raise ValueError(f"{LIMIT} is the largest number of pixels of an image, got {given!r}")
        Image.MAX_IMAGE_PIXELS = int(given)  # Pillow looks by itself as well
    return Image.MAX_IMAGE_PIXELS


def check_size(path: Union[str, Path], width: int, height: int, limit: Optional[int]) -> None:
    """Raises ImageError if an image has more pixels than the limit: a small file could fill the memory."""
    if limit is not None and width * height > limit:
        raise _too_large(path, f"{width:,} x {height:,}", limit)


def _too_large(path: Union[str, Path], size: str, limit: int) -> ImageError:
    return ImageError(
        f"{printable(path)}: has {size} pixels, and the limit is {limit:,} in all, so that no small file fills the "
        f"memory; if the file is to be trusted, set {LIMIT} in the environment, otherwise replace or remove it"
    )


@functools.lru_cache(maxsize=None)
def _formats() -> List[str]:
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _to_eight_bits(image: Image.Image, bits: Optional[int]) -> Image.Image:
    pixels = np.asarray(image)
    least, greatest = int(pixels.min()), int(pixels.max())
    if least < 0 or greatest >= 2 ** (bits or 16):
        advice = "convert it to 8" if bits is None else "set the dataset's `bits` to what they use, or convert it to 8"
        raise ValueError(f"its pixels range from {least} to {greatest}, beyond {bits or 16} bits; {advice}")
    if bits is None and image.mode == "I" and image.format in ("TIFF", None) and greatest <= 255:
        return Image.fromarray(pixels.astype(np.uint8))
    if bits is None and image.mode == "I" and image.format == "TIFF":
        raise ValueError(
            f"its pixels are 32-bit numbers from {least} to {greatest}, whose full range is unknown; set the dataset's "
            "`bits` to what the values use, such as 12 or 16, or convert it to 8 bits"
        )
    top = 2 ** (bits or 16) - 1
    return Image.fromarray(((pixels.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8))  # 32 bits: bits <= 24


def _over_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")
