#!/usr/bin/env python
"""Writes docs/components.md: every registered component and every section of settings, from the code itself.

python tools/components_page.py           # after a change of a signature, a docstring or plsc/config/settings.py
python tools/components_page.py --check   # exit code 1 if the page is not what the code says
"""

import argparse
import inspect
import re
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from plsc.cli.listing import KINDS  # noqa: E402
from plsc.config import plugins, schema  # noqa: E402
from plsc.config.annotations import annotations_of, expected  # noqa: E402
from plsc.config.tree import one_line  # noqa: E402

PAGE = ROOT / "docs" / "components.md"
HEAD = """# Components and settings

Written by `tools/components_page.py` from signatures, docstrings and `plsc/config/settings.py`; do not edit by hand.
How a config names components is in [configuration.md](configuration.md); `plsc train --list KIND` prints the
same in short, with components of your own among them.
"""
SECTIONS = {
    "task": "Task",
    "model": "Model",
    "tokenizer": "Tokenizer",
    "mask_generator": "MaskGenerator",
    "loss": "Loss",
    "dataset": "DataLoader.Train.dataset",
    "transform": "DataLoader.Train.transforms",
    "batch_transform": "DataLoader.Train.batch_transforms",
    "optimizer": "Optimizer",
    "lr_scheduler": "LRScheduler",
    "metric": "Metric",
    "callback": "Callbacks",
}
SETTINGS = ("Global", "Init", "AMP", "EMA", "DistributedStrategy", "DataLoader.Train.loader")
Row = Tuple[str, str, str, str]


def main(argv: Optional[List[str]] = None) -> int:
    """Writes the page, or compares it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    text = page()
    if not parser.parse_args(argv).check:
        PAGE.write_text(text, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != text:
        print("docs/components.md is not what the code says; run python tools/components_page.py", file=sys.stderr)
        return 1
    return 0


def page() -> str:
    """The whole page as Markdown."""
    plugins.load_built_in()
    parts = [HEAD, "\n".join(_contents()) + "\n"]
    for kind, section in SECTIONS.items():
        parts.append(f"## {_title(kind)}\n\nSection `{section}`.\n")
        parts += [_component(kind, name) for name in KINDS[kind].names()]
    parts.append("## Settings\n\nSections of plain values, without `name`.\n")
    parts += [_settings(section) for section in SETTINGS]
    return "\n".join(parts)


def explanations(component: Any) -> Dict[str, str]:
    """What the docstrings of a class and of its bases say about arguments, by name; the class itself wins."""
    found: Dict[str, str] = {}
    for owner in reversed(getattr(component, "__mro__", [component])):
        found.update(_arguments(owner.__doc__))
    return found


def _contents() -> Iterator[str]:
    for kind in SECTIONS:
        names = ", ".join(f"[{name}](#{name.lower()})" for name in KINDS[kind].names())
        yield f"- [{_title(kind)}](#{_title(kind).lower().replace(' ', '-')}): {names}"
    links = ", ".join(f"[{section}](#{section.lower().replace('.', '')})" for section in SETTINGS)
    yield f"- [Settings](#settings): {links}"


def _title(kind: str) -> str:
    words = kind.replace("lr_scheduler", "learning-rate schedule").replace("_", " ")
    return words[0].upper() + words[1:] + ("es" if words.endswith("loss") else "s")


def _component(kind: str, name: str) -> str:
    component = KINDS[kind].get(name)
    words, types = explanations(component), annotations_of(component)
    sections = {argument: f"the section `{section}`" for section, argument in schema.TASK_ARGUMENTS.items()}
    rows = [
        (key, expected(types[key]) if key not in sections else sections[key], _default(p.default), words.get(key, ""))
        for key, p in inspect.signature(component).parameters.items()
        if key not in KINDS[kind].runtime or kind == "task"
    ]
    where = component.__module__.replace(".", "/") + ".py"
    text = inspect.cleandoc(component.__doc__ or "")
    prose = re.split(r"^(?:Args|Raises|Attributes|Returns):$", text, maxsplit=1, flags=re.MULTILINE)[0].strip()
    return f"### {name}\n\n{prose}\n\n{_table(rows)}Source: [{where}](../{where})\n"


def _settings(section: str) -> str:
    settings: Any = schema.SECTIONS
    for key in section.split("."):
        settings = settings[key]
    comments = dict(re.findall(r"^    (\w+): .*?  # (.*)$", inspect.getsource(settings), re.MULTILINE))
    types = annotations_of(settings)
    rows = [
        (field.name, expected(types[field.name]), _default(_default_of(field)), comments.get(field.name, ""))
        for field in fields(settings)
    ]
    return f"### {section}\n\n{settings.__doc__}\n\n{_table(rows)}".rstrip() + "\n"


def _default_of(field: Any) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is MISSING else field.default


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return "required"
    return f"`{one_line(list(value) if isinstance(value, tuple) else value)}`"


def _table(rows: List[Row]) -> str:
    if not rows:
        return "No arguments.\n\n"
    lines = [f"| `{key}` | {kind} | {default} | {words} |" for key, kind, default, words in rows]
    return "\n".join(["| argument | type | default | |", "|---|---|---|---|", *lines]) + "\n\n"


def _arguments(docstring: Optional[str]) -> Dict[str, str]:
    """The entries below `Args:` in a docstring, each on one line."""
    text = inspect.cleandoc(docstring or "")
    section = re.search(r"^Args:\n((?:(?: +.*)?\n?)*)", text, re.MULTILINE)
    if section is None:
        return {}
    entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section[1], re.MULTILINE)
    return {name: " ".join(words.split()).rstrip(".") for name, words in entries}


if __name__ == "__main__":
    sys.exit(main())
