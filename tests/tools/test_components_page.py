"""Tests of docs/components.md: up to date, and every argument is described."""

import re
import subprocess
import sys

from plsc.cli.listing import KINDS
from plsc.config import plugins
from tools import components_page as tool

ROW = re.compile(r"^\| `(\w+)` \| (.*) \| (\S.*) \| (.*) \|$", re.MULTILINE)


def test_the_committed_page_is_up_to_date():
    """Run in a separate process, because other tests register components."""
    done = subprocess.run([sys.executable, tool.__file__, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_kind_and_argument_is_described():
    text = tool.page()
    assert set(tool.SECTIONS) == set(KINDS)
    for kind, entries in KINDS.items():
        for name in [name for name in entries.names() if entries.get(name).__module__.startswith("plsc.")]:
            part = re.search(rf"^### {name}$(.*?)^#", text, re.MULTILINE | re.DOTALL)[1]
            rows = {key: words for key, _, _, words in ROW.findall(part)}
            assert set(entries.parameters(name)) <= set(rows), f"{kind} {name}"
            assert all(rows.values()), f"{kind} {name}: {[key for key, words in rows.items() if not words]}"
    for section in tool.SETTINGS:
        part = text.split(f"\n### {section}\n")[1].split("\n### ")[0]
        assert [key for key, _, _, words in ROW.findall(part) if not words] == [], section


def test_descriptions_of_a_class_override_those_of_its_bases():
    plugins.load_built_in()
    words = tool.explanations(KINDS["lr_scheduler"].get("WarmupCosine"))
    assert words["min_lr"] == "Learning rate at the end of the run, not scaled by the batch size"
    assert words["learning_rate"] == "Learning rate after the warm-up, above 0"


def test_entries_of_several_lines_and_later_sections():
    class Documented:
        """One line.

        Args:
            first: Something
                longer.
            second: Short.

        Raises:
            ValueError: Never.
        """

    assert tool.explanations(Documented) == {"first": "Something longer", "second": "Short"}


def test_check_detects_an_outdated_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, "PAGE", tmp_path / "components.md")
    assert tool.main([]) == 0
    assert tool.main(["--check"]) == 0
    tool.PAGE.write_text("old", encoding="utf-8")
    assert tool.main(["--check"]) == 1
    assert "docs/components.md is out of date" in capsys.readouterr().err
