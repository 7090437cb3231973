"""Subsets of a dataset: a validation split of the training images, or a few images per class."""

from typing import Any, Dict, Literal, Optional

import numpy as np

from plsc import checks
from plsc.config.registry import DATASETS
from plsc.data.base import Dataset
from plsc.data.fingerprint import sample_labels, sample_names
from plsc.data.pipeline import file_of


@DATASETS.register()
class Subset(Dataset):
    """Random subset of another dataset, stratified by class; it depends on `seed` only.

    The dataset is first divided into a `train` and a `validation` part, with the same fraction of each class.
    `per_class` or `fraction` then keep some samples of each class of the chosen part; a smaller subset is always
    contained in a larger one. Images without labels are treated as one class.

    Args:
        dataset: Dataset to take samples from.
        part: `train`, `validation`, or `all`.
        validation_share: Fraction of each class in the validation part, in (0, 1).
        per_class: Samples to keep of each class.
        fraction: Fraction of each class to keep, in (0, 1], at least one sample.
        seed: Seed of the random choice.

    Raises:
        ValueError: If an argument is out of range, both `per_class` and `fraction` are given, `per_class` is given for
            images without labels, or a class is too small.
    """

    def __init__(
        self,
        dataset: Any,
        part: Literal["all", "train", "validation"] = "all",
        validation_share: float = 0.2,
        per_class: Optional[int] = None,
        fraction: Optional[float] = None,
        seed: int = 0,
    ) -> None:
        _check(validation_share, per_class, fraction)
        checks.at_least(0, seed=seed)
        if not hasattr(dataset, "__getitem__") or isinstance(dataset, (str, dict)):
            raise ValueError(f"dataset must be a dataset, such as {{name: ImageFolder, ...}}, got {dataset!r}")
        self.dataset = dataset
        self.classes = getattr(dataset, "classes", None)
        self.names_classes = getattr(dataset, "names_classes", True)
        own_labels = _labels(dataset)
        if own_labels is None and per_class is not None:
            raise ValueError(
                "per_class needs a dataset with classes; sort the images into one folder per class, or set fraction "
                "instead"
            )
        labels = np.zeros(len(dataset), dtype=np.int64) if own_labels is None else own_labels
        chosen = []
        for label in range(int(labels.max()) + 1):
            own = np.random.default_rng([seed, label]).permutation(np.flatnonzero(labels == label))
            chosen.append(_few(_part(own, part, validation_share), self._name(label), per_class, fraction))
        self.indices = np.sort(np.concatenate(chosen))
        self.labels = None if own_labels is None else labels[self.indices]
        if not len(self.indices):
            raise ValueError(f"the subset of {len(labels)} samples is empty; choose a larger part")

    def _name(self, label: int) -> str:
        return str(label) if self.classes is None else self.classes[label]

    def __len__(self) -> int:
        return len(self.indices)

    def path(self, index: int) -> Optional[str]:
        """Path of the image at `index`; None if the other dataset has no paths."""
        return file_of(self.dataset, int(self.indices[index]))

    def sample_names(self) -> Optional[np.ndarray]:
        """The name of every sample, bytes (N,), if the other dataset has names."""
        names = sample_names(self.dataset)
        return None if names is None else names[self.indices]

    def __getitem__(self, index: int) -> Dict[str, Any]:
        """The sample of the other dataset."""
        return self.dataset[int(self.indices[index])]


class EveryKth(Dataset):
    """At most `most` samples of another dataset, evenly spaced.

    Args:
        whole: The other dataset.
        most: Largest number of samples, at least 1.
    """

    def __init__(self, whole: Any, most: int) -> None:
        self.whole = whole
        self.chosen = np.unique(np.linspace(0, len(whole) - 1, min(most, len(whole))).round().astype(int))
        self.classes = getattr(whole, "classes", None)
        labels = sample_labels(whole)
        self.labels = None if labels is None else labels[self.chosen]

    def __len__(self) -> int:
        return len(self.chosen)

    def sample_names(self) -> Optional[np.ndarray]:
        """The name of every sample, bytes (N,), if the other dataset has names."""
        names = sample_names(self.whole)
        return None if names is None else names[self.chosen]

    def __getitem__(self, place: int) -> Dict[str, Any]:
        """The sample of the other dataset."""
        return self.whole[int(self.chosen[place])]


def _check(share: float, per_class: Optional[int], fraction: Optional[float]) -> None:
    if not 0 < share < 1:
        raise ValueError(f"validation_share must be in (0, 1), got {share}")
    if per_class is not None and fraction is not None:
        raise ValueError("per_class and fraction cannot be combined; set one of them to null")
    if per_class is not None and per_class < 1:
        raise ValueError(f"per_class must be at least 1, got {per_class}")
    if fraction is not None and not 0 < fraction <= 1:
        raise ValueError(f"fraction must be in (0, 1], got {fraction}")


def _labels(dataset: Any) -> Optional[np.ndarray]:
    """Label of every sample, int64 (N,); None without classes."""
    labels = getattr(dataset, "labels", None)
    if labels is None and "label" in dataset[0]:  # without a list of labels, every sample is read
        labels = [dataset[i]["label"] for i in range(len(dataset))]
    return None if labels is None else np.asarray(labels, dtype=np.int64)


def _part(own: np.ndarray, part: str, share: float) -> np.ndarray:
    if part == "all":
        return own
    validation = round(share * len(own))
    return own[:validation] if part == "validation" else own[validation:]


def _few(own: np.ndarray, name: str, per_class: Optional[int], fraction: Optional[float]) -> np.ndarray:
    if per_class is not None and len(own) < per_class:
        raise ValueError(f"per_class is {per_class}, but class {name} has {len(own)} samples in this part")
    if per_class is not None:
        return own[:per_class]
    return own if fraction is None else own[: max(1, round(fraction * len(own)))] if len(own) else own
