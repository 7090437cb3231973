"""Classes of one data set in terms of those of another: matched by their names, never by their order alone."""

import unicodedata
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np

from plsc.data.base import Dataset

_SHOWN = 8


class Relabelled(Dataset):
    """Another dataset whose labels count the classes of a model.

    Args:
        dataset: The other dataset; its samples may have a `label`.
        numbers: For each of its labels the new one.
        classes: Names of the classes in the order of the new labels.
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
        """File of the image at `index`; None if the other dataset does not name it."""
        path = getattr(self.dataset, "path", None)
        return path(index) if callable(path) else None

    def __getitem__(self, index: int) -> Dict[str, Any]:
        """The sample of the other dataset, with its new label."""
        sample = self.dataset[index]
        if "label" not in sample:
            return sample
        return {**sample, "label": int(self._renumbered(np.asarray(sample["label"], dtype=np.int64)))}

    def _renumbered(self, labels: np.ndarray) -> np.ndarray:
        check_labels(labels, len(self.numbers))
        return self.numbers[labels]


def class_names(dataset: Any) -> Optional[List[str]]:
    """Names of a dataset's classes in the order of its labels; None if it does not name them, only numbers them."""
    names = getattr(dataset, "classes", None) if getattr(dataset, "names_classes", True) else None
    return None if names is None else [str(name) for name in names]


def check_labels(labels: Any, count: Optional[int], source: str = "the dataset") -> None:
    """Raises ValueError for a class number below 0, which a loss may ignore in silence, or not below `count`.

    Args:
        labels: One class number or many, integers; anything else, such as soft labels, is left to the loss.
        count: Number of classes; None: unknown.
        source: Where the labels are from, for the message.
    """
    numbers = np.asarray(labels)
    if not numbers.size or not np.issubdtype(numbers.dtype, np.integer):
        return
    for number in (int(numbers.min()), int(numbers.max())):
        if number < 0 or (count is not None and number >= count):
            most = "" if count is None else f" to {count - 1}"
            raise ValueError(
                f"the label {number} is out of range: labels count from 0{most}; correct the labels that {source} gives"
            )


def match_classes(dataset: Any, known: Optional[Sequence[str]], of: str, say: Callable[[str], None]) -> Any:
    """A dataset whose labels count the classes `known`, matched by name.

    Args:
        dataset: What is evaluated.
        known: Names of the classes in the order of the model's outputs; None if they are unknown.
        of: Who knows them, for messages: `the checkpoint`, `DataLoader.Train`.
        say: Takes a note, such as which of the known classes have no images.

    Returns:
        The dataset itself, if its labels count the same classes already or names are missing.

    Raises:
        ValueError: If it has classes that are not among the known ones; they are listed.
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
            f"{listed(unknown)}; known are {listed(known)}. Remove or rename the folders, or name those to "
            "evaluate in the dataset's class_list"
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
    """The first names, and how many there are besides."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more
