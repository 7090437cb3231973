"""Datasets that are folders of images."""

import functools
import os
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, Literal, Optional, Sequence, Tuple, Union

import numpy as np

from plsc.config.registry import DATASETS
from plsc.data.base import Dataset
from plsc.data.fast_image import check_installed, load_fast
from plsc.data.images import load_image
from plsc.text import distinguishable, look_the_same, printable

EXTENSIONS = (
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp",
    ".jfif", ".jpe", ".avif", ".jp2", ".pbm", ".pnm", ".tga", ".qoi",
)  # fmt: skip
_MOST_BITS = 24
Decoder = Literal["pillow", "fast"]

_SPLITS = {"train", "training", "val", "valid", "validation", "test"}


class ImageFiles(Dataset):
    """Images in files, by position.

    Args:
        root: Folder that the paths are relative to.
        paths: Relative paths.
        labels: Class of each image; none without classes.
        classes: Names of the classes.
        decoder: `pillow`: pixels as the reference has them; `fast`: simplejpeg and OpenCV, docs/data.md.
        bits: Bits that the values of grey images of more than 8 bits use; see `plsc.data.images.to_rgb`.
        left_out: Files that were found but have another ending, by ending.

    Raises:
        ImportError: If what `decoder: fast` needs is not installed.
        ValueError: If `bits` is out of range.
    """

    def __init__(
        self,
        root: Path,
        paths: Sequence[str],
        labels: Optional[Sequence[int]] = None,
        classes: Optional[Sequence[str]] = None,
        decoder: Decoder = "pillow",
        bits: Optional[int] = None,
        left_out: Optional[Dict[str, int]] = None,
    ) -> None:
        if bits is not None and not 1 <= bits <= _MOST_BITS:
            raise ValueError(f"bits must be in [1, {_MOST_BITS}], got {bits}")
        if decoder == "fast":
            check_installed()
        self._load = functools.partial(load_fast if decoder == "fast" else load_image, bits=bits)
        self.bits = bits
        self.left_out = dict(left_out or {})
        self.root = root
        # Arrays, not lists: reading a million Python objects would copy their memory into every worker.
        self._paths = np.array([os.fsencode(path) for path in paths])
        self.labels = None if labels is None else np.asarray(labels, dtype=np.int64)
        self.classes = None if classes is None else list(classes)

    def __len__(self) -> int:
        return len(self._paths)

    def path(self, index: int) -> str:
        """Where the image at `index` is."""
        return os.path.join(str(self.root), os.fsdecode(self._paths[index].item()))

    def sample_names(self) -> np.ndarray:
        """The relative path of every image, bytes (N,)."""
        return self._paths

    def __getitem__(self, index: int) -> Dict[str, Any]:
        """A sample: `image` (PIL, RGB; or `FastImage`), `path`, and `label` (int) if there are classes.

        Raises:
            ImageError: If the file cannot be decoded.
        """
        path = self.path(index)
        sample: Dict[str, Any] = {"image": self._load(path), "path": path}
        if self.labels is not None:
            sample["label"] = int(self.labels[index])
        return sample


