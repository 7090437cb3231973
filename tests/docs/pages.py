"""Headings, links, code blocks and commands of README.md, the other top-level pages and docs/."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

ROOT = Path(__file__).resolve().parent.parent.parent
TOP_LEVEL = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"]
PAGES = [*(ROOT / name for name in TOP_LEVEL), *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)$")
NAMED = re.compile(r"# ([\w./-]+\.(?:py|yaml|txt))(?:\s.*)?\n")  # the first line of a block that is a whole file


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language, its text."""

    page: str
    section: str
    language: str
    text: str

    @property
    def file(self) -> str:
        """The name of the file that the block is, from its first line; empty if it is a part of something."""
        named = NAMED.match(self.text)
        return named[1] if named else ""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks() -> List[Block]:
    """Every fenced block of every page, in order."""
    return [block for page in PAGES for block in _blocks(name_of(page))]


def _blocks(page: str) -> Iterator[Block]:
    section, language, lines = "", None, []
    for line in read(page).splitlines():
        fence = FENCE.match(line)
        if fence and language is None:
            language, lines = fence[1], []
        elif fence:
            yield Block(page, section, language, "\n".join(lines) + "\n")
            language = None
        elif language is not None:
            lines.append(line)
        elif line.startswith("#"):
            section = line.lstrip("# ")


def prose(page: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)


def anchors(page: str) -> List[str]:
    """The anchors that GitHub gives the headings of a page."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def links(page: str) -> List[str]:
    """The targets of a page's links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def commands(block: Block) -> List[str]:
    """The command lines of an `sh` block, continued lines joined, comments left out."""
    lines = re.sub(r"\s*\\\n\s*", " ", block.text).splitlines()
    return [re.sub(r"  +# .*", "", line) for line in lines if line.strip() and not line.startswith("#")]


def shown(block: Block) -> Tuple[str, str]:
    """The command of a `console` block and what it is said to print."""
    first, _, printed = block.text.partition("\n")
    assert first.startswith("$ "), block
    return first[len("$ ") :], printed


def by_section() -> Dict[Tuple[str, str], List[Block]]:
    """The blocks of each section, by page and heading."""
    sections: Dict[Tuple[str, str], List[Block]] = {}
    for block in blocks():
        sections.setdefault((block.page, block.section), []).append(block)
    return sections
