"""A dataset that is a list of image files."""

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
    """Images named in a text file, one `path label` or one `path` a line.

    If the first line ends in a whole number, every line has a label. Paths may contain spaces; empty lines do not
    count. No path may lead out of `root`.

    Args:
        root: Folder that the paths are relative to.
        list_file: The text file.
        decoder: `pillow`: pixels as the reference has them; `fast`: several times faster, slightly other pixels.
        bits: Bits that the values of grey images of more than 8 bits use, such as 12; by default 16.

    Raises:
        ValueError: If the file cannot be read or is empty, or a line has no path, a path out of `root` or with
            backslashes that lead nowhere, no label, or one label too many; the message names the line.
    """

    names_classes = False  # its labels are numbers; `classes` repeats them

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
                raise ValueError(f"{list_file}:{number}: {path!r} leads out of the root {root}; move it, or set root")
            if "\\" in path and not os.path.exists(folder / path):
                raise ValueError(
                    f"{list_file}:{number}: there is no file '{printable(path)}'; separate folders by /: "
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
        raise ValueError(f"list_file: {list_file} is empty; it needs one `path label` or `path` a line")
    return rows


def _split(text: str) -> Tuple[str, Optional[int]]:
    """A line's path and label; all of it is the path unless it ends in a whole number."""
    parts = text.rsplit(None, 1)
    if len(parts) == 2 and re.fullmatch(r"-?[0-9]+", parts[1]):
        return parts[0], int(parts[1])
    return text, None


def _checked(path: str, label: Optional[int], text: str, place: str) -> int:
    if label is None:
        raise ValueError(f"{place}: {text!r} has no label; expected `path label`, as in the first line")
    if not 0 <= label < _MOST_CLASSES:
        raise ValueError(
            f"{place}: the label of {path!r} is {label}; labels count from 0 and stay below {_MOST_CLASSES:,}"
        )
    return label