@DATASETS.register()
class ImageFolder(ImageFiles):
    """A folder of images; its sub-folders, if that is what holds them, are the classes.

    Sub-folders are searched to any depth, hidden files and folders are skipped, the order is alphabetical.

    Args:
        root: The folder.
        with_classes: `auto`: labels if every image lies in a sub-folder; true: an error if one does not; false: never.
        class_list: A file with one sub-folder a line: only these are used, and their order gives the labels.
        extensions: Endings of image files, in lower case. Other files are left out and counted when a run begins.
        decoder: `pillow`: pixels as the reference has them; `fast`: several times faster, slightly other pixels.
        bits: Bits that the values of grey images of more than 8 bits use, such as 12; by default 16.

    Raises:
        ValueError: If there is no image, a class without images, or an image without a class.
    """

    def __init__(
        self,
        root: str,
        with_classes: Union[bool, Literal["auto"]] = "auto",
        class_list: Optional[str] = None,
        extensions: Sequence[str] = EXTENSIONS,
        decoder: Decoder = "pillow",
        bits: Optional[int] = None,
    ) -> None:
        folder = existing_folder(root)
        endings = tuple(ending.lower() for ending in extensions)
        if class_list is not None and with_classes is False:
            raise ValueError(f"{root}: class_list chooses classes, but with_classes is false; give one of the two")
        names = _sub_folders(folder) if class_list is None else _listed_folders(folder, class_list)
        left_out: "Counter[str]" = Counter()
        loose = next(images_below(folder, endings, 0, left_out), None) if class_list is None else None
        if with_classes is True and loose is not None:
            raise ValueError(
                f"{printable(root)}: {printable(loose)} lies in no class folder; move it, or set with_classes: false"
            )
        if with_classes is False or loose is not None or not names:
            left_out.clear()
            paths = list(images_below(folder, endings, None, left_out))
            _check_found(folder, paths, endings)
            super().__init__(folder, paths, decoder=decoder, bits=bits, left_out=left_out)
            return
        if with_classes == "auto" and class_list is None:
            _check_no_splits(folder, names)
        found = {name: images_below(folder / name, endings, None, left_out) for name in names}
        by_class = {name: [f"{name}/{path}" for path in paths] for name, paths in found.items()}
        _check_found(folder, [path for paths in by_class.values() for path in paths], endings)
        _check_no_empty_class(folder, by_class, left_out)
        paths, labels = _flatten(by_class)
        super().__init__(folder, paths, labels, names, decoder, bits, left_out)


@DATASETS.register()
class ImageNet(ImageFolder):
    """ImageNet as it is usually unpacked: `root/train/<class>/*.JPEG` and `root/val/<class>/*.JPEG`.

    Args:
        root: The folder that holds `train` and `val`.
        split: Which of the two.
        class_list: A file with one class folder a line, such as the hundred of ImageNet-100; all if not given.
        decoder: `pillow`: pixels as the reference has them; `fast`: several times faster, slightly other pixels.
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val"] = "train",
        class_list: Optional[str] = None,
        decoder: Decoder = "pillow",
    ) -> None:
        folder = existing_folder(root)
        if not (folder / split).is_dir():
            raise ValueError(
                f"{root}: there is no folder {split!r} in it; expected {root}/{split}/<class>/<image>, "
                f"found {_listing(folder)}"
            )
        if not _sub_folders(folder / split):
            raise ValueError(
                f"{folder / split}: there are no class folders in it; sort the images into one folder a class"
            )
        super().__init__(str(folder / split), True, class_list, decoder=decoder)


def existing_folder(root: str) -> Path:
    """The folder that `root` names.

    Raises:
        ValueError: If it is none.
    """
    if not root:
        raise ValueError("root is empty; set the dataset's root to a folder of images")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "there is no such folder"
        raise ValueError(
            f"{printable(root)}: {what}; set the dataset's root to a folder of images (now in {printable(Path.cwd())})"
        )
    return folder


def _sub_folders(folder: Path) -> List[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def images_below(
    folder: Path,
    endings: Sequence[str] = EXTENSIONS,
    depth: Optional[int] = None,
    left_out: Optional["Counter[str]"] = None,
    missing: bool = False,
    links: Tuple[str, ...] = (),
) -> Iterator[str]:
    """Paths of images below `folder`, relative to it, in alphabetical order; the one search of all commands.

    Hidden files and folders (`.ipynb_checkpoints`, `._x.png`) are skipped, links to folders are followed.

    Args:
        folder: Where to look.
        endings: Of images, in lower case.
        depth: 0: in no sub-folder.
        left_out: Counts files with other endings, by ending.
        missing: Give links to nothing, too, so that reading them fails, instead of raising.
        links: The folders that links on the way here lead to.

    Raises:
        ValueError: If a link leads back to where it is, or something called like an image is no file.
    """
    entries = sorted((e for e in os.scandir(folder) if not e.name.startswith(".")), key=lambda entry: entry.name)
    for entry in entries:
        if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
            if depth != 0:
                passed = (*links, _no_loop(entry, folder, links)) if entry.is_symlink() else links
                below = images_below(Path(entry.path), endings, None, left_out, missing, passed)
                yield from (f"{entry.name}/{path}" for path in below)
        elif entry.name.lower().endswith(tuple(endings)):
            if not os.path.isfile(entry.path) if entry.is_symlink() else not entry.is_file():
                to_nothing = entry.is_symlink() and not os.path.exists(entry.path)
                if not (missing and to_nothing):
                    what = "is a link to nothing" if to_nothing else "is no regular file"
                    raise ValueError(f"{printable(entry.path)}: {what}; remove it or replace it by an image")
            yield entry.name
        elif left_out is not None:
            left_out[os.path.splitext(entry.name)[1].lower() or "no ending"] += 1


def _no_loop(entry: "os.DirEntry[str]", folder: Path, links: Tuple[str, ...]) -> str:
    """Where a link to a folder leads."""
    target, here = os.path.realpath(entry.path), os.path.realpath(folder)
    if target in links or f"{here}{os.sep}".startswith(f"{target}{os.sep}"):
        raise ValueError(
            f"{printable(entry.path)}: is a link to {printable(target)}, which holds it, so there is no end; remove "
            "the link"
        )
    return target


def _listed_folders(folder: Path, class_list: str) -> List[str]:
    try:
        lines = Path(class_list).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"class_list: {class_list} cannot be read as text: {error}") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise ValueError(f"class_list: {class_list} is empty; it needs one class folder a line")
    outside = [name for name in names if not is_inside(name, folder)]
    if outside:
        raise ValueError(f"class_list: {class_list} names {_some(outside)}, which leads out of {folder}")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"class_list: {class_list} names {_some(repeated)} more than once")
    missing = [name for name in names if not (folder / name).is_dir()]
    if missing:
        raise ValueError(
            f"{printable(folder)}: {len(missing)} of {len(names)} classes of {class_list} have no folder: "
            f"{_some(missing)}{_look_alike(missing, _sub_folders(folder))}"
        )
    return names


def _look_alike(missing: Sequence[str], present: Sequence[str]) -> str:
    """A note about a missing name that is there in another Unicode normalisation; empty if there is none."""
    for name in missing:
        for other in present:
            if look_the_same(name, other):
                wanted, found = distinguishable([name, other])
                return (
                    f"; the list's '{wanted}' and the folder '{found}' look the same, but their letters are stored "
                    "differently (Unicode NFC and NFD): write both in the same way"
                )
    return ""


def is_inside(path: str, root: Path) -> bool:
    """Whether a path, relative to `root` or absolute, stays in it; links are not followed, they are the root's own."""
    if not os.path.isabs(path) and ".." not in path:
        return True
    top = os.path.abspath(root)
    return os.path.commonpath([top, os.path.abspath(os.path.join(top, path))]) == top


