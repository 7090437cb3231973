"""Labels and number of classes of a dataset, as far as they are known without reading its images."""

from typing import Any, Optional

import numpy as np


def known_labels(dataset: Any) -> Optional[np.ndarray]:
    """Return the labels of all samples, (len, ...); None if the dataset has no labels or does not list them."""
    labels = getattr(dataset, "labels", None)
    return None if labels is None or not len(labels) else np.asarray(labels)


def is_unlabelled(dataset: Any) -> bool:
    """Return whether the dataset says that its samples have no labels: its attribute `labels` is None."""
    return getattr(dataset, "labels", dataset) is None


def class_count(dataset: Any) -> Optional[int]:
    """Return one more than the largest label, or else the number of class names; None if neither is known."""
    labels = known_labels(dataset)
    if labels is not None:
        return int(labels.max()) + 1
    classes = getattr(dataset, "classes", None)
    return None if classes is None else len(classes)
