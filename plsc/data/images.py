"""Decoding of image files to RGB by Pillow, as in the reference; `fast_image` is the alternative."""

import functools
import os
from pathlib import Path
from typing import List, Optional, Tuple, Union

import numpy as np
from PIL import Image, UnidentifiedImageError

from plsc.data.file_kinds import kind_of
from plsc.errors import PlscError
from plsc.text import lines, printable

LIMIT = "PLSC_MAX_IMAGE_PIXELS"  # an environment variable, so that it applies to every process and command

_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # modes of more than 8 bits
# Formats that Pillow decodes itself; for others, such as EPS, it would start another program.
_FORMATS: Tuple[str, ...] = (
    "JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF", "MPO", "DIB", "JPEG2000", "AVIF", "ICO", "PCX", "SGI", "QOI",
    "TGA",
)  # fmt: skip
_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")
_EXTRA_SAMPLES = 338  # TIFF tag for the meaning of further bands, such as transparency
_CV2_NO_MEMORY = -4


class ImageError(PlscError, ValueError):
    """Error for a file that is damaged, not an image, or of a kind without an RGB interpretation."""


class ImageSizeError(ImageError):
    """Error for an image that a transform would make too large; the caller adds the file's name."""


def load_image(path: Union[str, Path], bits: Optional[int] = None) -> Image.Image:
    """Decode a file to an RGB image; of several frames, the first.

    Transparent pixels are composed over white and 16 bits are scaled to 8. EXIF orientation is ignored, as in the
    reference (torchvision's default loader).

    Args:
        path: Path of the file.
        bits: See `to_rgb`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ImageError: If the file cannot be decoded; the message names the file and the reason.
    """
    limit = pixel_limit()
    try:
        with open(path, "rb") as file, Image.open(file, formats=_formats()) as image:
            check_size(path, *image.size, limit)
            image.load()
            return to_rgb(image, bits)
    except FileNotFoundError:
        raise FileNotFoundError(f"{printable(path)}: there is no such file") from None
    except Image.DecompressionBombError:  # Pillow does not report the size
        raise _too_large(path, f"more than {2 * (limit or 0):,}", limit or 0) from None
    except UnidentifiedImageError:
        kind = kind_of(path)
        unknown = "is not an image of a known format, or is damaged; replace or remove it"
        what = unknown if kind is None else f"is {kind}"
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
    """Convert a decoded image of any mode to RGB.

    Args:
        image: Palette, gray, 1-bit, 16-bit, CMYK or color image, with or without transparency. A fourth band of a TIFF
            that is not marked as transparency, such as near-infrared, is dropped.
        bits: Number of bits used by a gray image of more than 8 bits, at most 24: the value 2^bits - 1 becomes 255.
            None: 16; or 8 for an image of 32 bits without values above 255.

    Raises:
        ValueError: If the pixels are floats, or integers that exceed `bits` or have an unknown range.
    """
    if image.mode in _DEEP:
        image = _to_eight_bits(image, bits)
    elif image.mode == "F":
        raise ValueError("the pixels are floating-point values of an unknown range; convert the image to 8 bits")
    if image.mode == "RGBA" and image.format == "TIFF" and _EXTRA_SAMPLES not in getattr(image, "tag_v2", ()):
        return image.convert("RGB")
    if image.mode in _ALPHA or (image.mode in ("1", "L", "P", "RGB") and "transparency" in image.info):
        return _over_white(image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def greatest_of_16_bits(path: Union[str, Path]) -> Optional[int]:
    """Greatest value of a gray image of 16 bits; None for other images and unreadable files."""
    try:
        with open(path, "rb") as file, Image.open(file, formats=_formats()) as image:
            check_size(path, *image.size, pixel_limit())
            of_32_bits = image.mode == "I" and image.format == "TIFF"
            return int(np.asarray(image).max()) if image.mode in _DEEP and not of_32_bits else None
    except Exception:  # noqa: BLE001 - damaged images are reported when they are loaded
        return None


def is_out_of_memory(error: Exception) -> bool:
    """Return True for an out-of-memory error of Python, Pillow, NumPy or OpenCV."""
    return isinstance(error, MemoryError) or getattr(error, "code", None) == _CV2_NO_MEMORY


def out_of_memory(name: Union[str, Path]) -> ImageError:
    """Return the error for an image that needs more memory than is available."""
    return ImageError(
        f"{printable(name)}: needs more memory than is available; shrink or remove the image, or use fewer num_workers"
    )


def pixel_limit() -> Optional[int]:
    """Largest number of pixels of an image: from the environment, or Pillow's (about 89 million); None: no limit.

    Raises:
        ValueError: If the environment variable is not a positive integer.
    """
    given = os.environ.get(LIMIT)
    if given is not None:
        if not given.isdecimal() or int(given) < 1:
            raise ValueError(f"{LIMIT} must be a positive whole number, the pixel limit of an image, got {given!r}")
        Image.MAX_IMAGE_PIXELS = int(given)  # Pillow checks it, too
    return Image.MAX_IMAGE_PIXELS


def check_size(path: Union[str, Path], width: int, height: int, limit: Optional[int]) -> None:
    """Raise ImageError if an image has more pixels than the limit; a small file could fill the memory."""
    if limit is not None and width * height > limit:
        raise _too_large(path, f"{width:,} x {height:,}", limit)


def _too_large(path: Union[str, Path], size: str, limit: int) -> ImageError:
    return ImageError(
        f"{printable(path)}: has {size} pixels, but the limit is {limit:,} pixels, because decoding a small file could "
        f"fill the memory; if you trust the file, set {LIMIT} in the environment, otherwise replace or remove it"
    )


@functools.lru_cache(maxsize=None)
def _formats() -> List[str]:
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _to_eight_bits(image: Image.Image, bits: Optional[int]) -> Image.Image:
    pixels = np.asarray(image)
    least, greatest = int(pixels.min()), int(pixels.max())
    if least < 0 or greatest >= 2 ** (bits or 16):
        advice = "convert it to 8 bits" if bits is None else "raise the dataset's `bits`, or convert it to 8 bits"
        raise ValueError(f"the pixels range from {least} to {greatest}, beyond {bits or 16} bits; {advice}")
    if bits is None and image.mode == "I" and image.format in ("TIFF", None) and greatest <= 255:
        return Image.fromarray(pixels.astype(np.uint8))
    if bits is None and image.mode == "I" and image.format == "TIFF":
        raise ValueError(
            f"the pixels are 32-bit integers from {least} to {greatest} of an unknown full range; set the dataset's "
            "`bits` to the number of bits used, such as 12 or 16, or convert it to 8 bits"
        )
    top = 2 ** (bits or 16) - 1
    return Image.fromarray(((pixels.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8))  # 32 bits: bits <= 24


def _over_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")
