"""The identity of a data set: how many samples, which classes, and a digest of the names and labels of its samples."""

import hashlib
from typing import Any, Dict, List, Optional

import numpy as np

_AT_ONCE = 100_000  # names that are joined in one piece
_SAMPLES_READ = 16  # of a data set that has no list of its labels


def fingerprint(dataset: Any) -> Dict[str, Any]:
    """The identity of a data set, the same in every process and on every machine that has the same data.

    Names are relative to the root, so a folder may be moved. No image is read, except 16 of a data set that has
    neither an attribute `labels` nor a method `sample_names`.

    Args:
        dataset: Has `len`; the methods and attributes `sample_names()`, `labels` and `classes` are used if they exist.

    Returns:
        Plain data: `samples`, their number; `classes`, the list of class names or None; `digest`, the SHA-256 of names
        and labels in their order, in hexadecimal digits.
    """
    names, labels = sample_names(dataset), sample_labels(dataset)
    content = hashlib.sha256(f"{len(dataset)}\n".encode())
    if names is not None:
        for start in range(0, len(names), _AT_ONCE):
            content.update(b"".join(name + b"\0" for name in names[start : start + _AT_ONCE].tolist()))
    if labels is not None:
        content.update(b"labels\n" + _bytes(labels))
    elif names is None:
        content.update(repr(_some_labels(dataset)).encode())
    classes = getattr(dataset, "classes", None)
    return {
        "samples": len(dataset),
        "classes": None if classes is None else [str(name) for name in classes],
        "digest": content.hexdigest(),
    }


def sample_names(dataset: Any) -> Optional[np.ndarray]:
    """The name of every sample, bytes (N,); None if the data set has no method of that name, or no names."""
    method = getattr(dataset, "sample_names", None)
    return method() if callable(method) else None


def sample_labels(dataset: Any) -> Optional[np.ndarray]:
    """The label of every sample, (N, ...); None if the data set keeps no list of them as its attribute `labels`."""
    labels: Any = getattr(dataset, "labels", None)
    if isinstance(labels, str) or not np.ndim(labels) or len(labels) != len(dataset):
        return None
    return np.asarray(labels)


def _bytes(labels: np.ndarray) -> bytes:
    """The same for the same labels, whatever the width of their numbers."""
    if labels.dtype.kind in "biu":
        return labels.astype("<i8").tobytes()
    return labels.astype("<f8").tobytes() if labels.dtype.kind == "f" else repr(labels.tolist()).encode()


def _some_labels(dataset: Any) -> List[Any]:
    """Labels of samples spread evenly over the data set; None for one that has none or cannot be read."""
    places = np.unique(np.linspace(0, len(dataset) - 1, min(_SAMPLES_READ, len(dataset))).round().astype(int))
    return [_label(dataset, int(place)) for place in places]


def _label(dataset: Any, place: int) -> Optional[str]:
    try:
        sample = dataset[place]
    except Exception:  # noqa: BLE001 - an error of reading is for the loader, which knows the run's policy
        return None
    label = sample.get("label") if isinstance(sample, dict) else None
    return None if label is None else str(np.asarray(label).tolist())
