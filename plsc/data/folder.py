"""Datasets of images in folders."""

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
    """Image files by index; base class of the datasets of files.

    Args:
        root: Folder that the paths are relative to.
        paths: Relative paths.
        labels: Class index of each image; None: no labels.
        classes: Class names.
        decoder: `pillow`: the same pixels as the reference; `fast`: simplejpeg and OpenCV, docs/data.md.
        bits: Number of bits used by gray images of more than 8 bits; see `plsc.data.images.to_rgb`.
        left_out: Number of files with other endings, by ending.

    Raises:
        ImportError: If a package that `decoder: fast` needs is not installed.
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
        # Arrays, not lists: reading Python objects changes their reference counts, which copies their memory pages
        # into every worker.
        self._paths = np.array([os.fsencode(path) for path in paths])
        self.labels = None if labels is None else np.asarray(labels, dtype=np.int64)
        self.classes = None if classes is None else list(classes)

    def __len__(self) -> int:
        return len(self._paths)

    def path(self, index: int) -> str:
        """Path of the image at `index`."""
        return os.path.join(str(self.root), os.fsdecode(self._paths[index].item()))

    def sample_names(self) -> np.ndarray:
        """Relative path of every image, bytes (N,)."""
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
    """Folder of images with one sub-folder per class, or without classes.

    Sub-folders are searched to any depth. Hidden files and folders are skipped. The order is alphabetical.

    Args:
        root: Path of the folder.
        with_classes: `auto`: use labels if every image is in a sub-folder; true: require that; false: no labels.
        class_list: Text file with one sub-folder per line; only these are used, and their order gives the labels.
        extensions: Endings of image files, in lower case. Other files are ignored, and counted in the log.
        decoder: `pillow`: the same pixels as the reference; `fast`: several times faster, slightly different pixels.
        bits: Number of bits used by gray images of more than 8 bits, such as 12; by default 16.

    Raises:
        ValueError: If there are no images, a class has no images, or an image has no class.
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
            raise ValueError(f"{root}: class_list is set, but with_classes is false; remove one of the two settings")
        names = _sub_folders(folder) if class_list is None else _listed_folders(folder, class_list)
        left_out: "Counter[str]" = Counter()
        loose = next(images_below(folder, endings, 0, left_out), None) if class_list is None else None
        if with_classes is True and loose is not None:
            raise ValueError(
                f"{printable(root)}: {printable(loose)} is not in a class folder; move it, or set with_classes: false"
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
    """ImageNet in its usual layout: `root/train/<class>/*.JPEG` and `root/val/<class>/*.JPEG`.

    Args:
        root: Path of the folder that holds `train` and `val`.
        split: `train` or `val`.
        class_list: Text file with one class folder per line, for example those of ImageNet-100; by default all.
        decoder: `pillow`: the same pixels as the reference; `fast`: several times faster, slightly different pixels.

    Raises:
        ValueError: If the folder of the split is missing, or has no class folders.
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
                f"{root}: the folder {split!r} is missing; expected {root}/{split}/<class>/<image>, "
                f"found {_listing(folder)}"
            )
        if not _sub_folders(folder / split):
            raise ValueError(
                f"{folder / split}: the folder has no class folders; sort the images into one folder per class"
            )
        super().__init__(str(folder / split), True, class_list, decoder=decoder)


def existing_folder(root: str) -> Path:
    """Return the folder `root` as a path.

    Raises:
        ValueError: If it does not exist or is not a folder.
    """
    if not root:
        raise ValueError("root is empty; set the dataset's root to a folder of images")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "there is no such folder"
        raise ValueError(
            f"{printable(root)}: {what}; set the dataset's root to a folder of images (the working directory is "
            f"{printable(Path.cwd())})"
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
    """Paths of images in a folder and its sub-folders, relative to it, in alphabetical order.

    Hidden files and folders (`.ipynb_checkpoints`, `._x.png`) are skipped, links to folders are followed. All commands
    use this search.

    Args:
        folder: Folder to search.
        endings: Endings of image files, in lower case.
        depth: Depth of sub-folders to search; 0: none.
        left_out: Incremented for files with other endings, by ending.
        missing: Include broken links, so that reading them fails later, instead of raising.
        links: Targets of the links that were followed to reach `folder`.

    Raises:
        ValueError: If a link points to a folder that contains it, or a path with an image's ending is not a file.
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
                    what = "is a broken link" if to_nothing else "is not a regular file"
                    raise ValueError(f"{printable(entry.path)}: {what}; remove it or replace it by an image")
            yield entry.name
        elif left_out is not None:
            left_out[os.path.splitext(entry.name)[1].lower() or "no ending"] += 1


def _no_loop(entry: "os.DirEntry[str]", folder: Path, links: Tuple[str, ...]) -> str:
    """Return the target of a link to a folder; raise ValueError if it contains the link."""
    target, here = os.path.realpath(entry.path), os.path.realpath(folder)
    if target in links or f"{here}{os.sep}".startswith(f"{target}{os.sep}"):
        raise ValueError(
            f"{printable(entry.path)}: is a link to {printable(target)}, which contains the link, so the search would "
            "not end; remove the link"
        )
    return target


def _listed_folders(folder: Path, class_list: str) -> List[str]:
    try:
        lines = Path(class_list).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"class_list: {class_list} cannot be read as text: {error}") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise ValueError(f"class_list: {class_list} is empty; it needs one class folder per line")
    outside = [name for name in names if not is_inside(name, folder)]
    if outside:
        raise ValueError(
            f"class_list: {class_list} names {_some(outside)}, outside the root {folder}; use folders below the root"
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"class_list: {class_list} names {_some(repeated)} more than once; remove the repeats")
    missing = [name for name in names if not (folder / name).is_dir()]
    if missing:
        raise ValueError(
            f"{printable(folder)}: {len(missing)} of {len(names)} classes of {class_list} have no folder: "
            f"{_some(missing)}{_look_alike(missing, _sub_folders(folder))}"
        )
    return names


