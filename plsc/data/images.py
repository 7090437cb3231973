"""Image files as RGB pixels, as the reference decodes them; `fast_image` is the other way."""

import functools
import os
from pathlib import Path
from typing import List, Optional, Union

import numpy as np
from PIL import Image, UnidentifiedImageError

LIMIT = "PLSC_MAX_IMAGE_PIXELS"  # in the environment, so that it holds in every process and for every command

_SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")
# Of the formats that Pillow knows, those that it decodes itself: for EPS it starts another program.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF", "MPO", "DIB", "JPEG2000", "AVIF", "ICO", "PCX", "SGI")
_FORMATS += ("QOI", "TGA")
_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")


class ImageError(ValueError):
    """A file that is damaged, no image, or of a kind that has no RGB meaning."""


def load_image(path: Union[str, Path]) -> Image.Image:
    """Decodes a file into an RGB image; the first frame if there are several.

    Transparency is composed over white, 16 bits are scaled to 8, and EXIF orientation is left alone, as in the
    reference (torchvision's default loader).

    Raises:
        FileNotFoundError: If there is no such file.
        ImageError: If it cannot be decoded, naming the file and the reason.
    """
    limit = pixel_limit()
    try:
        with open(path, "rb") as file, Image.open(file, formats=_formats()) as image:
            check_size(path, *image.size, limit)
            image.load()
            return to_rgb(image)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file") from None
    except Image.DecompressionBombError:  # Pillow does not say how large
        raise _too_large(path, f"more than {2 * (limit or 0):,}", limit or 0) from None
    except UnidentifiedImageError:
        raise ImageError(f"{path}: is no image of a known format, or damaged; replace or remove it") from None
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders of damaged files raise anything from OSError to struct.error
        raise ImageError(
            f"{path}: cannot be read as an image: {error}; if it is damaged, replace or remove it"
        ) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """A decoded image of any mode as RGB.

    Args:
        image: Palette, grey, 1-bit, 16-bit, CMYK or colour, with or without transparency.

    Raises:
        ValueError: If the pixels are floats, or whole numbers beyond 16 bits.
    """
    if image.mode in _SIXTEEN_BIT:
        image = _to_eight_bits(image)
    elif image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose range is unknown; convert it to 8 bits")
    if image.mode in _ALPHA or (image.mode in ("1", "L", "P", "RGB") and "transparency" in image.info):
        return _over_white(image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


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
        f"{path}: has {size} pixels, and the limit is {limit:,} in all, so that no small file fills the memory; "
        f"if the file is to be trusted, set {LIMIT} in the environment, otherwise replace or remove it"
    )


@functools.lru_cache(maxsize=None)
def _formats() -> List[str]:
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _to_eight_bits(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image).astype(np.int64)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError(f"its pixels range from {pixels.min()} to {pixels.max()}, beyond 16 bits; convert it to 8")
    return Image.fromarray(((pixels + 128) // 257).astype(np.uint8))  # 65535 = 255 * 257


def _over_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")
