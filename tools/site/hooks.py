"""Hooks of mkdocs: pages from outside docs/, and links to source files as plain text."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent.parent
TOP_LEVEL_PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(\.\./([^)#]+)(#[^)]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the top-level pages to the site, with links relative to docs/."""
    for name in TOP_LEVEL_PAGES:
        text = (ROOT / name).read_text(encoding="utf-8")
        text = re.sub(r"\]\((?!https?://|#|docs/)([^)]+)\)", r"](../\1)", text).replace("](docs/", "](")
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace links that lead outside docs/."""
    return LINK.sub(_as_text, markdown)


def _as_text(link: "re.Match[str]") -> str:
    text, path, anchor = link[1], link[2], link[3] or ""
    if path in TOP_LEVEL_PAGES:
        return f"[{text}]({path}{anchor})"
    is_path = " " not in text
    return f"`{path}`" if is_path else f"{text} (`{path}`)"
