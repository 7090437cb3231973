"""Names of file kinds that Pillow cannot read as images, for messages."""

from pathlib import Path
from typing import Optional, Union

from PIL import TiffImagePlugin

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BIG = b"+"  # BigTIFF: a header of 16 bytes
_WIDTH, _BITS, _BANDS, _NUMBERS = 256, 258, 277, 339  # tags of TIFF
_NUMBER_KINDS = {1: "whole numbers", 2: "signed numbers", 3: "floating-point numbers"}
# Signature, offset of the signature in the file, name of the kind and advice.
_KINDS = (
    (b"version https://git-lfs", 0, "a pointer of Git LFS, whose content was not fetched; run `git lfs pull`"),
    (b"ftyphei", 4, "a HEIC image, which Pillow does not decode; convert it to JPEG or PNG"),
    (b"ftypmif1", 4, "a HEIF image, which Pillow does not decode; convert it to JPEG or PNG"),
    (b"ftypavif", 4, "an AVIF image, which this Pillow does not decode; use Pillow 11.3 or later, or convert it"),
    (b"\xff\x0a", 0, "a JPEG XL image, which Pillow does not decode; convert it to JPEG or PNG"),
    (b"%PDF", 0, "a PDF; convert its pages to images"),
    (b"8BPS", 0, "a Photoshop document; export it as PNG"),
    (b"<svg", 0, "an SVG drawing; render it to PNG"),
    (b"\x93NUMPY", 0, "a NumPy array; save it as PNG or TIFF"),
    (b"\x89HDF", 0, "an HDF5 file; export its images"),
    (b"DICM", 128, "a DICOM file; export it as PNG"),
)


def kind_of(path: Union[str, Path]) -> Optional[str]:
    """Kind of a file that Pillow does not recognize, with advice; None if it is unknown or cannot be read."""
    try:
        with open(path, "rb") as file:
            head = file.read(256)
    except OSError:
        return None
    if head.startswith(_TIFF):
        return _tiff(path)
    return next((kind for start, at, kind in _KINDS if head.startswith(start, at)), None)


def _tiff(path: Union[str, Path]) -> str:
    try:
        with open(path, "rb") as file:
            head = file.read(8)
            head += file.read(8) if _BIG in head[2:4] else b""
            tags = TiffImagePlugin.ImageFileDirectory_v2(head)
            file.seek(tags.next)
            tags.load(file)
            tags[_WIDTH]  # every image has one
            bits, bands = tags.get(_BITS, (1,)), int(tags.get(_BANDS, 1))
            number = tags.get(_NUMBERS, (1,))[0]
    except Exception:  # noqa: BLE001 - the file may be damaged in any way
        return "a TIFF whose header cannot be read; replace or remove it"
    numbers = _NUMBER_KINDS.get(number, "numbers of another kind")
    layout = f"{bands} band{'s' * (bands > 1)} of {'/'.join(map(str, sorted(set(bits))))} bits ({numbers})"
    return f"a TIFF of {layout}, which Pillow does not decode; save three bands as RGB, or one as gray, in 8 bits"
