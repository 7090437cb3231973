"""What docs/configuration.md and docs/adding_a_method.md show is what there is."""

import re
import shlex
from pathlib import Path

import pytest

from plsc import runtime, schema
from plsc.cli import main

ROOT = Path(__file__).resolve().parent.parent
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
PLANNING = (ROOT / "docs" / "planning.md").read_text(encoding="utf-8")
METHOD = (ROOT / "docs" / "adding_a_method.md").read_text(encoding="utf-8")
FILES = [path for path in (ROOT / "tests" / "plugins" / "toy_plugin").rglob("*.*") if path.suffix != ".pyc"]
PLUGIN = "\n".join(path.read_text(encoding="utf-8") for path in FILES if path.is_file())


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def without_layout(text):
    """Line numbers and columns move with every edit of a config; the rest must be what is shown."""
    return re.sub(r"(\.yaml):\d+", r"\1", re.sub(" +", " ", text))


@pytest.mark.parametrize("block", blocks(CONFIGURATION, "console") + blocks(PLANNING, "console"))
def test_commands_print_what_is_shown(block, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(runtime, "setup", lambda num_threads=None: {})
    command, _, shown = block.partition("\n")
    _, script, *arguments = shlex.split(command[len("$ ") :])
    main([Path(script).stem, *arguments])
    printed = "".join(capsys.readouterr())
    for part in shown.split("...\n"):
        assert without_layout(part) in without_layout(printed)


def test_every_section_is_explained():
    explained = {name.split(".")[0] for name in re.findall(r"`([\w.]+)`", CONFIGURATION)}
    assert set(schema.SECTIONS) <= explained


@pytest.mark.parametrize("block", blocks(METHOD, "python") + blocks(METHOD, "yaml") + blocks(METHOD, "toml"))
def test_the_example_method_is_quoted_as_it_is(block):
    assert block in PLUGIN
