"""CIFAR-10 and CIFAR-100 from the archives that the authors publish, through Paddle's own readers."""

import hashlib
from pathlib import Path
from typing import Any, Dict, List, Literal

from paddle.vision import datasets

from plsc.registry import DATASETS

_CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Cifar:
    """What the two have in common; see the subclasses."""

    archive: str  # name of the published file
    md5: str
    reader: Any
    classes: List[str]

    def __init__(self, root: str, split: Literal["train", "test"] = "train") -> None:
        path = Path(root).expanduser()
        self.path = path / self.archive if path.is_dir() else path
        if not self.path.is_file():
            raise ValueError(
                f"{self.path}: there is no such file; download {self.archive} from "
                "https://www.cs.toronto.edu/~kriz/cifar.html and set the dataset's root to its folder"
            )
        # The archive holds pickles, which can run code: only the published file is opened.
        if hashlib.md5(self.path.read_bytes(), usedforsecurity=False).hexdigest() != self.md5:
            raise ValueError(f"{self.path}: is not the published {self.archive} (MD5 {self.md5}); download it again")
        self._items = self.reader(data_file=str(self.path), mode=split, download=False, backend="pil")

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Dict[str, Any]:
        """A sample: `image` (PIL, RGB, 32 px), `label` (int), `path`."""
        image, label = self._items[index]
        return {"image": image, "label": int(label), "path": f"{self.path}[{index}]"}


@DATASETS.register()
class CIFAR10(Cifar):
    """CIFAR-10: 50,000 images for training and 10,000 for testing, 32 px, ten classes; nothing is downloaded.

    Args:
        root: Folder that holds cifar-10-python.tar.gz, or the file.
        split: Which part.

    Raises:
        ValueError: If the file is missing or another one.
    """

    archive = "cifar-10-python.tar.gz"
    md5 = "c58f30108f718f92721af3b95e74349a"
    reader = datasets.Cifar10
    classes = list(_CIFAR10_CLASSES)


@DATASETS.register()
class CIFAR100(Cifar):
    """CIFAR-100: as CIFAR-10, with a hundred classes, numbered in alphabetical order of their names.

    Args:
        root: Folder that holds cifar-100-python.tar.gz, or the file.
        split: Which part.

    Raises:
        ValueError: If the file is missing or another one.
    """

    archive = "cifar-100-python.tar.gz"
    md5 = "eb9058c3a382ffc7106e4002c42a8d85"
    reader = datasets.Cifar100
    classes = [str(label) for label in range(100)]
