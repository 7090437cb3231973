"""`-o` overrides: set, append to and delete values of a config tree."""

from __future__ import annotations

import difflib
import re
from typing import Any, List, Sequence, Union

from plsc.config.layers import merge
from plsc.config.tree import ConfigError, ConfigList, ConfigMap, Origin, parse, type_name

_OVERRIDE = re.compile(r"^(?P<path>[^=]*?)(?P<append>\+)?=(?P<value>.*)$", re.DOTALL)


def apply_override(config: ConfigMap, text: str) -> None:
    """Apply one `-o` to `config`: `path=value` sets, `path+=value` appends to a list, `~path` deletes.

    Raises:
        ConfigError: If the text is not an override, a list index is out of range, or the key to append to or to delete
            does not exist. The schema check validates the keys later.
    """
    origin = Origin("-o " + " ".join(text.split()))
    if text.startswith("~"):
        _delete(config, _split_path(text[1:], origin), origin)
        return
    match = _OVERRIDE.match(text)
    if not match:
        raise ConfigError(f"{origin}: an override must be key=value, key+=value or ~key")
    path = _split_path(match["path"], origin)
    value = parse(match["value"], str(origin), inline=True)
    parent = _descend(config, path[:-1], origin)
    if match["append"]:
        _append(parent, path, value, origin)
        return
    layer = ConfigMap(origin)
    layer.put(path[-1], value, origin)
    if isinstance(parent, ConfigMap):
        merge(parent, layer)
        return
    index = _index(parent, path, origin)
    item = ConfigMap(origin)
    item.put(path[-1], parent[index], parent.origins[index])
    parent[index] = merge(item, layer)[path[-1]]
    parent.origins[index] = item.origins[path[-1]]


def _split_path(text: str, origin: Origin) -> List[str]:
    path = text.strip().split(".")
    if not all(path):
        raise ConfigError(f"{origin}: {text!r} is not a key path; join names by dots, like Optimizer.weight_decay")
    return path


def _descend(config: ConfigMap, path: Sequence[str], origin: Origin) -> Union[ConfigMap, ConfigList]:
    node: Any = config
    for position, key in enumerate(path):
        if isinstance(node, ConfigList):
            node = node[_index(node, path[: position + 1], origin)]
        else:
            if node.get(key) is None:
                node.put(key, ConfigMap(origin), origin)
            node = node[key]
        if not isinstance(node, (ConfigMap, ConfigList)):
            here = ".".join(path[: position + 1])
            raise ConfigError(f"{origin}: {here} is {type_name(node)}, so no key can be set below it")
    return node


def _index(items: ConfigList, path: Sequence[str], origin: Origin) -> int:
    where, key = ".".join(path[:-1]), path[-1]
    if not re.fullmatch(r"-?[0-9]{1,9}", key):
        raise ConfigError(f"{origin}: {where} is a list of {len(items)}; address its items by index, not {key!r}")
    if not -len(items) <= int(key) < len(items):
        raise ConfigError(f"{origin}: {where} has no item {key}; its length is {len(items)}")
    return int(key)


def _append(parent: Union[ConfigMap, ConfigList], path: Sequence[str], value: Any, origin: Origin) -> None:
    if isinstance(parent, ConfigList):
        target = parent[_index(parent, path, origin)]
    else:
        if parent.get(path[-1]) is None:
            parent.put(path[-1], ConfigList(origin), origin)
        target = parent[path[-1]]
    if not isinstance(target, ConfigList):
        raise ConfigError(f"{origin}: {'.'.join(path)} is {type_name(target)}, so += cannot append to it")
    for item in value if isinstance(value, ConfigList) else [value]:
        target.put(item, origin)


def _delete(config: ConfigMap, path: Sequence[str], origin: Origin) -> None:
    node: Any = config
    for position, key in enumerate(path[:-1]):
        if isinstance(node, ConfigList):
            node = node[_index(node, path[: position + 1], origin)]
        else:
            node = node.get(key) if isinstance(node, ConfigMap) else None
    if isinstance(node, ConfigList):
        index = _index(node, path, origin)
        del node[index], node.origins[index]
    elif isinstance(node, ConfigMap) and path[-1] in node:
        del node[path[-1]], node.origins[path[-1]]
    else:
        near = difflib.get_close_matches(path[-1], node, 1) if isinstance(node, ConfigMap) else []
        hint = f"; did you mean {'.'.join((*path[:-1], near[0]))}?" if near else ""
        raise ConfigError(f"{origin}: {'.'.join(path)} does not exist and cannot be deleted{hint}")
