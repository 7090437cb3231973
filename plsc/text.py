"""Conversion of names from data, such as those of files and classes, into text that is safe to print."""

import unicodedata
from collections import Counter
from typing import List, Sequence

_ESCAPED = ("Cc", "Cs", "Zl", "Zp")  # control characters, surrogates, separators of lines and paragraphs
_DIRECTION = (
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # they reorder the displayed text
)


def printable(text: object, keep: str = "") -> str:
    r"""Return text with escapes for all characters that break lines, control terminals or cannot be encoded.

    Ordinary text of any language is not changed. Control characters and direction marks become escapes (`\n`, `\x1b`);
    a byte of a file name that is not UTF-8, which Python stores as a surrogate, becomes `\xe9`.

    Args:
        text: Object to convert with `str`.
        keep: Characters that are not escaped, such as "\n" in a message of several lines.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(_escaped(one) if one not in keep and _is_unsafe(one) else one for one in text)


def lines(text: object) -> str:
    """Return a message as `printable` text that keeps line breaks and tabs."""
    return printable(text, keep="\n\t")


def distinguishable(names: Sequence[str]) -> List[str]:
    """Return names as `printable` text; different names that look the same become ASCII with escapes.

    Equal letters can be stored composed or decomposed (Unicode normalization, NFC and NFD).
    """
    counts = Counter(_look(name) for name in set(names))
    return [ascii(name)[1:-1] if counts[_look(name)] > 1 else printable(name) for name in names]


def look_the_same(one: str, other: str) -> bool:
    """Return True if two different names differ only in Unicode normalization."""
    return one != other and _look(one) == _look(other)


def _look(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _is_unsafe(one: str) -> bool:
    return unicodedata.category(one) in _ESCAPED or one in _DIRECTION


def _escaped(one: str) -> str:
    if "\udc80" <= one <= "\udcff":  # from os.fsdecode: a byte that is not UTF-8
        return f"\\x{ord(one) - 0xDC00:02x}"
    return one.encode("unicode_escape").decode("ascii")
