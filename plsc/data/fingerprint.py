"""Fingerprint of a dataset: number of samples, classes, and a digest of sample names and labels."""

import hashlib
from typing import Any, Dict, List, Optional

import numpy as np

_AT_ONCE = 100_000  # names hashed at once
_SAMPLES_READ = 16  # samples read from a dataset without a list of labels


def fingerprint(dataset: Any) -> Dict[str, Any]:
    """Compute a fingerprint that is the same in every process and on every machine with the same data.

    Names are relative to the root, so the folder may be moved. No image is read, except 16 if the dataset has neither
    an attribute `labels` nor a method `sample_names`.

    Args:
        dataset: Has `len`; the methods and attributes `sample_names()`, `labels` and `classes` are used if they exist.

    Returns:
        Plain data: `samples`, the number of samples; `classes`, the list of class names or None; `digest`, the SHA-256
        of names and labels in their order, as hexadecimal digits.
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
    """Name of every sample, bytes (N,); None if the dataset has no method `sample_names`, or no names."""
    method = getattr(dataset, "sample_names", None)
    return method() if callable(method) else None


def sample_labels(dataset: Any) -> Optional[np.ndarray]:
    """Label of every sample, (N, ...); None if the dataset has no attribute `labels`."""
    labels: Any = getattr(dataset, "labels", None)
    if isinstance(labels, str) or not np.ndim(labels) or len(labels) != len(dataset):
        return None
    return np.asarray(labels)


def _bytes(labels: np.ndarray) -> bytes:
    """Bytes of labels, independent of their dtype's width."""
    if labels.dtype.kind in "biu":
        return labels.astype("<i8").tobytes()
    return labels.astype("<f8").tobytes() if labels.dtype.kind == "f" else repr(labels.tolist()).encode()


def _some_labels(dataset: Any) -> List[Any]:
    """Labels of samples spread evenly over the dataset; None for a sample without a label or one that is unreadable."""
    places = np.unique(np.linspace(0, len(dataset) - 1, min(_SAMPLES_READ, len(dataset))).round().astype(int))
    return [_label(dataset, int(place)) for place in places]


def _label(dataset: Any, place: int) -> Optional[str]:
    try:
        sample = dataset[place]
    except Exception:  # noqa: BLE001 - the loader reports errors of reading, by the run's policy
        return None
    label = sample.get("label") if isinstance(sample, dict) else None
    return None if label is None else str(np.asarray(label).tolist())
