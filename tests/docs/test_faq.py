"""Messages quoted in docs/faq.md exist in the code; test_commands produces those in `console` blocks."""

import ast
import re

import pytest

from tests.docs.pages import ROOT, blocks

LEAST = 0.4  # fraction of a quoted message that must be literal text in the code; the rest are names and numbers


def templates():
    """Yield every string of the code as a pattern, and its number of literal characters."""
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
def test_a_quoted_message_exists_in_the_code(text, messages):
    assert is_said(text, messages), text


def test_an_invented_message_is_detected(messages):
    assert not is_said("the flux capacitor of step 512 is not charged; lower Optimizer.clip_norm", messages)
