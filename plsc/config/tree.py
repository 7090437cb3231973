"""Parser of YAML text into a tree of mappings, lists and scalars that records the line of each value.

Only plain YAML data is accepted: no tags, no merge keys, no duplicate keys, limited depth and size.
"""

from __future__ import annotations

import contextlib
import math
import re
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Union

import yaml

from plsc.errors import PlscError

MAX_DEPTH = 64
MAX_VALUES = 100_000
NOT_SET = "(not set)"


class Origin(NamedTuple):
    """Origin of a value: a file and its line, or a command-line override (no line)."""

    source: str
    line: Optional[int] = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


class ConfigError(PlscError, ValueError):
    """Error of a configuration; the message lists all problems, one per line.

    Args:
        problems: One or several messages, each with the origin of the problem.
    """

    def __init__(self, problems: Union[str, Iterable[str]]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class ConfigMap(dict):
    """A YAML mapping; `origins[key]` is the origin of a key, `origin` that of the mapping.

    `left_over[key]` is the component that `key` was written for, if a later layer changed `name`. `path` is the key
    path of the mapping in its config; `locate` sets it.
    """

    def __init__(self, origin: Optional[Origin] = None) -> None:
        super().__init__()
        self.origin = origin
        self.origins: Dict[str, Origin] = {}
        self.left_over: Dict[str, str] = {}
        self.path = ""

    def put(self, key: str, value: Any, origin: Origin) -> None:
        """Set `key` and record its origin."""
        if key == "name" and self.get("name", value) != value:
            self.left_over = dict.fromkeys(self.keys() - {"name"}, str(self["name"]))
        self.left_over.pop(key, None)
        self[key] = value
        self.origins[key] = origin


class ConfigList(list):
    """A YAML list; `origins[i]` is the origin of item i."""

    def __init__(self, origin: Optional[Origin] = None) -> None:
        super().__init__()
        self.origin = origin
        self.origins: List[Origin] = []

    def put(self, value: Any, origin: Origin) -> None:
        """Append `value` and record its origin."""
        self.append(value)
        self.origins.append(origin)


_EXPONENT = r"[eE][-+]?[0-9]+"
_DECIMAL = r"(?:[0-9]+\.[0-9]*|\.[0-9]+)"
_SCALARS: Tuple[Tuple[str, str, List[str]], ...] = (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", list("-+0123456789")),
    ("float", rf"^[-+]?(?:{_DECIMAL}(?:{_EXPONENT})?|[0-9]+{_EXPONENT})$", list("-+.0123456789")),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", list("-+.")),
)


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2: `3e-3` is a float; `on`, `010` and `1:30` are strings."""

    yaml_implicit_resolvers: Dict[str, list] = {}


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes strings which YAML 1.1 or 1.2 would parse as another type; it never splits a string."""

    def represent_text(self, text: str) -> yaml.Node:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "\n" in text else None)

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(str, _Dumper.represent_text)