def _look_alike(missing: Sequence[str], present: Sequence[str]) -> str:
    """Note about a missing name that exists in another Unicode normalization; empty without one."""
    for name in missing:
        for other in present:
            if look_the_same(name, other):
                wanted, found = distinguishable([name, other])
                return (
                    f"; '{wanted}' in the list and the folder '{found}' look the same, but have different Unicode "
                    "normalizations (NFC and NFD): use the same for both"
                )
    return ""


def is_inside(path: str, root: Path) -> bool:
    """Return True if a path, absolute or relative to `root`, is below it; symbolic links are not resolved."""
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
            f"{printable(folder)}: there are no images in it or its sub-folders; looked for files ending in "
            f"{', '.join(endings)}, found {_listing(folder)}; check the dataset's root or its extensions"
        )


def _check_no_splits(folder: Path, names: List[str]) -> None:
    if {name.lower() for name in names} <= _SPLITS:
        raise ValueError(
            f"{printable(folder)}: the sub-folders {_some(names)} look like splits of a dataset, not classes; set root "
            "to one of them, or with_classes: false to use all images without labels, or true if they are classes"
        )


def _check_no_empty_class(folder: Path, by_class: Dict[str, List[str]], left_out: Dict[str, int]) -> None:
    empty = [name for name, paths in by_class.items() if not paths]
    if empty:
        others = (
            f"; files ignored because of their endings: {endings_text(left_out)} (see extensions)" if left_out else ""
        )
        raise ValueError(
            f"{printable(folder)}: there are no images in {_some(empty)}; remove these folders, list the classes in a "
            f"class_list, or set with_classes: false to use the images without labels{others}"
        )


def endings_text(left_out: Dict[str, int]) -> str:
    """Format counts of files by ending, the most frequent first."""
    rows = sorted(left_out.items(), key=lambda row: (-row[1], row[0]))
    return _some([f"{count:,} {ending}" for ending, count in rows])


def _listing(folder: Path) -> str:
    names = sorted(entry.name for entry in os.scandir(folder))
    return _some(names) if names else "nothing"


def _some(names: Sequence[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(distinguishable(names)[:limit]) + more
