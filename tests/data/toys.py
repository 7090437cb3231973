"""Small images, image folders and masks for the tests of this folder."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def noise(width=20, height=16, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def write_images(root, names, width=20, height=16):
    """Save noise images under the names below `root`; return `root` as text."""
    for seed, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(width, height, seed).save(path)
    return str(root)


def png_bomb(width, height):
    """A PNG of a few hundred bytes with the given size in its header."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 9999))]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in [*chunks, (b"IEND", b"")]
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def jpeg_bomb(width, height):
    """A JPEG of a few hundred bytes with the given size in its header."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG")
    data = file.getvalue()
    frame = data.index(b"\xff\xc0") + 5
    return data[:frame] + struct.pack(">HH", height, width) + data[frame + 4 :]


class Images:
    """A dataset in memory."""

    classes = ("odd", "even")

    def __init__(self, number=10, sizes=((20, 16),)):
        self.number, self.sizes = number, sizes

    def __len__(self):
        return self.number

    def __getitem__(self, index):
        width, height = self.sizes[index % len(self.sizes)]
        return {"image": noise(width, height, index), "label": index % 2, "path": f"image-{index}.png"}


class Mask:
    """Mask generator that masks 6 of 4 x 4 patches."""

    grid, num_masked = (4, 4), 6

    def __call__(self, rng):
        mask = np.zeros(16, dtype=bool)
        mask[rng.permutation(16)[: self.num_masked]] = True
        return mask.reshape(4, 4)
