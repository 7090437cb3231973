"""A small dataset of real color images: crops of nine photographs from scikit-image, with transparency."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 64
# Number of training images per class; unbalanced on purpose.
CLASSES = {
    "astronaut": 48,
    "chelsea": 40,
    "coffee": 34,
    "grass": 28,
    "hubble_deep_field": 22,
    "ihc": 16,
    "motorcycle_left": 12,
    "retina": 8,
    "rocket": 6,
}
VALIDATION = 4


def make_photos(root):
    """Writes ROOT/{train,val}/<class>/*.png, 64 px, RGBA; training crops are of the left of a photograph, others of the
    right."""
    import skimage

    source = Path(skimage.__file__).parent / "data"
    rng = np.random.default_rng(0)
    for name, count in CLASSES.items():
        photo = Image.open(next(source.glob(f"{name}.*"))).convert("RGB")
        split = int(0.7 * photo.width)
        for part, number, (low, high) in (("train", count, (0, split)), ("val", VALIDATION, (split, photo.width))):
            folder = Path(root) / part / name
            folder.mkdir(parents=True)
            for index in range(number):
                side = int(rng.integers(SIZE, min(160, high - low)))
                left, top = rng.integers(low, high - side + 1), rng.integers(0, photo.height - side + 1)
                crop = photo.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
                crop.putalpha(_soft_disc())
                crop.save(folder / f"{index}.png")
    return Path(root)


def _soft_disc():
    """Opaque in the middle, transparent in the corners."""
    mask = Image.new("L", (SIZE, SIZE), 0)
    ImageDraw.Draw(mask).ellipse((-4, -4, SIZE + 3, SIZE + 3), fill=255)
    return mask.filter(ImageFilter.GaussianBlur(2))
