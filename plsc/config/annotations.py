"""Comparison of values read from YAML with the type annotations of the arguments that they are given to."""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from typing import Any, Callable, Dict, List, Literal, Optional, Union

from plsc.config.tree import one_line, type_name

_UNIONS = (Union, getattr(types, "UnionType", Union))  # from Python 3.10 on, `int | None` has another type
_SEQUENCES = (list, tuple, collections.abc.Sequence, collections.abc.Iterable)
_MAPPINGS = (dict, collections.abc.Mapping)
_SCALARS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
_ANYTHING = (Any, inspect.Parameter.empty, object)
_TOO_LARGE = 2**63
_SWITCHES = {"yes": "true", "on": "true", "no": "false", "off": "false"}


def annotations_of(component: Callable[..., Any]) -> Dict[str, Any]:
    """Return the type annotations of a class's constructor or of a function by argument name; empty if none."""
    function = component
    if inspect.isclass(component):
        function = component if "__dataclass_fields__" in vars(component) else component.__init__
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError):  # a name known to type checkers only, or syntax newer than this Python
        return {}


def mismatch(value: Any, annotation: Any) -> Optional[str]:
    """Describe why `value` does not fit `annotation`; None if it fits.

    A whole number fits `float`; true and false do not fit numbers; a list fits a tuple of that length.
    """
    if _fits(value, annotation):
        return None
    shown = f"{type_name(value)} {one_line(value):.60}" if isinstance(value, (dict, list)) else type_name(value)
    return f"expected {expected(annotation)}, got {shown}{_hint(value, annotation)}"


def expected(annotation: Any) -> str:
    """Return an annotation in the words that a config author uses."""
    kind, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if kind in _SCALARS:
        return _SCALARS[kind]
    if kind is Literal:
        return "one of " + ", ".join(map(one_line, arguments))
    if kind in _UNIONS:
        return " or ".join(expected(item) for item in arguments)
    if kind is tuple and arguments and Ellipsis not in arguments:
        return f"a list of {len(arguments)}: [{', '.join(expected(item) for item in arguments)}]"
    if kind in _SEQUENCES:
        return "a list" + (f", each {expected(arguments[0])}" if arguments else "")
    if kind in _MAPPINGS:
        return "a mapping"
    named = isinstance(annotation, type) and annotation is not Any
    return "a component, {name: ...}" + (f" ({annotation.__name__})" if named else "")


def takes_component(annotation: Any) -> bool:
    """Return True if an argument of this type can be an object, not only plain values."""
    kind, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if kind in _UNIONS:
        return any(takes_component(item) for item in arguments)
    return kind not in _SCALARS and kind is not Literal and kind not in _SEQUENCES


def item_annotation(annotation: Any, container: type) -> Any:
    """Return the type of the items of a `list`, or of the values of a `dict`, that `annotation` allows.

    None if it does not allow this container; Any if it does not define the type of the items.
    """
    kind, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if kind in _UNIONS:
        return next((item for item in (item_annotation(a, container) for a in arguments) if item is not None), None)
    if kind in _ANYTHING:
        return Any
    if kind not in (_SEQUENCES if container is list else _MAPPINGS):
        return None
    return arguments[0 if container is list else -1] if arguments else Any


def _fits(value: Any, annotation: Any) -> bool:
    kind, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if kind in _ANYTHING:
        return True
    if kind is float:
        return _is_number(value, (int, float))
    if kind is int:
        return _is_number(value, int)
    if kind in _SCALARS:
        return isinstance(value, kind)
    if kind is Literal:
        return any(value == item and type(value) is type(item) for item in arguments)
    if kind in _UNIONS:
        return any(_fits(value, item) for item in arguments)
    if kind is tuple and arguments and Ellipsis not in arguments:
        same_length = isinstance(value, (list, tuple)) and len(value) == len(arguments)
        return same_length and all(_fits(item, annotation) for item, annotation in zip(value, arguments))
    if kind in _SEQUENCES:
        return isinstance(value, (list, tuple)) and all(_fits(item, arguments[0]) for item in value if arguments)
    if kind in _MAPPINGS:
        return isinstance(value, dict) and all(_fits(item, arguments[-1]) for item in value.values() if arguments)
    return not inspect.isclass(kind)  # YAML never gives a class; other typing constructs are not checked


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and abs(value) < _TOO_LARGE  # NaN does not pass


def _hint(value: Any, annotation: Any) -> str:
    allowed = _members(annotation)
    if isinstance(value, str):
        if bool in allowed and value.lower() in _SWITCHES:
            return f"; write {_SWITCHES[value.lower()]}"
        lists = [item for item in allowed if item_annotation(item, list) is not None]
        return f"; write [{value}]" if any(_fits([value], item) for item in lists) else ""
    if isinstance(value, (int, float)) and not abs(value) < _TOO_LARGE and str not in allowed:
        return "; it must be finite and below 2**63" + (", or null for none" if type(None) in allowed else "")
    if isinstance(value, (bool, int, float)) and str in allowed:
        return f'; write it in quotes: "{one_line(value)}"'
    return ""


def _members(annotation: Any) -> List[Any]:
    return list(typing.get_args(annotation)) if typing.get_origin(annotation) in _UNIONS else [annotation]
