"""List of registered components for `--list`: names, signatures and one line of help."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import Any, Dict, Iterator

from plsc.config import registry
from plsc.config.annotations import annotations_of
from plsc.config.registry import Registry
from plsc.config.suggest import nearest
from plsc.config.tree import ConfigError

KINDS: Dict[str, Registry] = {
    part.kind.replace("learning-rate schedule", "lr scheduler").replace(" ", "_"): part
    for part in vars(registry).values()
    if isinstance(part, Registry)
}
_WIDTH = 110


def listing(kind: str) -> str:
    """Return a text list of the components of a kind.

    Args:
        kind: Singular or plural, such as `mask_generator`, `mask_generators` or `MaskGenerator`; `all`: every kind.

    Raises:
        ConfigError: If the kind is unknown.
    """
    by_spelling = {name.replace("_", "") + ending: name for name in KINDS for ending in ("", "s", "es")}
    wanted = by_spelling.get(kind.lower().replace("-", "").replace("_", ""))
    if kind != "all" and wanted is None:
        near = nearest(kind, KINDS)
        hint = f"did you mean {near!r}? " if near else ""
        raise ConfigError(f"--list {kind}: unknown kind; {hint}allowed: all, {', '.join(KINDS)}")
    chosen = KINDS if wanted is None else {wanted: KINDS[wanted]}
    return "\n".join(line for name, entries in chosen.items() for line in _section(name, entries))


def _section(name: str, entries: Registry) -> Iterator[str]:
    yield f"# {name}"
    for component in entries.names():
        annotations = annotations_of(entries.get(component))
        arguments = [_argument(p, annotations) for p in entries.parameters(component).values()]
        unbroken = ", ".join(argument.replace(" ", "\0") for argument in arguments)
        lines = textwrap.fill(
            f"{component}({unbroken})",
            _WIDTH,
            subsequent_indent=" " * 8,
            break_on_hyphens=False,
            break_long_words=False,
        )
        yield lines.replace("\0", " ")
        yield "    " + (entries.get(component).__doc__ or "").strip().split("\n")[0]


def _argument(parameter: inspect.Parameter, annotations: Dict[str, Any]) -> str:
    kind = annotations.get(parameter.name)
    shown = "" if kind is None else f": {_type(kind)}"
    if parameter.default is inspect.Parameter.empty:
        return parameter.name + shown
    return f"{parameter.name}{shown} = {parameter.default!r}"


def _type(annotation: Any) -> str:
    """Return an annotation as source code without module names."""
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", inspect.formatannotation(annotation))
