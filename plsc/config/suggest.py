"""Suggestions for keys and components that do not exist."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Sequence

from plsc.config.registry import Registry, is_node

# Name in other tools -> key path in plsc.
KNOWN_AS = {
    "pretrained_model": "Init.checkpoint",
    "pretrained": "Init.checkpoint",
    "finetune": "Init.checkpoint",
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
_TYPO, _SIMILAR = 0.8, 0.6


def nearest(word: str, known: Iterable[str], cutoff: float = _SIMILAR) -> str:
    """Return the known word most similar to `word`, regardless of case; empty if none is similar."""
    by_lower = {item.lower(): item for item in known}
    near = difflib.get_close_matches(word.lower(), by_lower, 1, cutoff)
    return by_lower[near[0]] if near else ""


def suggest_key(key: str, valid: Sequence[str], path: str, elsewhere: Iterable[str]) -> str:
    """Return a suggestion for an unknown key.

    Args:
        key: The unknown key.
        valid: The keys that are valid at this place.
        path: Key path of the unknown key.
        elsewhere: All key paths that the config could contain.
    """
    typo = nearest(key, valid, _TYPO)
    if typo:
        return f"did you mean {typo!r}?"
    if KNOWN_AS.get(key, path) != path:
        return f"did you mean {KNOWN_AS[key]}?"
    places = _places(key, path, list(dict.fromkeys(elsewhere)))
    if places:
        return f"did you mean {' or '.join(places[:2])}?"
    similar = nearest(key, valid)
    return f"did you mean {similar!r}?" if similar else f"valid here: {', '.join(valid) or 'nothing'}"


def _places(key: str, path: str, elsewhere: List[str]) -> List[str]:
    """Return other key paths that end in `key` or in a similar word, those of the same section first."""
    by_last: Dict[str, List[str]] = {}
    for place in elsewhere:
        if place != path:
            by_last.setdefault(place.rsplit(".", 1)[-1], []).append(place)
    found = by_last.get(key) or by_last.get(nearest(key, by_last, _TYPO), [])
    section = path.split(".")[0] + "."
    return sorted(found, key=lambda place: not place.startswith(section))


def key_paths(config: Any, schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield every key path that `config` could contain, given the components it names; where it names none, of all."""
    for section, part in schema.items():
        here = f"{path}.{section}" if path else section
        value = config.get(section) if isinstance(config, Mapping) else None
        yield here
        if isinstance(part, dict):
            yield from key_paths(value, part, here)
        elif isinstance(part, Registry):
            yield from _component_paths(value, part, here)
        elif isinstance(part, list):
            for index, item in enumerate(value if isinstance(value, list) else []):
                yield from _component_paths(item, part[0], f"{here}.{index}")
        elif dataclasses.is_dataclass(part):
            yield from (f"{here}.{field.name}" for field in dataclasses.fields(part))


def _component_paths(node: Any, kind: Registry, path: str) -> Iterator[str]:
    named = is_node(node) and node["name"] in kind
    for name in [node["name"]] if named else kind.names():
        yield from (f"{path}.{key}" for key in kind.parameters(name))
    for key, value in node.items() if isinstance(node, Mapping) else ():
        if is_node(value):
            yield from _component_paths(value, kind, f"{path}.{key}")


def suggest_component(name: Any, kind: Registry, others: Iterable[Registry]) -> str:
    """Return a suggestion for an unknown component name."""
    registered = f"registered: {', '.join(kind.names()) or 'none'}"
    near = nearest(str(name), kind.names())
    owner = next((other for other in others if name in other), None)
    if near:
        return f"did you mean {near!r}? {registered}"
    if owner is not None:
        return f"it is a {owner.kind}; {registered}"
    return f"{registered}; list the modules of your own components in `imports: [module]`"
