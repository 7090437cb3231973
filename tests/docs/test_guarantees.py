"""Tests of docs/guarantees.md: every guarantee names an existing test."""

import ast
import re

import pytest

from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
ROWS = [row for row in PAGE.splitlines() if row.startswith("| ") and not row.endswith("| verified by |")]
TESTS = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


def test_every_row_names_a_test():
    assert len(TESTS) == len(ROWS) > 30
    assert all(re.search(r"`tests/\S+::\w+` \|$", row) for row in ROWS)


@pytest.mark.parametrize(("file", "name"), TESTS)
def test_the_named_test_exists(file, name):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
