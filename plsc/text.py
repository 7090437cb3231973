"""Names that come from data, such as those of files and classes, in a form that is safe to print, log and write."""

import unicodedata
from collections import Counter
from typing import List, Sequence

_ESCAPED = ("Cc", "Cs", "Zl", "Zp")  # control characters, surrogates, separators of lines and paragraphs
_DIRECTION = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # they reorder what is shown


def printable(text: object, keep: str = "") -> str:
    r"""Text that stays on its line, changes no terminal and can be encoded; ordinary text of any language is unchanged.

    Control characters and marks of direction become escapes (`\n`, `\x1b`); a byte of a file name that is not UTF-8,
    which Python holds as a surrogate, becomes `\xe9`.

    Args:
        text: Converted by `str`.
        keep: Characters to leave alone, such as "\n" in a message of several lines.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(_escaped(one) if one not in keep and _is_unsafe(one) else one for one in text)


def lines(text: object) -> str:
    """A whole message as `printable` text, in which line breaks and tabs stay."""
    return printable(text, keep="\n\t")


def distinguishable(names: Sequence[str]) -> List[str]:
    """Names as `printable` shows them; those that look the same although they differ, in ASCII with escapes.

    The same letters can be stored composed or decomposed (Unicode normalisation, NFC and NFD).
    """
    counts = Counter(_look(name) for name in set(names))
    return [ascii(name)[1:-1] if counts[_look(name)] > 1 else printable(name) for name in names]


def look_the_same(one: str, other: str) -> bool:
    """Whether two different names differ in Unicode normalisation only."""
    return one != other and _look(one) == _look(other)


def _look(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _is_unsafe(one: str) -> bool:
    return unicodedata.category(one) in _ESCAPED or one in _DIRECTION


def _escaped(one: str) -> str:
    if "\udc80" <= one <= "\udcff":  # of os.fsdecode: a byte that is not UTF-8
        return f"\\x{ord(one) - 0xDC00:02x}"
    return one.encode("unicode_escape").decode("ascii")
