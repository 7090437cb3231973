"""Which sections a config has, and the check of a whole config against the components it names.

`check(config)` looks at every node before anything is built, and reports all problems at once, each with the place
where the value was written and the nearest valid name.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from typing import Any, Dict, Iterator, List, Mapping, Optional, Union

from plsc import registry, settings
from plsc.registry import Registry
from plsc.typecheck import annotations_of, mismatch
from plsc.yaml_tree import ConfigError, ConfigList, ConfigMap, type_name

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
TASK_ARGUMENTS = {"Model": "model", "Tokenizer": "tokenizer", "Loss": "loss"}

# What other tools call it -> where it is here.
KNOWN_AS = {
    "pretrained_model": "Init.checkpoint",
    "pretrained": "Init.checkpoint",
    "finetune": "Init.checkpoint",
    "checkpoint": "Init.checkpoint",
    "lr": "LRScheduler.learning_rate",
    "blr": "LRScheduler.learning_rate",
    "batch_size": "DataLoader.Train.loader.batch_size",
    "num_workers": "DataLoader.Train.loader.num_workers",
    "data_path": "DataLoader.Train.dataset.root",
    "accum_iter": "Global.accumulate_steps",
    "clip_grad": "Optimizer.clip_norm",
    "model_ema": "EMA.decay",
    "max_steps": "Global.steps",
    "epoch": "Global.epochs",
}


def check(config: ConfigMap) -> None:
    """Checks every section, component, argument and type of `config`.

    Raises:
        ConfigError: With one message for each problem, in the order of the file.
    """
    problems = list(_check_sections(config, SECTIONS, ""))
    problems += _check_required(config)
    if problems:
        raise ConfigError(problems)


def read_settings(config: ConfigMap, section: str) -> Any:
    """A checked section of plain values as its dataclass; defaults if the config does not have it."""
    node: Any = config
    schema: Any = SECTIONS
    for key in section.split("."):
        node, schema = (node or {}).get(key), schema[key]
    return schema(**(node or {}))


def _check_sections(node: ConfigMap, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    for key, value in node.items():
        here, origin = _join(path, key), node.origins[key]
        if key not in schema:
            kind = "section" if not path else "part"
            yield f"{origin}: {here}: there is no {kind} {key!r}; {_suggest(key, schema, here)}"
        elif value is not None:
            yield from _check_value(value, schema[key], here, origin)


def _check_value(value: Any, schema: Any, path: str, origin: Any) -> Iterator[str]:
    if isinstance(schema, Registry):
        yield from _check_node(value, schema, path, origin)
    elif isinstance(schema, list):
        yield from _check_list(value, schema[0], path, origin)
    elif isinstance(schema, dict):
        if isinstance(value, ConfigMap):
            yield from _check_sections(value, schema, path)
        else:
            yield f"{origin}: {path}: expected the parts {', '.join(schema)}, got {type_name(value)}"
    elif dataclasses.is_dataclass(schema):
        if isinstance(value, ConfigMap):
            parameters = dict(inspect.signature(schema).parameters)
            yield from _check_arguments(value, schema, parameters, path, origin, None)
        else:
            yield f"{origin}: {path}: expected a mapping, got {type_name(value)}"
    else:
        problem = mismatch(value, schema)
        if problem:
            yield f"{origin}: {path}: {problem}"


def _check_list(value: Any, kind: Registry, path: str, origin: Any) -> Iterator[str]:
    if not isinstance(value, ConfigList):
        yield f"{origin}: {path}: expected a list of {kind.kind} nodes, got {type_name(value)}"
        return
    for index, item in enumerate(value):
        yield from _check_node(item, kind, f"{path}.{index}", value.origins[index])


def _check_node(node: Any, kind: Registry, path: str, origin: Any) -> Iterator[str]:
    if not isinstance(node, ConfigMap) or "name" not in node:
        got = f"a mapping with the keys {', '.join(node)}" if isinstance(node, ConfigMap) else type_name(node)
        yield f"{origin}: {path}: expected a {kind.kind}, {{name: ...}}, got {got}"
        return
    name, origin = node["name"], node.origins["name"]
    if not isinstance(name, str) or name not in kind:
        near = difflib.get_close_matches(str(name), kind.names(), 1, 0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        yield f"{origin}: {path}.name: no {kind.kind} is called {name!r}; {hint}there is: {', '.join(kind.names())}"
        return
    yield from _check_arguments(node, kind.get(name), kind.parameters(name), path, origin, kind)


def _check_arguments(
    node: ConfigMap,
    component: Any,
    parameters: Mapping[str, inspect.Parameter],
    path: str,
    origin: Any,
    kind: Optional[Registry],
) -> Iterator[str]:
    name = component.__name__
    annotations = annotations_of(component)
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    for key, value in node.items():
        here, place = _join(path, key), node.origins[key]
        if key == "name" and kind is not None:
            continue
        if kind is not None and key in kind.runtime:
            yield f"{place}: {here}: {name} gets {key!r} from the engine; remove it from the config"
        elif key not in parameters and not open_ended:
            yield f"{place}: {here}: {name} has no argument {key!r}; {_suggest(key, parameters, here)}"
        elif key in parameters:
            yield from _check_argument(value, annotations.get(key, Any), here, place, kind)
    for key, parameter in parameters.items():
        variadic = parameter.kind in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        if parameter.default is inspect.Parameter.empty and key not in node and not variadic:
            yield f"{origin}: {_join(path, key)}: {name} needs the argument {key!r}"


def _check_argument(value: Any, annotation: Any, path: str, origin: Any, kind: Optional[Registry]) -> Iterator[str]:
    if kind is not None and registry.is_node(value):
        yield from _check_node(value, kind, path, origin)
    elif kind is not None and isinstance(value, ConfigList) and any(registry.is_node(item) for item in value):
        yield from _check_list(value, kind, path, origin)
    else:
        problem = mismatch(value, annotation)
        if problem:
            yield f"{origin}: {path}: {problem}"


def _check_required(config: ConfigMap) -> Iterator[str]:
    for path in REQUIRED:
        node: Any = config
        for key in path.split("."):
            node = node.get(key) if isinstance(node, ConfigMap) else None
        if node is None:
            yield f"{config.origin.source}: {path}: the config does not say; every run needs this section"
    task = config.get("Task")
    if not registry.is_node(task) or task["name"] not in registry.TASKS:
        return
    name = task["name"]
    accepted = inspect.signature(registry.TASKS.get(name)).parameters
    for section, argument in TASK_ARGUMENTS.items():
        given = config.get(section) is not None
        if given and argument not in accepted:
            yield f"{config.origins[section]}: {section}: the task {name} takes no {argument}; remove the section"
        elif not given and argument in accepted and accepted[argument].default is inspect.Parameter.empty:
            yield f"{task.origins['name']}: {section}: the task {name} needs this section"


def _suggest(key: str, valid: Mapping[str, Any], path: str) -> str:
    near = difflib.get_close_matches(key, list(valid), 1, 0.7)
    if near:
        return f"did you mean {near[0]!r}?"
    if key in KNOWN_AS:
        return f"did you mean {KNOWN_AS[key]}?"
    elsewhere = [place for place in _places(key) if place != path]
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere[:2])}?"
    near = difflib.get_close_matches(key, list(valid), 1, 0.5)
    return f"did you mean {near[0]!r}?" if near else f"valid here: {', '.join(sorted(valid)) or 'nothing'}"


def _places(key: str) -> List[str]:
    """The key paths at which some section or component takes `key`."""
    return [path for path, keys in _all_keys(SECTIONS, "") if key in keys]


def _all_keys(schema: Mapping[str, Any], path: str) -> Iterator[tuple]:
    for section, part in schema.items():
        here = _join(path, section)
        if isinstance(part, dict):
            yield from _all_keys(part, here)
        elif isinstance(part, Registry):
            for name in part.names():
                yield from ((f"{here}.{key}", {key}) for key in part.parameters(name))
        elif dataclasses.is_dataclass(part):
            yield from ((f"{here}.{key}", {key}) for key in inspect.signature(part).parameters)
    yield from ((_join(path, section), {section}) for section in schema)


def _join(path: str, key: Union[str, int]) -> str:
    return f"{path}.{key}" if path else str(key)
