"""Base class of datasets."""

from typing import Any, Dict, Optional, Sequence, Tuple

from plsc.config import contract
from plsc.config.registry import DATASETS


class Dataset:
    """Samples by position.

    A class with `__len__` and `__getitem__` need not derive from it. `classes` and `path` are then added with the
    defaults below. `labels` is not added: a dataset without it is asked for the label of each sample, while one whose
    `labels` is None has no labels.

    Attributes:
        classes: Names of the classes in the order of the labels; None: unknown.
        labels: Class of each sample, int64 (len,); None: the samples have no labels.
    """

    _required: Tuple[str, ...] = ("__len__", "__getitem__")

    classes: Optional[Sequence[str]] = None
    labels: Any = None

    def __len__(self) -> int:
        """Number of samples."""
        raise NotImplementedError

    def __getitem__(self, index: int) -> Dict[str, Any]:
        """Sample `index`: `image` (PIL, RGB), `path` (for messages), and `label` (int) if there are classes."""
        raise NotImplementedError

    def path(self, index: int) -> Optional[str]:
        """File of the sample `index`; None if it is unknown."""
        return None


def check_dataset(dataset: Any) -> None:
    """Raise ValueError if a dataset has no length or samples; add the optional members that it lacks."""
    contract.provides(dataset, Dataset)
    if not hasattr(dataset, "classes"):
        dataset.classes = None
    if not hasattr(dataset, "path"):
        dataset.path = _unknown


def _unknown(index: int) -> Optional[str]:
    return None


DATASETS.require(check_dataset)
