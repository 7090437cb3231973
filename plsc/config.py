"""YAML files and `-o` overrides become one tree that remembers where each value was written.

    config = load("configs/quickstart/pretrain.yaml", ["Optimizer.weight_decay=0.1"])
    config["Optimizer"]["weight_decay"]             # 0.1
    config["Optimizer"].origins["weight_decay"]     # -o Optimizer.weight_decay=0.1

Layers: `_base_` names a file or a list of files, relative to the file that names it. Later wins, mappings merge,
lists and scalars replace, `_delete_: true` in a mapping drops what its base said. Nothing is ever evaluated.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Any, List, Optional, Sequence, Union

from plsc.yaml_tree import ConfigError, ConfigList, ConfigMap, Origin, parse, type_name

BASE_KEY = "_base_"
DELETE_KEY = "_delete_"
MAX_FILES = 256

_OVERRIDE = re.compile(r"^(?P<path>[^=]*?)(?P<append>\+)?=(?P<value>.*)$", re.DOTALL)


def load(path: Union[str, Path], overrides: Sequence[str] = ()) -> ConfigMap:
    """Reads a config file with its `_base_` layers and applies `overrides` in order.

    Args:
        path: A YAML file; one that does not exist is looked for among the configs shipped with the package.
        overrides: `a.b=value`, `a.0.b+=value`, `~a.b`; the value is YAML.

    Raises:
        ConfigError: With every problem of the overrides, or the first one of a file.
    """
    config = _load_file(find(path), (), [])
    problems = []
    for text in overrides:
        try:
            apply_override(config, text)
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(problems)
    return config


def find(path: Union[str, Path]) -> Path:
    """The config file that `path` means: itself, or the file of that name shipped with the package.

    Raises:
        ConfigError: If there is no such file.
    """
    path = Path(path)
    if path.is_dir():
        raise ConfigError(f"{path}: is a directory, not a config file")
    found = path if path.is_file() else _shipped(path)
    if found is None:
        raise ConfigError(f"{path}: no such config file, neither here nor among those shipped with plsc{_near(path)}")
    return found


def config_root() -> Path:
    """The folder of the configs that come with plsc: in the installed package, or in the checkout beside it."""
    package = Path(__file__).parent
    return next((root for root in (package / "configs", package.parent / "configs") if root.is_dir()), package)


def _shipped(path: Path) -> Optional[Path]:
    if path.is_absolute() or ".." in path.parts:
        return None
    candidate = config_root() / (Path(*path.parts[1:]) if path.parts[:1] == ("configs",) else path)
    return candidate if candidate.is_file() else None


def _near(path: Path) -> str:
    known = [str(file) for file in path.parent.glob("*.yaml")]
    known += [str(Path("configs") / file.relative_to(config_root())) for file in config_root().rglob("*.yaml")]
    near = difflib.get_close_matches(str(path), known, 1, 0.7)
    return f"; did you mean {near[0]}?" if near else ""


def _load_file(path: Path, chain: Sequence[Path], read: List[Path]) -> ConfigMap:
    """A file over its bases.

    Args:
        path: The file.
        chain: The files that led to it.
        read: All files read so far; two that each name two others would be a billion after thirty layers.
    """
    read.append(path)
    if len(read) > MAX_FILES:
        raise ConfigError(
            f"{path}: a config of more than {MAX_FILES} {BASE_KEY} files, counted each time they are named"
        )
    if path.resolve() in [parent.resolve() for parent in chain]:
        raise ConfigError("a cycle of _base_ files: " + " -> ".join(str(item) for item in (*chain, path)))
    tree = parse(_read(path), str(path))
    if tree is None:
        tree = ConfigMap(Origin(str(path), 1))
    if not isinstance(tree, ConfigMap):
        raise ConfigError(f"{path}: a config is a mapping of sections, got {type_name(tree)}")
    merged = ConfigMap(tree.origin)
    for base in _take_bases(tree, path):
        merge(merged, _load_file(base, (*chain, path), read))
    return merge(merged, tree)


def _take_bases(tree: ConfigMap, path: Path) -> List[Path]:
    """Removes `_base_` from the tree and returns the files it names: beside `path`, or shipped with the package."""
    origin = tree.origins.pop(BASE_KEY, None)
    names = tree.pop(BASE_KEY, [])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{origin}: {BASE_KEY} is a file name or a list of file names, got {type_name(names)}")
    files = []
    for name in names:
        beside = Path(os.path.normpath(path.parent / name))
        found = beside if beside.is_file() else _shipped(Path(name))
        if found is None:
            raise ConfigError(f"{origin}: {BASE_KEY}: there is no file {beside}{_near(beside)}")
        files.append(found)
    return files


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def merge(base: ConfigMap, layer: ConfigMap) -> ConfigMap:
    """Lays `layer` over `base` in place and returns it: mappings merge, everything else replaces.

    Raises:
        ConfigError: If `_delete_` is given anything but true.
    """
    for key in sorted(layer, key=lambda key: key != "name"):  # `name` first: what is older was for another component
        value = layer[key]
        if isinstance(value, ConfigMap):
            replaces = _takes_delete(value)
            old = base.get(key)
            value = merge(old if isinstance(old, ConfigMap) and not replaces else ConfigMap(value.origin), value)
            if value is old:
                continue
        base.put(key, value, layer.origins[key])
    return base


def _takes_delete(mapping: ConfigMap) -> bool:
    if DELETE_KEY not in mapping:
        return False
    origin = mapping.origins.pop(DELETE_KEY)
    value = mapping.pop(DELETE_KEY)
    if value is not True:
        raise ConfigError(f"{origin}: {DELETE_KEY} can only be true, got {value!r}")
    return True


def apply_override(config: ConfigMap, text: str) -> None:
    """Applies one `-o` to `config`: `path=value` sets, `path+=value` appends to a list, `~path` deletes.

    Raises:
        ConfigError: If the text is no override, a list index is out of range, or there is nothing to append to or
            delete. Whether the keys mean anything is checked later, with everything else.
    """
    origin = Origin("-o " + " ".join(text.split()))
    if text.startswith("~"):
        _delete(config, _split_path(text[1:], origin), origin)
        return
    match = _OVERRIDE.match(text)
    if not match:
        raise ConfigError(f"{origin}: an override is key=value, key+=value or ~key")
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
        raise ConfigError(f"{origin}: {text!r} is no key path; write names joined by dots, like Optimizer.weight_decay")
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
            raise ConfigError(f"{origin}: {here} is {type_name(node)}, so nothing can be set below it")
    return node


def _index(items: ConfigList, path: Sequence[str], origin: Origin) -> int:
    where, key = ".".join(path[:-1]), path[-1]
    if not re.fullmatch(r"-?[0-9]{1,9}", key):
        raise ConfigError(f"{origin}: {where} is a list of {len(items)}; address its items by index, not {key!r}")
    if not -len(items) <= int(key) < len(items):
        raise ConfigError(f"{origin}: {where} has no item {key}, its length is {len(items)}")
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
        raise ConfigError(f"{origin}: there is no {'.'.join(path)} to delete{hint}")
