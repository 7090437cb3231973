"""Interfaces are base classes with defaults; the code that uses a component never guesses what it has."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "plsc"


def probes(source):
    """Yield (line, name) of every call of `hasattr`, and of `getattr` with a default."""
    for node in ast.walk(ast.parse(source)):
        name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        if name == "hasattr" or (name == "getattr" and len(node.args) > 2):
            yield node.lineno, name


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("hasattr(task, 'a')", ["hasattr"]),
        ("x = getattr(task, 'a', None)", ["getattr"]),
        ("getattr(run, key) + task.hasattr('a')", []),
    ],
)
def test_probes_are_found(source, found):
    assert [name for _, name in probes(source)] == found


def test_no_probes_in_engine_and_benchmark():
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {name}"
        for folder in ("engine", "benchmark")
        for path in sorted((PACKAGE / folder).rglob("*.py"))
        for line, name in probes(path.read_text(encoding="utf-8"))
    ]
    assert found == []
