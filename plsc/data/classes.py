"""Mapping of a dataset's classes to those of a model, by class name."""

import unicodedata
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np

from plsc.data.base import Dataset

_SHOWN = 8


class Relabelled(Dataset):
    """Dataset with its labels mapped to the classes of a model.

    Args:
        dataset: The wrapped dataset; its samples may have a `label`.
        numbers: New label for each old label.
        classes: Class names in the order of the new labels.
    """

    def __init__(self, dataset: Any, numbers: Sequence[int], classes: Sequence[str]) -> None:
        self.dataset = dataset
        self.numbers = np.asarray(numbers, dtype=np.int64)
        self.classes = list(classes)
        labels = getattr(dataset, "labels", None)
        self.labels = None if labels is None else self._renumbered(np.asarray(labels, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.dataset)

    def path(self, index: int) -> Optional[str]:
        """Path of the image at `index`; None if the wrapped dataset has no paths."""
        path = getattr(self.dataset, "path", None)
        return path(index) if callable(path) else None

    def __getitem__(self, index: int) -> Dict[str, Any]:
        """Sample of the wrapped dataset with its new label."""
        sample = self.dataset[index]
        if "label" not in sample:
            return sample
        return {**sample, "label": int(self._renumbered(np.asarray(sample["label"], dtype=np.int64)))}

    def _renumbered(self, labels: np.ndarray) -> np.ndarray:
        check_labels(labels, len(self.numbers))
        return self.numbers[labels]


def class_names(dataset: Any) -> Optional[List[str]]:
    """Class names of a dataset in the order of its labels; None if its classes have numbers only."""
    names = getattr(dataset, "classes", None) if getattr(dataset, "names_classes", True) else None
    return None if names is None else [str(name) for name in names]


def check_labels(labels: Any, count: Optional[int], source: str = "the dataset") -> None:
    """Check that class labels are in range; a loss may silently ignore negative ones.

    Args:
        labels: One or more integers; other kinds, such as soft labels, are not checked.
        count: Number of classes; None: unknown.
        source: Origin of the labels, used in the message.

    Raises:
        ValueError: If a label is negative or not below `count`.
    """
    numbers = np.asarray(labels)
    if not numbers.size or not np.issubdtype(numbers.dtype, np.integer):
        return
    for number in (int(numbers.min()), int(numbers.max())):
        if number < 0 or (count is not None and number >= count):
            allowed = "0 or more" if count is None else f"from 0 to {count - 1}"
            raise ValueError(
                f"the label {number} is out of range: labels must be {allowed}; correct the labels of {source}"
            )


def match_classes(dataset: Any, known: Optional[Sequence[str]], of: str, say: Callable[[str], None]) -> Any:
    """Map a dataset's labels to the classes `known`, by class name.

    Args:
        dataset: Dataset to evaluate.
        known: Class names in the order of the model's outputs; None if they are unknown.
        of: Source of the names, used in messages: `the checkpoint`, `DataLoader.Train`.
        say: Called with notes, for example about known classes without images.

    Returns:
        A dataset with the new labels; the dataset itself if its labels are the same already, or if names are missing.

    Raises:
        ValueError: If the dataset has classes that are not in `known`; the message lists them.
    """
    names = class_names(dataset)
    if names is None or known is None or _repeats(names) or _repeats(known):
        if names is not None or getattr(dataset, "labels", None) is not None:
            say(f"note: classes are matched by position, not by name: {_reason(names, known, of)}")
        return dataset
    numbers = {unicodedata.normalize("NFC", name): number for number, name in enumerate(known)}
    numbers.update({name: number for number, name in enumerate(known)})
    found = [numbers.get(name, numbers.get(unicodedata.normalize("NFC", name))) for name in names]
    unknown = [name for name, number in zip(names, found) if number is None]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of its {len(names)} classes {'is' if len(unknown) == 1 else 'are'} unknown to {of}: "
            f"{listed(unknown)}; the known classes are {listed(known)}. Remove or rename the folders, or list the "
            "classes to evaluate in the dataset's class_list"
        )
    missing = [name for number, name in enumerate(known) if number not in found]
    if missing:
        say(f"note: DataLoader.Eval has no images of {len(missing)} of the {len(known)} classes: {listed(missing)}")
    return dataset if found == list(range(len(found))) else Relabelled(dataset, found, known)


def _repeats(names: Sequence[str]) -> bool:
    return len(set(names)) < len(names)


def _reason(names: Optional[Sequence[str]], known: Optional[Sequence[str]], of: str) -> str:
    if known is None:
        return f"{of} does not name its classes"
    if names is None:
        return "DataLoader.Eval does not name its classes"
    return "a class name occurs more than once"


def listed(names: Sequence[str]) -> str:
    """Format the first names and the number of the others."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more
