"""docs/recipe_cae.md says what the configs say."""

import functools
import inspect
import re
from pathlib import Path

from plsc.config import files as config_files
from plsc.config import plugins, schema
from plsc.config.registry import is_node
from plsc.config.tree import parse

ROOT = Path(__file__).parent.parent
DOC = ROOT / "docs" / "recipe_cae.md"


def rows():
    path = None
    for line in DOC.read_text(encoding="utf-8").splitlines():
        found = re.match(r"## .*`(configs/.*\.yaml)`", line)
        path = found[1] if found else (None if line.startswith("## ") else path)
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if path and len(cells) == 4 and cells[1].startswith("`"):
            key, value = cells[1].strip("`"), cells[2].strip("`")
            yield path, key, value


def look_up(tree, key):
    """The value at a key path, or the default of the component or settings that the path leads into."""
    node, kind = tree, schema.SECTIONS
    for part in key.split("."):
        parent, parent_kind = node, kind
        if isinstance(kind, dict):
            kind = kind.get(part)
        elif isinstance(kind, list):
            kind = kind[0]
        node = node[int(part)] if isinstance(node, list) else (node or {}).get(part)
    if node is not None:
        return node
    component = parent_kind.get(parent["name"]) if is_node(parent) else parent_kind
    default = inspect.signature(component).parameters[part].default
    assert default is not inspect.Parameter.empty
    return f"({'null' if default is None else str(default).lower() if isinstance(default, bool) else default})"


def test_the_rows_of_the_recipe_are_the_values_of_the_configs():
    plugins.load_built_in()
    load = functools.lru_cache(maxsize=None)(config_files.load)
    found = [(path, key, value, look_up(load(ROOT / path), key)) for path, key, value in rows()]
    wrong = [row for row in found if row[3] != (row[2] if row[2].startswith("(") else parse(row[2], "doc"))]
    assert len(found) > 70 and wrong == []
