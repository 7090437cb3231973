"""Import of the modules that register components: built-in ones, the config's `imports:`, installed packages.

An installed package declares an entry point. The module that it names must register its components when imported:

    entry_points={"plsc.plugins": ["my_method = my_package.components"]}
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib import metadata
from typing import Any, Iterable, List, Mapping

from plsc.config.tree import ConfigError, ConfigList, ConfigMap

BUILT_IN = ("models", "tokenizers", "losses", "masking", "data", "optim", "tasks", "evaluation", "engine")
ENTRY_POINTS = "plsc.plugins"


def load(config: ConfigMap) -> None:
    """Import the built-in components, then the installed plug-ins, then the modules that `imports:` names.

    Raises:
        ConfigError: If a plug-in or a module of `imports:` cannot be imported; the message names it and the reason.
    """
    load_built_in()
    problems = [*_load_entry_points(), *_load_imports(config)]
    if problems:
        raise ConfigError(problems)


def modules(config: Mapping[str, Any]) -> List[str]:
    """Return the names of a config's plug-in modules: the installed plug-ins and the modules of `imports:`."""
    installed = [entry.value.partition(":")[0].strip() for entry in _entry_points()]
    return [*installed, *(str(name) for name in config.get("imports") or ())]


def load_built_in() -> None:
    """Import the packages whose modules register the built-in components."""
    for name in BUILT_IN:
        importlib.import_module(f"plsc.{name}")


def _load_entry_points() -> List[str]:
    problems = []
    for entry in _entry_points():
        try:
            entry.load()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a foreign module may raise any error; it is reported
            problems.append(
                f"the installed plug-in {entry.name!r} ({entry.value}) cannot be imported: {error!r}; "
                "repair or uninstall its package"
            )
    return problems


def _entry_points() -> Iterable[Any]:
    if sys.version_info >= (3, 10):
        return metadata.entry_points(group=ENTRY_POINTS)
    return metadata.entry_points().get(ENTRY_POINTS, ())


def _load_imports(config: ConfigMap) -> List[str]:
    modules = config.get("imports")
    if not isinstance(modules, ConfigList):
        return []
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # console scripts do not search the working directory
    problems = []
    for index, module in enumerate(modules):
        if not isinstance(module, str):
            continue  # the schema check reports it with its origin
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a foreign module may raise any error; it is reported
            missing = isinstance(error, ModuleNotFoundError)
            hint = "; install it, run plsc in its folder, or add that folder to PYTHONPATH" if missing else ""
            problems.append(f"{modules.origins[index]}: imports: {module!r} cannot be imported: {error!r}{hint}")
    return problems
