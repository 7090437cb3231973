"""Images of `decoder: fast`: decoded late by libjpeg-turbo, at a reduced size if possible, and resized by OpenCV.

`FastImage` has the part of PIL's interface that the transforms of plsc use. A transform draws the same random numbers
for both kinds of images; only the pixels differ slightly, see docs/data.md.
"""

from typing import Any, Callable, Dict, Optional, Tuple, Union

import numpy as np
from PIL import Image

from plsc import distribution
from plsc.data.images import ImageError, check_size, load_image, pixel_limit
from plsc.text import printable

Box = Tuple[int, int, int, int]  # left, top, right, bottom

_START, _END = b"\xff\xd8\xff", b"\xff\xd9"
_SEQUENTIAL = (0xC0, 0xC1)  # frames whose rows are stored from top to bottom
_OTHER_FRAMES = (0xC2, 0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
_REST = "extraneous bytes before marker"  # libjpeg's warning for a file whose header was changed to fewer rows
_BLOCK = 16  # largest number of rows that are decoded together
_MOST_WARPED = 32766  # largest side in pixels that all versions of OpenCV can warp
_MUCH = 2.5  # reduction factor from which bilinear interpolation would skip pixels
_FILTERS = {
    Image.Resampling.NEAREST: "INTER_NEAREST",
    Image.Resampling.BILINEAR: "INTER_LINEAR",
    Image.Resampling.BICUBIC: "INTER_CUBIC",
    Image.Resampling.LANCZOS: "INTER_LANCZOS4",
}


class FastImage:
    """An RGB image whose pixels may still be encoded.

    Args:
        source: Source of the pixels.
        box: Part of the source that this image shows; None: all of it.
        mirrored: Exchange left and right, after taking the part.
    """

    def __init__(self, source: "_Source", box: Optional[Box] = None, mirrored: bool = False) -> None:
        self.source = source
        self.box = (0, 0, *source.size) if box is None else box
        self.mirrored = mirrored

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.box[2] - self.box[0]

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.box[3] - self.box[1]

    @property
    def size(self) -> Tuple[int, int]:
        """(width, height) in pixels; does not decode the image."""
        return self.width, self.height

    def crop(self, box: Box) -> "FastImage":
        """Return a part of the image; `box` must be inside the image."""
        left, top, right, bottom = box
        if self.mirrored:
            left, right = self.width - right, self.width - left
        x, y = self.box[:2]
        return FastImage(self.source, (x + left, y + top, x + right, y + bottom), self.mirrored)

    def transpose(self, method: Image.Transpose) -> "FastImage":
        """Mirror left and right; the only method that transforms need.

        Raises:
            ValueError: For any other method.
        """
        if method != Image.Transpose.FLIP_LEFT_RIGHT:
            raise ValueError(f"decoder: fast does not support {method}; set decoder: pillow")
        return FastImage(self.source, self.box, not self.mirrored)

    def resize(self, size: Tuple[int, int], resample: Image.Resampling) -> "FastImage":
        """Resize to (width, height): by the filter if larger, bilinearly if smaller, by area means if much smaller."""
        import cv2

        pixels = self.source.region(self.box, size)
        shrink = sorted((pixels.shape[1] / size[0], pixels.shape[0] / size[1]))
        if pixels.shape[1::-1] != tuple(size):
            smaller = cv2.INTER_AREA if shrink[0] >= 2 or shrink[1] >= _MUCH else cv2.INTER_LINEAR
            method = getattr(cv2, _FILTERS[resample]) if shrink[0] < 1 else smaller
            pixels = cv2.resize(pixels, tuple(size), interpolation=method)
        return of_array(cv2.flip(pixels, 1) if self.mirrored else pixels)

    def warp(self, matrix: Tuple[float, ...], fill: Tuple[int, ...]) -> "FastImage":
        """Warp bilinearly: output (x, y) is input (a x + b y + c, d x + e y + f), as in PIL's affine transform."""
        import cv2

        if max(self.size) > _MOST_WARPED:
            options: Dict[str, Any] = {"resample": Image.Resampling.BILINEAR, "fillcolor": tuple(fill)}
            return self.by_pillow(lambda image: image.transform(image.size, Image.Transform.AFFINE, matrix, **options))
        a, b, c, d, e, f = matrix
        # PIL maps the centers of pixels, which are at (x + 0.5, y + 0.5)
        inverse = np.array([[a, b, c + (a + b - 1) / 2], [d, e, f + (d + e - 1) / 2]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        warped = cv2.warpAffine(
            np.asarray(self), inverse, self.size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=fill
        )
        return of_array(warped)

    def table(self, values: np.ndarray) -> "FastImage":
        """Map each value by a lookup table, uint8 (256,) or (256, 3)."""
        import cv2

        return of_array(cv2.LUT(np.asarray(self), values.reshape(1, 256, -1)))

    def blend(self, other: np.ndarray, factor: float) -> "FastImage":
        """Blend with `other`: other + factor * (image - other), as in PIL's enhancements."""
        import cv2

        return of_array(cv2.addWeighted(np.asarray(self), factor, other, 1.0 - factor, 0.0))

    def by_pillow(self, change: Callable[[Image.Image], Image.Image]) -> "FastImage":
        """Apply a function of PIL images."""
        return of_array(np.asarray(change(Image.fromarray(np.asarray(self)))))

    def planes(self) -> np.ndarray:
        """Pixels, uint8 (3, H, W)."""
        import cv2

        planes = np.empty((3, self.height, self.width), dtype=np.uint8)
        cv2.split(np.asarray(self), list(planes))
        return planes

    def __array__(self, dtype: Any = None, copy: Optional[bool] = None) -> np.ndarray:
        """Pixels, uint8 (H, W, 3)."""
        import cv2

        pixels = self.source.region(self.box, self.size)
        return cv2.flip(pixels, 1) if self.mirrored else np.ascontiguousarray(pixels)


class _Source:
    """Pixels that images share: encoded, decoded at some size, or both.

    Args:
        pixels: uint8 (H, W, 3), or None.
        data: Content of a JPEG file.
        size: (width, height) of the encoded image.
        path: Path of the file, used in messages.
    """

    def __init__(self, pixels: Optional[np.ndarray], data: bytes = b"", size: Tuple[int, int] = (0, 0), path: str = ""):
        self.pixels = pixels
        self.data = data
        self.size = size if pixels is None else (pixels.shape[1], pixels.shape[0])
        self.path = path
        self.shrink = 1  # reduction factor of the decoded pixels with respect to `size`
        self.rows = self.size[1]  # number of the image's rows that are decoded

    def region(self, box: Box, size: Tuple[int, int]) -> np.ndarray:
        """Return the pixels in `box`, at least as large as the smaller of `size` and the box."""
        shrink = 1
        for factor in (2, 4, 8):  # reductions that the decoder computes fast
            if (box[2] - box[0]) >= factor * size[0] and (box[3] - box[1]) >= factor * size[1]:
                shrink = factor
        left, top, right, bottom = box
        if self.pixels is None or (self.data and (shrink < self.shrink or bottom > self.rows)):
            self.pixels, self.shrink, self.rows = self._decode(shrink, bottom)
        x, y = self.pixels.shape[1] / self.size[0], self.pixels.shape[0] / self.rows
        return self.pixels[round(top * y) : round(bottom * y), round(left * x) : round(right * x)]

    def _decode(self, shrink: int, rows: int) -> Tuple[np.ndarray, int, int]:
        """Return pixels, their reduction factor, and the number of the image's rows that they hold.

        Raises:
            ImageError: If the file is damaged.
        """
        rows = -(-rows // _BLOCK) * _BLOCK
        short = shortened(self.data, rows) if rows < self.size[1] else None
        rows = self.size[1] if short is None else rows
        width, height = (-(-length // shrink) for length in (self.size[0], rows))
        pixels = _decoded(self.data if short is None else short, width, height, short is not None)
        if pixels is None:
            return np.asarray(load_image(self.path)), 1, self.size[1]
        return pixels, shrink, rows


def _decoded(data: bytes, width: int, height: int, cut: bool) -> Optional[np.ndarray]:
    """Decode a JPEG to uint8 (height, width, 3); None if simplejpeg reports any problem, so that Pillow decides.

    simplejpeg is not asked to ignore damage: it would then return uninitialized memory for a truncated file.
    """
    import simplejpeg

    pixels = np.empty((height, width, 3), dtype=np.uint8)
    try:
        simplejpeg.decode_jpeg(data, "RGB", True, True, min_width=width, min_height=height, buffer=pixels)
    except ValueError as error:
        if not (cut and _REST in str(error)):
            return None
    return pixels


def shortened(data: bytes, rows: int) -> Optional[bytes]:
    """Change the height in a JPEG file's header to `rows`, so that a decoder stops there.

    The height is a field of the frame header (ITU-T T.81, B.2.2).

    Returns:
        The changed file; None if its rows are not stored in order.
    """
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        if data[at + 1] in _SEQUENTIAL:
            return data[: at + 5] + rows.to_bytes(2, "big") + data[at + 7 :]  # marker, length (2), precision, height
        if data[at + 1] in _OTHER_FRAMES:
            return None
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def of_array(pixels: np.ndarray) -> FastImage:
    """Make an image of pixels, uint8 (H, W, 3)."""
    return FastImage(_Source(pixels))


def load_fast(path: str, bits: Optional[int] = None) -> FastImage:
    """Read an image file; JPEG is decoded on first access to pixels, other formats at once by Pillow.

    Args:
        path: Path of the file.
        bits: See `plsc.data.images.to_rgb`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ImageError: If it is not an image, or damaged.
    """
    import simplejpeg

    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise FileNotFoundError(f"{printable(path)}: there is no such file") from None
    except OSError as error:
        raise ImageError(f"{printable(path)}: cannot be read: {error.strerror}") from error
    if data.startswith(_START) and data.endswith(_END):  # Pillow handles files without an end marker
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data, strict=False)
        except (ValueError, KeyError):  # KeyError: a chroma subsampling that simplejpeg does not know
            colours = ""
        if colours in ("YCbCr", "RGB", "Gray"):
            check_size(path, width, height, pixel_limit())
            return FastImage(_Source(None, data, (width, height), path))
    return of_array(np.asarray(load_image(path, bits)))


def check_installed() -> None:
    """Raise ImportError if a package that `decoder: fast` needs is missing."""
    try:
        import cv2
        import simplejpeg  # noqa: F401
    except ImportError as error:
        command = distribution.install("fast")
        raise ImportError(
            f"decoder: fast needs simplejpeg and OpenCV ({error}): {command}, or set decoder: pillow"
        ) from error
    cv2.setNumThreads(0)  # each worker is a process with one thread


AnyImage = Union[Image.Image, FastImage]
