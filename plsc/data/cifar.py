"""CIFAR-10 and CIFAR-100, read from the archives that the authors publish."""

import hashlib
import tarfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Literal, Tuple

import numpy as np
from PIL import Image

from plsc.config.registry import DATASETS
from plsc.data.base import Dataset
from plsc.safe_pickle import Unknown, read_pickle

_CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Cifar(Dataset):
    """Base class of CIFAR10 and CIFAR100."""

    archive: str  # name of the published file
    md5: str
    members: Dict[str, str]  # split -> prefix of the names of its files in the archive
    label_key: str  # key of the labels in the files
    classes: List[str]

    def __init__(self, root: str, split: Literal["train", "test"] = "train") -> None:
        path = Path(root).expanduser()
        self.file = path / self.archive if path.is_dir() else path
        if not self.file.is_file():
            raise ValueError(
                f"{self.file}: there is no such file; download {self.archive} from "
                "https://www.cs.toronto.edu/~kriz/cifar.html and set the dataset's root to its folder"
            )
        if hashlib.md5(self.file.read_bytes(), usedforsecurity=False).hexdigest() != self.md5:
            raise ValueError(
                f"{self.file}: differs from the published {self.archive} (MD5 {self.md5}); download it again"
            )
        parts = list(_parts(self.file, self.members[split], self.label_key))
        pixels = np.concatenate([part for part, _ in parts])
        self.split = split
        self._pixels = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        self.labels = np.concatenate([labels for _, labels in parts])

    def __len__(self) -> int:
        return len(self.labels)

    def sample_names(self) -> np.ndarray:
        """Split and index of every image, bytes (N,); the archive's checksum was verified before."""
        return np.array([f"{self.split}[{index}]".encode() for index in range(len(self))])

    def __getitem__(self, index: int) -> Dict[str, Any]:
        """A sample: `image` (PIL, RGB, 32 px), `label` (int), `path`."""
        image = Image.fromarray(np.ascontiguousarray(self._pixels[index]))
        return {"image": image, "label": int(self.labels[index]), "path": f"{self.file}[{index}]"}


def _parts(path: Path, member: str, labels: str) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """Yield pixels, uint8 (N, 3072), and classes, int64 (N,), of each file of a split, in the archive's order.

    The files are pickles; they are read without executing them.
    """
    with tarfile.open(path) as archive:
        for item in archive:
            file = archive.extractfile(item) if item.isfile() else None
            if file is not None and item.name.rpartition("/")[2].startswith(member):
                batch = read_pickle(file.read(), f"{path}/{item.name}")
                unknown = [value.name for value in batch.values() if isinstance(value, Unknown)]
                if unknown:  # the published files hold arrays, numbers and text only
                    raise ValueError(
                        f"{path}/{item.name}: the file asks for {unknown[0]}; "
                        "only tensors and plain containers are read"
                    )
                found = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
                yield found["data"], np.asarray(found[labels], dtype=np.int64)


@DATASETS.register()
class CIFAR10(Cifar):
    """CIFAR-10: 50,000 training and 10,000 test images of 32 x 32 pixels in 10 classes. Does not download.

    Args:
        root: Path of cifar-10-python.tar.gz, or of the folder that holds it.
        split: `train` or `test`.

    Raises:
        ValueError: If the file is missing, or its MD5 checksum differs from the published one.
    """

    archive = "cifar-10-python.tar.gz"
    md5 = "c58f30108f718f92721af3b95e74349a"
    members = {"train": "data_batch", "test": "test_batch"}
    label_key = "labels"
    classes = list(_CIFAR10_CLASSES)


@DATASETS.register()
class CIFAR100(Cifar):
    """CIFAR-100: 50,000 training and 10,000 test images of 32 x 32 pixels in 100 classes. Does not download.

    Labels are the fine labels, numbered in the alphabetical order of their names.

    Args:
        root: Path of cifar-100-python.tar.gz, or of the folder that holds it.
        split: `train` or `test`.

    Raises:
        ValueError: If the file is missing, or its MD5 checksum differs from the published one.
    """

    archive = "cifar-100-python.tar.gz"
    md5 = "eb9058c3a382ffc7106e4002c42a8d85"
    members = {"train": "train", "test": "test"}
    label_key = "fine_labels"
    classes = [str(label) for label in range(100)]
