"""Checks of a component against the base class of its kind.

A base class names the members that a subclass must define in `_required`. A member is missing if the component does
not have it, or still has the one of the base class.
"""

from __future__ import annotations

from typing import Any, List


def provides(part: Any, base: type) -> None:
    """Raise ValueError if `part` lacks a required member of `base` or of its own base classes.

    `part` need not be an instance of `base`.
    """
    for one in dict.fromkeys([base, *type(part).__mro__]):
        missing = _missing(part, one)
        if missing:
            raise ValueError(f"{type(part).__name__} lacks {', '.join(missing)}, which {_name(one)} requires")


def derived(part: Any, base: type) -> None:
    """Raise ValueError if `part` is not an instance of `base`, or lacks a member that `base` requires."""
    if not isinstance(part, base):
        missing = _missing(part, base)
        besides = f" and define {', '.join(missing)}" if missing else ""
        raise ValueError(f"{type(part).__name__} must derive from {_name(base)}{besides}; see docs/adding_a_method.md")
    provides(part, base)


def _missing(part: Any, base: type) -> List[str]:
    return [member for member in vars(base).get("_required", ()) if not _defines(part, base, member)]


def _defines(part: Any, base: type, member: str) -> bool:
    inherited = vars(base).get(member)
    own = getattr(type(part), member, None)
    return getattr(part, member, None) is not None and (inherited is None or own is not inherited)


def _name(base: type) -> str:
    return f"{base.__module__}.{base.__qualname__}"
