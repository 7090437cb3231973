"""Messages that docs/faq.md quotes are those of the code; the ones in `console` blocks test_commands produces."""

import ast
import re

import pytest

from tests.docs.pages import ROOT, blocks

LEAST = 0.4  # of a quoted message must be literally in the code; the rest are names and numbers


def templates():
    """Every text of the code as a pattern, and how many characters of it are literal."""
    for path in (ROOT / "plsc").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                literal = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                literal = [node.value]
            else:
                continue
            text = "".join(part or "" for part in literal)
            if len(text) >= 12:
                pattern = "".join(".+?" if part is None else re.escape(part) for part in literal)
                yield re.compile(pattern, re.DOTALL), len(text)


@pytest.fixture(scope="module")
def messages():
    return list(templates())


def is_said(text, messages):
    return any(size >= LEAST * len(text) and pattern.search(text) for pattern, size in messages)


def quoted():
    for block in blocks():
        if block.page == "docs/faq.md" and block.language == "text":
            yield block.text.strip()


@pytest.mark.parametrize("text", quoted(), ids=lambda text: text[:40])
def test_the_code_says_so(text, messages):
    assert is_said(text, messages), text


def test_an_invented_message_is_found(messages):
    assert not is_said("the flux capacitor of step 512 is not charged; lower Optimizer.clip_norm", messages)
