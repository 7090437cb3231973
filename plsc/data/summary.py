"""One-line summary of a dataset for the log: images, classes, and ignored files."""

from typing import Any, List

import numpy as np

from plsc.data.folder import ImageFiles, endings_text
from plsc.data.images import greatest_of_16_bits
from plsc.data.subset import Subset
from plsc.text import distinguishable, printable

_LOOKED_AT = 8  # files that are opened to find images of more than 8 bits
_SHOWN = 5
_MOST_CLASSES = 10_000_000
_USED_BITS = 12  # 16-bit images without a value above 2^12 - 1 would keep 17 of 256 levels in 8 bits


def summary(dataset: Any) -> str:
    """Describe a dataset in one line: images, classes, and anything unexpected."""
    files = dataset
    while isinstance(files, Subset):
        files = files.dataset
    parts = [f"{len(dataset):,} image{'s' * (len(dataset) != 1)}{_classes(dataset)}"]
    left_out = getattr(files, "left_out", None)
    if left_out:
        count = sum(left_out.values())
        parts.append(f"{count:,} other file{'s' * (count != 1)} ignored (see extensions): {endings_text(left_out)}")
    return "; ".join([*parts, *_depth(files)])


def _classes(dataset: Any) -> str:
    names = [str(name) for name in getattr(dataset, "classes", None) or ()]
    labels = getattr(dataset, "labels", None)
    if labels is None or not len(labels):
        return f" in {len(names)} classes" if names else " without labels"
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":  # soft labels, or values of another kind
        return " with labels"
    if labels.min() < 0 or labels.max() >= _MOST_CLASSES:  # the check of labels raises an error later
        return f" with labels from {labels.min()} to {labels.max()}"
    counts = np.bincount(labels, minlength=len(names))
    present = counts[counts > 0]
    each = f"{present.min():,}" if present.min() == present.max() else f"{present.min():,} to {present.max():,}"
    text = f" in {len(present):,} class{'es' * (len(present) != 1)} ({each} each)"
    absent = [names[label] if label < len(names) else str(label) for label in np.flatnonzero(counts == 0)]
    if absent:
        shown = ", ".join(map(printable, absent[:_SHOWN])) + (" ..." if len(absent) > _SHOWN else "")
        start = "; labels start at 0" if counts[0] == 0 else ""
        text += f", no image in {len(absent):,} of {len(counts):,}: {shown}{start}"
    odd = [shown for name, shown in zip(names, distinguishable(names)) if shown != printable(name)]
    return text + (f"; these class names look the same but differ: {', '.join(odd[:_SHOWN])}" if odd else "")


def _depth(files: Any) -> List[str]:
    """Warning if gray images of 16 bits use few of their bits."""
    if not isinstance(files, ImageFiles) or files.bits is not None:
        return []
    greatest = [value for value in map(greatest_of_16_bits, _some_paths(files)) if value is not None]
    if not greatest or max(greatest) >= 2**_USED_BITS:
        return []
    return [
        f"the 16-bit images have no value above {max(greatest):,} of 65,535 ({len(greatest)} were checked), so few "
        "gray levels remain in 8 bits; if they use fewer bits, set the dataset's bits to their number, such as 12, or "
        "set it to 16 if the images are meant to be dark"
    ]


def _some_paths(files: ImageFiles) -> List[str]:
    places = np.unique(np.linspace(0, len(files) - 1, min(_LOOKED_AT, len(files))).round().astype(int))
    return [files.path(int(place)) for place in places]
