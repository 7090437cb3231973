"""Whether a value read from YAML fits the type annotation of the argument it is given to."""

from __future__ import annotations

import collections.abc
import inspect
import typing
from typing import Any, Callable, Dict, Literal, Optional, Union

from plsc.yaml_tree import type_name

_SEQUENCES = (list, tuple, collections.abc.Sequence, collections.abc.Iterable)
_MAPPINGS = (dict, collections.abc.Mapping)
_SCALARS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def annotations_of(component: Callable[..., Any]) -> Dict[str, Any]:
    """The type annotations of a class's constructor or of a function, by argument; empty where they have none."""
    function = component
    if inspect.isclass(component):
        function = component if "__dataclass_fields__" in vars(component) else component.__init__
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError):  # a name known to type checkers only, or syntax newer than this Python
        return {}


def mismatch(value: Any, annotation: Any) -> Optional[str]:
    """What is wrong with `value` for `annotation`, in words; None if it fits.

    A whole number fits `float`; true and false do not fit numbers; a list fits a tuple of that length.
    """
    if _fits(value, annotation):
        return None
    shown = repr(value) if not isinstance(value, (dict, list)) else f"{type_name(value)} {value!r:.60}"
    hint = ""
    if isinstance(value, str) and annotation in (bool, Optional[bool]) and value.lower() in ("yes", "no", "on", "off"):
        hint = f"; write {'true' if value.lower() in ('yes', 'on') else 'false'}"
    return f"expected {expected(annotation)}, got {shown}{hint}"


def expected(annotation: Any) -> str:
    """An annotation in the words of a config's author."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None):
        return "null"
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is Union:
        return " or ".join(expected(item) for item in arguments)
    if origin is tuple and Ellipsis not in arguments:
        return f"a list of {len(arguments)}: [{', '.join(expected(item) for item in arguments)}]"
    if (origin or annotation) in _SEQUENCES:
        items = [item for item in arguments if item is not Ellipsis]
        return "a list" + (f", each {expected(items[0])}" if items else "")
    if (origin or annotation) in _MAPPINGS:
        return "a mapping"
    return f"a component, {{name: ...}} ({getattr(annotation, '__name__', annotation)})"


def _fits(value: Any, annotation: Any) -> bool:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in (Any, inspect.Parameter.empty, object):
        return True
    if annotation is type(None):
        return value is None
    if annotation is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if annotation in _SCALARS:
        return isinstance(value, annotation) and (annotation is bool or not isinstance(value, bool))
    if origin is Literal:
        return any(value == item and type(value) is type(item) for item in arguments)
    if origin is Union:
        return any(_fits(value, item) for item in arguments)
    if origin is tuple and Ellipsis not in arguments:
        same_length = isinstance(value, (list, tuple)) and len(value) == len(arguments)
        return same_length and all(_fits(item, kind) for item, kind in zip(value, arguments))
    if (origin or annotation) in _SEQUENCES:
        items = [item for item in arguments if item is not Ellipsis]
        return isinstance(value, (list, tuple)) and all(_fits(item, items[0]) for item in value if items)
    if (origin or annotation) in _MAPPINGS:
        return isinstance(value, dict)
    return False
