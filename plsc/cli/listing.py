"""What is registered: names, signatures and one line of help, for `--list`."""

from __future__ import annotations

import difflib
import inspect
from typing import Dict, Iterator

from plsc import registry
from plsc.registry import Registry
from plsc.yaml_tree import ConfigError

KINDS: Dict[str, Registry] = {
    "task": registry.TASKS,
    "model": registry.MODELS,
    "tokenizer": registry.TOKENIZERS,
    "mask_generator": registry.MASK_GENERATORS,
    "loss": registry.LOSSES,
    "dataset": registry.DATASETS,
    "transform": registry.TRANSFORMS,
    "batch_transform": registry.BATCH_TRANSFORMS,
    "optimizer": registry.OPTIMIZERS,
    "lr_scheduler": registry.LR_SCHEDULERS,
    "metric": registry.METRICS,
    "callback": registry.CALLBACKS,
}


def listing(kind: str) -> str:
    """The components of a kind as text; `all` for every kind.

    Raises:
        ConfigError: If there is no such kind.
    """
    wanted = kind.lower().replace("-", "_")
    if wanted not in KINDS and wanted.endswith("s"):
        wanted = wanted[:-1] if not wanted.endswith("sses") else wanted[:-2]
    if kind != "all" and wanted not in KINDS:
        near = difflib.get_close_matches(wanted, KINDS, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"--list {kind}: no such kind; {hint}there is: all, {', '.join(KINDS)}")
    chosen = KINDS if kind == "all" else {wanted: KINDS[wanted]}
    return "\n".join(line for name, entries in chosen.items() for line in _section(name, entries))


def _section(name: str, entries: Registry) -> Iterator[str]:
    yield f"# {name}"
    for component in entries.names():
        arguments = ", ".join(_argument(p) for p in entries.parameters(component).values())
        doc = (inspect.getdoc(entries.get(component)) or "").split("\n")[0]
        yield f"{component}({arguments})\n    {doc}"


def _argument(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return parameter.name
    return f"{parameter.name}={parameter.default!r}"
