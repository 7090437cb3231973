"""Components are asked through their base classes, never guessed with hasattr or getattr with a default."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "plsc"
FOLDERS = ("tasks", "models", "tokenizers", "evaluation", "inference", "report", "planning", "visualize")


def is_probe(node):
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return False
    return node.func.id == "hasattr" or (node.func.id == "getattr" and len(node.args) > 2)


def probes(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [f"{path.relative_to(PACKAGE)}:{node.lineno}" for node in ast.walk(tree) if is_probe(node)]


def test_no_component_is_probed():
    found = [place for folder in FOLDERS for path in sorted((PACKAGE / folder).rglob("*.py")) for place in probes(path)]
    assert found == []
