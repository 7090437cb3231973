"""Dataset of image files named in a text file."""

import os
import re
from pathlib import Path
from typing import List, Optional, Tuple

from plsc.config.registry import DATASETS
from plsc.data.folder import Decoder, ImageFiles, existing_folder, is_inside
from plsc.text import printable

_MOST_CLASSES = 1_000_000


@DATASETS.register()
class ListFile(ImageFiles):
    """Images named in a text file, one `path label` or one `path` per line.

    If the first line ends in an integer, every line must have a label. Paths may contain spaces. Empty lines are
    ignored. Paths outside `root` are refused.

    Args:
        root: Folder that the paths are relative to.
        list_file: Path of the text file, UTF-8.
        decoder: `pillow`: the same pixels as the reference; `fast`: several times faster, slightly different pixels.
        bits: Number of bits used by gray images of more than 8 bits, such as 12; by default 16.

    Raises:
        ValueError: If the file cannot be read or is empty, or if a line has no path, a path outside `root`, a path
            with backslashes that does not exist, a missing or an unexpected label. The message names the line.
    """

    names_classes = False  # labels are numbers without names; `classes` repeats the numbers

    def __init__(self, root: str, list_file: str, decoder: Decoder = "pillow", bits: Optional[int] = None) -> None:
        folder = existing_folder(root)
        rows = _read(list_file)
        labelled = _split(rows[0][1])[1] is not None
        paths: List[str] = []
        labels: List[int] = []
        for number, text in rows:
            path, label = _split(text)
            if labelled:
                labels.append(_checked(path, label, text, f"{list_file}:{number}"))
            elif label is not None:
                raise ValueError(
                    f"{list_file}:{number}: {text!r} ends in a label, but line {rows[0][0]} has none; give all or none"
                )
            if not is_inside(path, folder):
                raise ValueError(f"{list_file}:{number}: {path!r} is outside the root {root}; move it, or set root")
            if "\\" in path and not os.path.exists(folder / path):
                raise ValueError(
                    f"{list_file}:{number}: there is no file '{printable(path)}'; use / as the separator: "
                    f"'{printable(path).replace(chr(92), '/')}'"
                )
            paths.append(path)
        if not labelled:
            super().__init__(folder, paths, decoder=decoder, bits=bits)
            return
        super().__init__(folder, paths, labels, [str(label) for label in range(max(labels) + 1)], decoder, bits)


def _read(list_file: str) -> List[Tuple[int, str]]:
    try:
        lines = Path(list_file).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"list_file: {list_file} cannot be read as text: {error}") from error
    rows = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise ValueError(f"list_file: {list_file} is empty; it needs one `path label` or `path` per line")
    return rows


def _split(text: str) -> Tuple[str, Optional[int]]:
    """Split a line into path and label; without an integer at the end, the whole line is the path."""
    parts = text.rsplit(None, 1)
    if len(parts) == 2 and re.fullmatch(r"-?[0-9]+", parts[1]):
        return parts[0], int(parts[1])
    return text, None


def _checked(path: str, label: Optional[int], text: str, place: str) -> int:
    if label is None:
        raise ValueError(f"{place}: {text!r} has no label; expected `path label`, as in the first line")
    if not 0 <= label < _MOST_CLASSES:
        raise ValueError(
            f"{place}: the label of {path!r} is {label}; labels must be at least 0 and below {_MOST_CLASSES:,}"
        )
    return label
