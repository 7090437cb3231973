"""Small images, folders of them and masks, for the tests of this folder."""

import numpy as np
from PIL import Image


def noise(width=20, height=16, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def write_images(root, names, width=20, height=16):
    """Saves noise under each name below `root`; returns `root` as text."""
    for seed, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(width, height, seed).save(path)
    return str(root)


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
    """Hides 6 of 4 x 4 patches."""

    grid, num_masked = (4, 4), 6

    def __call__(self, rng):
        mask = np.zeros(16, dtype=bool)
        mask[rng.permutation(16)[: self.num_masked]] = True
        return mask.reshape(4, 4)
