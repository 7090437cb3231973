"""Sections of a config, and the check of a whole config against the components that it names.

`check(config)` checks every node before anything is built, and reports all problems at once, each with the place where
the value was written and the nearest valid name.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, Dict, Iterator, List, Mapping, Optional

from plsc.config import registry, settings
from plsc.config.annotations import annotations_of, expected, item_annotation, mismatch, takes_component
from plsc.config.registry import Registry, is_node
from plsc.config.suggest import key_paths, suggest_component, suggest_key
from plsc.config.tree import ConfigError, ConfigList, ConfigMap, Origin, blame, locate, type_name

_LOADER = {
    "dataset": registry.DATASETS,
    "transforms": [registry.TRANSFORMS],
    "batch_transforms": [registry.BATCH_TRANSFORMS],
    "loader": settings.Loader,
}
# A registry: one node of it. A list of one registry: a list of nodes. A dataclass: plain values. A dict: sections.
SECTIONS: Dict[str, Any] = {
    "Global": settings.Global,
    "Task": registry.TASKS,
    "Model": registry.MODELS,
    "Tokenizer": registry.TOKENIZERS,
    "MaskGenerator": registry.MASK_GENERATORS,
    "Loss": registry.LOSSES,
    "DataLoader": {"Train": _LOADER, "Eval": _LOADER},
    "Optimizer": registry.OPTIMIZERS,
    "LRScheduler": registry.LR_SCHEDULERS,
    "AMP": settings.AMP,
    "EMA": settings.EMA,
    "DistributedStrategy": settings.DistributedStrategy,
    "Init": settings.Init,
    "Metric": [registry.METRICS],
    "Callbacks": [registry.CALLBACKS],
    "imports": List[str],
}
REQUIRED = ("Global", "Task", "Optimizer", "LRScheduler", "DataLoader.Train.dataset", "DataLoader.Train.loader")
REQUIRED_TO_EVALUATE = ("DataLoader.Eval.dataset", "DataLoader.Eval.loader")
TASK_ARGUMENTS = {"Model": "model", "Tokenizer": "tokenizer", "Loss": "loss"}
REGISTRIES = [part for part in vars(registry).values() if isinstance(part, Registry)]
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check(config: ConfigMap) -> None:
    """Check every section, component, argument and type of `config`, and set the key paths of its mappings.

    Raises:
        ConfigError: With one message for each problem, in the order of the file.
    """
    locate(config)
    problems = list(_Check(config).run())
    if problems:
        raise ConfigError(problems)


def read_settings(config: Mapping[str, Any], section: str) -> Any:
    """Read a checked section of plain values as its dataclass; defaults if the section is missing."""
    node: Any = config
    schema: Any = SECTIONS
    for key in section.split("."):
        node, schema = (node or {}).get(key), schema[key]
    return schema(**(node or {}))


class _Check:
    """Check of one config; every method yields the problems that it finds."""

    def __init__(self, config: ConfigMap) -> None:
        self.config = config

    def run(self) -> Iterator[str]:
        yield from self.sections(self.config, SECTIONS, "")
        yield from self.required()
        yield from self.task_needs()

    def sections(self, node: ConfigMap, schema: Mapping[str, Any], path: str) -> Iterator[str]:
        for key, value in node.items():
            here, origin = _join(path, key), node.origins[key]
            if key not in schema:
                kind = "part" if path else "section"
                yield f"{origin}: {here}: there is no {kind} {key!r}; {self.suggest(key, schema, here)}"
            elif value is not None:
                yield from self.value(value, schema[key], here, origin)

    def value(self, value: Any, schema: Any, path: str, origin: Origin) -> Iterator[str]:
        if isinstance(schema, Registry):
            yield from self.node(value, schema, path, origin)
        elif isinstance(schema, list):
            yield from self.nodes(value, schema[0], path, origin)
        elif isinstance(schema, dict) or dataclasses.is_dataclass(schema):
            keys = schema if isinstance(schema, dict) else [field.name for field in dataclasses.fields(schema)]
            if not isinstance(value, ConfigMap):
                yield f"{origin}: {path}: expected a mapping with the keys {', '.join(keys)}, got {type_name(value)}"
            elif isinstance(schema, dict):
                yield from self.sections(value, schema, path)
            else:
                yield from self.settings(value, schema, path, origin)
        else:
            problem = mismatch(value, schema)
            if problem:
                yield f"{origin}: {path}: {problem}"

    def settings(self, node: ConfigMap, schema: Any, path: str, origin: Origin) -> Iterator[str]:
        problems = list(self.arguments(node, schema, inspect.signature(schema).parameters, path, origin, None))
        problems += [] if problems else _out_of_range(node, schema, path)
        if not problems:
            try:
                schema(**node)
            except ValueError as error:  # values that make no sense together
                problems += blame(node, str(error), path).problems
        yield from problems

    def nodes(self, value: Any, kind: Registry, path: str, origin: Origin) -> Iterator[str]:
        if not isinstance(value, ConfigList):
            yield f"{origin}: {path}: expected a list, each {{name: ...}} of {_a(kind)}, got {type_name(value)}"
            return
        for index, item in enumerate(value):
            yield from self.node(item, kind, f"{path}.{index}", value.origins[index])

    def node(self, node: Any, kind: Registry, path: str, origin: Origin) -> Iterator[str]:
        if not isinstance(node, ConfigMap) or "name" not in node:
            with_keys = f" with the keys {', '.join(node)}" if isinstance(node, ConfigMap) and node else ""
            hint = f"; write {{name: {node}}}" if isinstance(node, str) and node in kind else ""
            got = f"{type_name(node)}{with_keys}{hint}"
            yield f"{origin}: {path}: expected {{name: ...}} of {_a(kind)}, got {got}"
            return
        name, place = node["name"], node.origins["name"]
        if name in kind:
            yield from self.arguments(node, kind.get(name), kind.parameters(name), path, place, kind)
            return
        hint = suggest_component(name, kind, REGISTRIES)
        yield f"{place}: {path}.name: no {kind.kind} is called {name!r:.200}; {hint}"
        for key, value in node.items():  # its arguments are unknown, but those of its children are known
            if is_node(value):
                yield from self.node(value, kind, f"{path}.{key}", node.origins[key])

    def arguments(
        self,
        node: ConfigMap,
        component: Any,
        parameters: Mapping[str, inspect.Parameter],
        path: str,
        origin: Origin,
        kind: Optional[Registry],
    ) -> Iterator[str]:
        """Check the arguments of a component of `kind`, or the keys of a section of settings (no kind)."""
        annotations = annotations_of(component)
        known = {key: p for key, p in parameters.items() if p.kind not in _VARIADIC and key != "name"}
        open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
        owner = f"{component.__name__} has no argument" if kind is not None else f"{path} has no key"
        reserved = ("name", *kind.runtime) if kind is not None else ()
        unknown = [key for key in node if key not in known and key not in reserved and not open_ended]
        left_over = [key for key in unknown if key in node.left_over]
        for key, value in node.items():
            here, place = f"{path}.{key}", node.origins[key]
            if kind is not None and key in kind.runtime:
                yield f"{place}: {here}: {component.__name__} gets {key!r} from the engine; remove it from the config"
            elif key in left_over[:1]:
                yield _left_over(node, left_over, path)
            elif key in unknown and key not in left_over:
                yield f"{place}: {here}: {owner} {key!r}; {self.suggest(key, known, here)}"
            elif key in known and (value is not None or known[key].default is not None):
                yield from self.argument(value, annotations.get(key, Any), here, place, kind)
        for key, parameter in known.items():
            if parameter.default is inspect.Parameter.empty and key not in node:
                needs = f"{component.__name__} needs the argument" if kind is not None else f"{path} needs the key"
                yield f"{origin}: {path}.{key}: {needs} {key!r}"

    def argument(
        self, value: Any, annotation: Any, path: str, origin: Origin, kind: Optional[Registry]
    ) -> Iterator[str]:
        """Check a value; it may contain components of the same kind, which Registry.build builds."""
        if kind is None or not _holds_nodes(value):
            problem = mismatch(value, annotation)
            if problem:
                yield f"{origin}: {path}: {problem}"
            return
        if is_node(value):
            if takes_component(annotation):
                yield from self.node(value, kind, path, origin)
            else:
                yield f"{origin}: {path}: expected {expected(annotation)}, got the component {value['name']!r}"
            return
        inner = item_annotation(annotation, list if isinstance(value, list) else dict)
        if inner is None:
            yield f"{origin}: {path}: expected {expected(annotation)}, got {type_name(value)}"
            return
        for key, item in enumerate(value) if isinstance(value, list) else value.items():
            yield from self.argument(item, inner, f"{path}.{key}", value.origins[key], kind)

    def required(self) -> Iterator[str]:
        evaluates = _lookup(self.config, "DataLoader.Eval") is not None
        for path in REQUIRED + (REQUIRED_TO_EVALUATE if evaluates else ()):
            if _lookup(self.config, path) is None:
                purpose = " for evaluation" if path in REQUIRED_TO_EVALUATE else ""
                yield f"{self.config.origin}: {path}: required{purpose}, but missing"

    def task_needs(self) -> Iterator[str]:
        task: Any = self.config.get("Task")
        if not is_node(task) or task["name"] not in registry.TASKS:
            return
        name, component = task["name"], registry.TASKS.get(task["name"])
        accepted = inspect.signature(component).parameters
        for section, argument in TASK_ARGUMENTS.items():
            given = self.config.get(section) is not None
            if given and argument not in accepted:
                place = self.config.origins[section]
                yield f"{place}: {section}: the task {name} takes no {argument}; remove the section or set it to null"
            elif not given and argument in accepted and accepted[argument].default is inspect.Parameter.empty:
                yield f"{task.origins['name']}: {section}: the task {name} needs this section"
        if "masked_index" in getattr(component, "required_keys", ()) and self.config.get("MaskGenerator") is None:
            yield f"{task.origins['name']}: MaskGenerator: the task {name} needs this section, for masked_index"

    def suggest(self, key: str, valid: Mapping[str, Any], path: str) -> str:
        if "." in key:
            return "in a file keys are nested, `a: {b: value}`; dots are for -o"
        return suggest_key(key, list(valid), path, key_paths(self.config, SECTIONS))


def _out_of_range(node: ConfigMap, schema: Any, path: str) -> Iterator[str]:
    for field in dataclasses.fields(schema):
        value, least, most = (node.get(field.name), *map(field.metadata.get, ("at_least", "at_most")))
        if value is not None and least is not None and value < least:
            yield f"{node.origins[field.name]}: {path}.{field.name}: must be at least {least}, got {value}"
        if value is not None and most is not None and value > most:
            yield f"{node.origins[field.name]}: {path}.{field.name}: must be at most {most}, got {value}"


def _left_over(node: ConfigMap, keys: List[str], path: str) -> str:
    name, old = node["name"], node.left_over[keys[0]]
    unknown = ", ".join(map(repr, keys))
    drop = " ".join(f"'~{path}.{key}'" for key in keys)
    return (
        f"{node.origins[keys[0]]}: {path}: {name} has no argument {unknown}, written for {old} before "
        f"{node.origins['name']} chose {name}; drop it with -o {drop}, or everything written for {old} with "
        f"`_delete_: true` beside the name: {path}: {{_delete_: true, name: {name}}}"
    )


def _holds_nodes(value: Any) -> bool:
    if isinstance(value, ConfigMap):
        return is_node(value) or any(map(_holds_nodes, value.values()))
    return isinstance(value, ConfigList) and any(map(_holds_nodes, value))


def _lookup(config: ConfigMap, path: str) -> Any:
    """Value at a key path, or the value of another type above it, which is reported elsewhere; None if missing."""
    node: Any = config
    for key in path.split("."):
        if not isinstance(node, ConfigMap):
            break
        node = node.get(key)
    return node


def _a(kind: Registry) -> str:
    return f"an {kind.kind}" if kind.kind[0] in "aeiou" else f"a {kind.kind}"


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)
