"""Hooks of mkdocs: pages from outside docs/, and links to source files as plain text."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent.parent
TOP_LEVEL_PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)#]+)(#[^)]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the top-level pages to the site, with links relative to docs/."""
    for name in TOP_LEVEL_PAGES:
        text = (ROOT / name).read_text(encoding="utf-8")
        text = re.sub(r"\]\((?!https?://|#|docs/)([^)]+)\)", r"](../\1)", text).replace("](docs/", "](")
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace links that lead outside docs/, as the site has no source files and no repository to link to."""
    folder = posixpath.dirname(page.file.src_uri)

    def replaced(link: "re.Match[str]") -> str:
        text, anchor = link[1], link[3] or ""
        target = posixpath.normpath(posixpath.join("docs", folder, link[2]))
        if target.startswith("docs/"):
            return link[0]
        if target in TOP_LEVEL_PAGES:
            return f"[{text}]({posixpath.relpath(target, folder or '.')}{anchor})"
        return f"{text} (`{target}`)" if " " in text else f"`{target}`"

    return LINK.sub(replaced, markdown)