for _tag, _pattern, _first in _SCALARS:
    for _yaml_class in (_Loader, _Dumper):
        _yaml_class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def parse(text: str, source: str, inline: bool = False) -> Any:
    """Parse YAML text into ConfigMap, ConfigList and scalars.

    Args:
        text: One YAML document.
        source: Name of the source, for messages.
        inline: The text is a command-line override, so messages do not give its lines.

    Raises:
        ConfigError: If the text is not plain YAML data; with the line of each problem.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        converter = _Converter(loader, source, inline)
        tree = converter.convert(node, 0) if node is not None else None
    except yaml.YAMLError as error:
        raise _syntax_error(error, text, source, inline) from None
    except RecursionError:
        raise ConfigError(f"{source}: nested deeper than {MAX_DEPTH} levels") from None
    if converter.problems:
        raise ConfigError(converter.problems)
    return tree


class _Converter:
    """Converter of YAML nodes into the tree; it collects content that a config must not have in `problems`."""

    def __init__(self, loader: _Loader, source: str, inline: bool) -> None:
        self.loader = loader
        self.source = source
        self.inline = inline
        self.values = 0
        self.problems: List[str] = []

    def convert(self, node: yaml.Node, depth: int) -> Any:
        origin = self.origin(node)
        self.values += 1
        if depth > MAX_DEPTH:
            raise ConfigError(f"{origin}: nested deeper than {MAX_DEPTH} levels")
        if self.values > MAX_VALUES:
            raise ConfigError(f"{origin}: more than {MAX_VALUES} values (an alias counts each time it is used)")
        if node.tag not in _PLAIN_TAGS:
            self.problems.append(f"{origin}: the tag {node.tag!r} is not allowed; a config must be plain YAML data")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, origin, depth)
        if isinstance(node, yaml.SequenceNode):
            items = ConfigList(origin)
            for child in node.value:
                items.put(self.convert(child, depth + 1), self.origin(child))
            return items
        if "\0" in node.value:
            self.problems.append(f"{origin}: {node.value!r:.60} contains the character NUL, which is not allowed")
            return None
        try:
            return self.loader.construct_object(node, deep=True)
        except (ValueError, KeyError, IndexError):  # such as !!bool maybe
            self.problems.append(f"{origin}: {node.value!r:.60} is not a valid {node.tag.rsplit(':', 1)[-1]}")
            return None

    def _mapping(self, node: yaml.MappingNode, origin: Origin, depth: int) -> ConfigMap:
        mapping = ConfigMap(origin)
        for key_node, value_node in node.value:
            place, key = self.origin(key_node), key_node.value
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(f"{place}: a key must be a name, not a list or mapping")
            elif key == "<<":
                self.problems.append(f"{place}: the merge key '<<' is not supported; use _base_")
            elif key_node.style is None and ":" in key and value_node.value == "":
                self.problems.append(f"{place}: {key!r} is not a key with a value; put a space after the colon")
            elif key in mapping:
                self.problems.append(f"{place}: duplicate key {key!r}; it was first set at {mapping.origins[key]}")
            else:
                mapping.put(key, self.convert(value_node, depth + 1), place)
        return mapping

    def origin(self, node: yaml.Node) -> Origin:
        return Origin(self.source, None if self.inline else node.start_mark.line + 1)


_PLAIN_TAGS = {f"tag:yaml.org,2002:{tag}" for tag in ("map", "seq", "str", "int", "float", "bool", "null")}


def _syntax_error(error: yaml.YAMLError, text: str, source: str, inline: bool) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark else None
    detail = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        detail = f"the character {chr(error.character)!r} is not allowed"
    elif "'\\t'" in detail:
        detail = "a tab; indent YAML with spaces"
    elif "cannot start any token" in detail or "alias" in detail:
        detail += "; put text that begins with a special character in quotes"
    context = getattr(error, "context", None)
    place = source if inline or line is None else f"{source}:{line}"
    return ConfigError(f"{place}: not valid YAML: {detail}" + (f" ({context})" if context else ""))


def locate(node: Any, path: str = "") -> None:
    """Store in every mapping of a config its key path, for messages of later errors."""
    if isinstance(node, ConfigMap):
        node.path = path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        locate(child, f"{path}.{key}" if path else str(key))


def blame(node: ConfigMap, text: str, path: str = "") -> ConfigError:
    """Return an error about the values of a mapping that begins with their origin.

    The origin is that of the last key that the message names, or else of the last text that it quotes.

    Args:
        node: The mapping.
        text: Message of the component or section, which does not know its place in the config.
        path: Key path of the mapping; by default the one that `locate` has set.
    """
    path = path or node.path
    named = [key for key in node if key != "name" and re.search(rf"(?<![\w.]){re.escape(key)}\b", text)]
    quoted = [key for key in node if key != "name" and isinstance(node[key], str) and node[key] and node[key] in text]
    chosen = sorted(named or quoted, key=lambda key: node.origins[key].line is None)[-1:]  # overrides came last
    origin = node.origins[chosen[0]] if chosen else node.origins.get("name", node.origin)
    path = path if named or not quoted else f"{path}.{chosen[0]}"
    where = "" if not path or text.startswith((f"{path}:", f"{path}.")) else f"{path}: "
    return ConfigError(f"{origin}: {where}{text}")


@contextlib.contextmanager
def blamed_on(node: ConfigMap) -> Iterator[None]:
    """Add the origin of a section to user errors that are raised inside this context, see `blame`."""
    try:
        yield
    except ConfigError:
        raise
    except (ValueError, OSError, ImportError) as error:
        raise blame(node, str(error)) from error


def to_plain(value: Any) -> Any:
    """Return the tree as ordinary dicts and lists."""
    if isinstance(value, Mapping):
        return {key: to_plain(child) for key, child in value.items()}
    if isinstance(value, list):
        return [to_plain(child) for child in value]
    return value


def dump(config: Mapping[str, Any]) -> str:
    """Return the config as YAML text; `load` reads it back to the same tree."""
    return yaml.dump(to_plain(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def describe(config: Mapping[str, Any]) -> str:
    """Return the config as YAML text, with the origin of each value as a comment."""
    rows = list(_describe(config, 0))
    width = min(max((len(text) for text, _ in rows), default=0), 80)
    return "\n".join(f"{text:<{width}}  # {origin}" if origin else text for text, origin in rows)


def _describe(node: Any, depth: int) -> Iterable[Tuple[str, Optional[Origin]]]:
    pairs = (
        [(f"{one_line(key)}:", node[key], node.origins[key]) for key in node]
        if isinstance(node, ConfigMap)
        else [("-", item, origin) for item, origin in zip(node, node.origins)]
    )
    for label, value, origin in pairs:
        text = "  " * depth + label
        list_of_values = isinstance(value, list) and not any(isinstance(item, (dict, list)) for item in value)
        if value and isinstance(value, (dict, list)) and not list_of_values:
            yield text, None
            yield from _describe(value, depth + 1)
        else:
            yield f"{text} {one_line(value)}", origin


def one_line(value: Any) -> str:
    """Return a value as YAML on one line."""
    # In brackets, because PyYAML writes an end mark of the document after a bare scalar.
    text = yaml.dump(
        [to_plain(value)], Dumper=_Dumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf
    )
    return text.strip()[1:-1]


def differing_keys(old: Any, new: Any) -> List[Tuple[str, str, str]]:
    """Return key path, old and new value of each difference between two trees; values as YAML on one line."""
    before, after = dict(leaves(old)), dict(leaves(new))
    return [
        (key, before.get(key, NOT_SET), after.get(key, NOT_SET))
        for key in dict.fromkeys([*before, *after])
        if before.get(key, NOT_SET) != after.get(key, NOT_SET)
    ]


def leaves(node: Any, path: str = "") -> Iterator[Tuple[str, str]]:
    """Yield key paths and values as YAML on one line; a list without mappings is one value."""
    entered = isinstance(node, list) and any(isinstance(item, dict) for item in node)
    items = node.items() if isinstance(node, dict) and node else enumerate(node) if entered else None
    if items is None:
        yield path, one_line(node)
        return
    for key, value in items:
        yield from leaves(value, f"{path}.{key}" if path else str(key))


def type_name(value: Any) -> str:
    """Return a phrase for the type of a YAML value, with the value if it is short."""
    if isinstance(value, (ConfigMap, dict)):
        return "a mapping"
    if isinstance(value, (ConfigList, list)):
        return "a list"
    return f"the text {value!r:.60}" if isinstance(value, str) else f"{one_line(value):.60}"
