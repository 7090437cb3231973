"""Fuzzing of damaged images: both decoders give pixels, or both give an ImageError."""

import functools
import io
import os
import random
import struct
import zlib
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from plsc.data.fast_image import load_fast
from plsc.data.images import LIMIT, ImageError, load_image

PIXELS = 1_000_000  # pixel limit set by `limited`, as damage can change the size in a header


@functools.lru_cache(maxsize=None)
def seeds():
    """Valid images of many kinds, as bytes."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    smooth = Image.fromarray(noise).resize((48, 32), Image.Resampling.BICUBIC)
    palette, grey = smooth.quantize(16), smooth.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    written = [
        (smooth, "JPEG", {"quality": 80}), (smooth, "JPEG", {"progressive": True}), (grey, "JPEG", {}),
        (smooth, "JPEG", {"subsampling": 0, "restart_marker_blocks": 2}), (smooth.convert("CMYK"), "JPEG", {}),
        (smooth, "PNG", {}), (palette, "PNG", {"transparency": 3}), (grey.convert("1"), "PNG", {}), (deep, "PNG", {}),
        (smooth.convert("RGBA"), "PNG", {}), (palette, "GIF", {}), (smooth, "BMP", {}), (smooth, "TIFF", {}),
        (smooth, "TIFF", {"compression": "tiff_lzw"}), (smooth, "WEBP", {}), (smooth, "PPM", {}),
    ]  # fmt: skip
    found = []
    for image, kind, options in written:
        file = io.BytesIO()
        image.save(file, kind, **options)
        found.append(file.getvalue())
    return found


def damaged(seed):
    """Image with a few random changes, a function of `seed`."""
    rng = random.Random(seed)
    data = bytearray(rng.choice(seeds()))
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        place = rng.randrange(max(1, len(data))) if rng.random() < 0.6 else rng.randrange(max(1, min(len(data), 64)))
        _DAMAGE[rng.randrange(len(_DAMAGE))](data, place, rng)
    return _with_checksums(bytes(data)) if rng.random() < 0.5 else bytes(data)


def _flip(data, place, rng):
    if data:
        data[place] ^= 1 << rng.randrange(8)


def _cut(data, place, rng):
    del data[place:]


def _remove(data, place, rng):
    del data[place : place + rng.randrange(1, 9)]


def _insert(data, place, rng):
    data[place:place] = rng.choice([b"\xff", b"\xff\xd9", b"\xff\xd0", b"\0" * 9, rng.randbytes(4), bytes(data[:40])])


def _overwrite(data, place, rng):
    value = rng.choice([b"\xff\xff", b"\0\0", b"\x7f\xff\xff\xff", b"\xff" * 4, b"\0\0\0\x01", rng.randbytes(2)])
    data[place : place + len(value)] = value


def _append(data, place, rng):
    data += rng.choice([b"\xff\xd9", b"x" * 50, rng.choice(seeds())[:200]])


def _swap(data, place, rng):
    other, length = rng.randrange(max(1, len(data))), rng.randrange(1, 20)
    data[place : place + length], data[other : other + length] = (
        data[other : other + length], data[place : place + length],
    )  # fmt: skip


_DAMAGE = (_flip, _flip, _cut, _remove, _insert, _overwrite, _overwrite, _append, _swap)


def _with_checksums(data):
    """Correct the checksums of a PNG's chunks, so that the damage reaches the decoder."""
    if not data.startswith(b"\x89PNG"):
        return data
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunk = data[at + 4 : at + 8 + length]
        if length > len(data):
            break
        parts.append(data[at : at + 4] + chunk + struct.pack(">I", zlib.crc32(chunk)))
        at += 12 + length
    return b"".join(parts) + data[at:]


SEEDS = st.integers(0, 2**64)


def limited(monkeypatch):
    """Set the pixel limit to PIXELS."""
    monkeypatch.setenv(LIMIT, str(PIXELS))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", PIXELS)


def verdict(read, path):
    """Return the pixels, or the error."""
    try:
        return np.asarray(read(path))
    except ImageError as error:
        assert str(error).startswith(f"{path}: ")
        return str(error)


def check_data(path, data):
    """Check any bytes as a file: both decoders give an RGB image of the same size, or both an ImageError."""
    Path(path).write_bytes(data)
    slow, fast = verdict(load_image, os.fspath(path)), verdict(load_fast, os.fspath(path))
    if isinstance(slow, str) or isinstance(fast, str):
        assert isinstance(slow, str) and isinstance(fast, str), f"pillow: {_short(slow)}; fast: {_short(fast)}"
        return
    assert slow.dtype == fast.dtype == np.uint8
    assert slow.shape == fast.shape and slow.ndim == 3 and slow.shape[2] == 3
    assert 0 < slow.shape[0] * slow.shape[1] <= PIXELS


def _short(verdict):
    return verdict if isinstance(verdict, str) else f"pixels {verdict.shape}"
