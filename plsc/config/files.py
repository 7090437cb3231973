"""Loading of YAML files and `-o` overrides into one tree that records the origin of each value.

    config = load("configs/quickstart/pretrain.yaml", ["Optimizer.weight_decay=0.1"])
    config["Optimizer"]["weight_decay"]             # 0.1
    config["Optimizer"].origins["weight_decay"]     # -o Optimizer.weight_decay=0.1

Layers: `_base_` names a file or a list of files, relative to the file that names it. Later files win, mappings merge,
lists and scalars replace, `_delete_: true` in a mapping drops the values of its base. Text is never evaluated as code.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import List, Optional, Sequence, Union

from plsc.config.layers import merge
from plsc.config.overrides import apply_override
from plsc.config.tree import ConfigError, ConfigMap, Origin, parse, type_name

BASE_KEY = "_base_"
MAX_FILES = 256


def load(path: Union[str, Path], overrides: Sequence[str] = ()) -> ConfigMap:
    """Read a config file with its `_base_` layers and apply `overrides` in order.

    Args:
        path: A YAML file. If it does not exist, the file of that name shipped with the package is used.
        overrides: `a.b=value`, `a.0.b+=value`, `~a.b`; the value is YAML.

    Raises:
        ConfigError: With all problems of the overrides, or the first problem of a file.
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
    """Return the config file for `path`: the path itself, or the file of that name shipped with the package.

    Raises:
        ConfigError: If the file does not exist.
    """
    path = Path(path)
    if path.is_dir():
        raise ConfigError(f"{path} is a directory, not a config file")
    found = path if path.is_file() else _shipped(path)
    if found is None:
        raise ConfigError(f"{path}: no config file with this path, also not among those shipped with plsc{_near(path)}")
    return found


def config_root() -> Path:
    """Return the folder of the configs shipped with plsc, in the installed package or in the checkout."""
    package = Path(__file__).parent.parent
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
    """Read a file and merge it over its bases.

    Args:
        path: The file.
        chain: The files whose `_base_` entries lead to this one.
        read: All files read so far. It limits the total: the number can double with each layer.
    """
    read.append(path)
    if len(read) > MAX_FILES:
        raise ConfigError(
            f"{path}: the config has more than {MAX_FILES} {BASE_KEY} files; a file counts each time it is named"
        )
    if path.resolve() in [parent.resolve() for parent in chain]:
        raise ConfigError("a cycle of _base_ files: " + " -> ".join(str(item) for item in (*chain, path)))
    tree = parse(_read(path), str(path))
    if tree is None:
        tree = ConfigMap(Origin(str(path), 1))
    if not isinstance(tree, ConfigMap):
        raise ConfigError(f"{path}: a config must be a mapping of sections, got {type_name(tree)}")
    merged = ConfigMap(tree.origin)
    for base in _take_bases(tree, path):
        merge(merged, _load_file(base, (*chain, path), read))
    return merge(merged, tree)


def _take_bases(tree: ConfigMap, path: Path) -> List[Path]:
    """Remove `_base_` from the tree and return the files it names: beside `path`, or shipped with the package."""
    origin = tree.origins.pop(BASE_KEY, None)
    names = tree.pop(BASE_KEY, [])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{origin}: {BASE_KEY} must be a file name or a list of file names, got {type_name(names)}")
    files = []
    for name in names:
        beside = Path(os.path.normpath(path.parent / name))
        found = beside if beside.is_file() else _shipped(Path(name))
        if found is None:
            raise ConfigError(f"{origin}: {BASE_KEY}: the file {beside} does not exist{_near(beside)}")
        files.append(found)
    return files


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