def _flatten(by_class: Dict[str, List[str]]) -> Tuple[List[str], List[int]]:
    paths = [path for items in by_class.values() for path in items]
    labels = [label for label, items in enumerate(by_class.values()) for _ in items]
    return paths, labels


def _check_found(folder: Path, paths: List[str], endings: Tuple[str, ...]) -> None:
    if not paths:
        raise ValueError(
            f"{printable(folder)}: there are no images in it or below; looked for files ending in "
            f"{', '.join(endings)}, found {_listing(folder)}; check the dataset's root or its extensions"
        )


def _check_no_splits(folder: Path, names: List[str]) -> None:
    if {name.lower() for name in names} <= _SPLITS:
        raise ValueError(
            f"{printable(folder)}: its sub-folders {_some(names)} look like parts of a data set, not classes; set root "
            "to one of them, or with_classes: false to use all images without labels, or true if they are classes"
        )


def _check_no_empty_class(folder: Path, by_class: Dict[str, List[str]], left_out: Dict[str, int]) -> None:
    empty = [name for name, paths in by_class.items() if not paths]
    if empty:
        others = f"; files left out for their endings: {endings_text(left_out)} (see extensions)" if left_out else ""
        raise ValueError(
            f"{printable(folder)}: there are no images in {_some(empty)}; remove these folders, name the classes in a "
            f"class_list, or set with_classes: false to use the images without labels{others}"
        )


def endings_text(left_out: Dict[str, int]) -> str:
    """Counts of files by their endings in words, the most frequent first."""
    rows = sorted(left_out.items(), key=lambda row: (-row[1], row[0]))
    return _some([f"{count:,} {ending}" for ending, count in rows])


def _listing(folder: Path) -> str:
    names = sorted(entry.name for entry in os.scandir(folder))
    return _some(names) if names else "nothing"


def _some(names: Sequence[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(distinguishable(names)[:limit]) + more
