"""Tests of the documentation site: its pages, its API reference, and links that lead outside docs/."""

import importlib.util
import re
import subprocess
import sys

import pytest

import plsc
from plsc.config import registry
from tests.docs.pages import PAGES, ROOT, links, name_of, read
from tests.docs.test_pages import own_words
from tests.test_layering import LAYERS

needs_mkdocs = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("mkdocs", "material", "mkdocstrings_handlers")),
    reason="the extra `docs` is not installed",
)
IN_SITE = {"CONTRIBUTING.md", "CHANGELOG.md"}  # of the top-level pages


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def pages_of_site():
    """Paths relative to docs/."""
    return {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")} | IN_SITE


def html_of(page):
    return "index.html" if page == "README.md" else page.replace(".md", ".html")


@needs_mkdocs
def test_every_page_is_in_the_site(site):
    found = {str(path.relative_to(site)) for path in site.rglob("*.html")}
    assert {html_of(page) for page in pages_of_site()} <= found


@needs_mkdocs
def test_nothing_is_loaded_from_other_hosts(site):
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]+src="([^"]+)"', text)
        loaded += re.findall(r'<link[^>]+rel="(?:stylesheet|preconnect|icon)"[^>]+href="([^"]+)"', text)
        assert [target for target in loaded if target.startswith(("http", "//"))] == [], page.name


@needs_mkdocs
def test_links_to_source_files_are_text(site):
    text = (site / "adding_a_method.html").read_text(encoding="utf-8")
    assert "<code>tests/plugins/toy_plugin</code>" in text
    for page in site.glob("*.html"):
        assert 'href="../' not in page.read_text(encoding="utf-8"), page.name


@needs_mkdocs
def test_the_reference_has_signatures_and_docstrings(site):
    text = (site / "api.html").read_text(encoding="utf-8")
    for name in ("plsc.load", "plsc.train", "plsc.config.registry.Registry"):
        assert f'id="{name}"' in text
    assert ":::" not in text


def test_navigation_has_every_page():
    navigation = set(re.findall(r": ([\w/]+\.md)$", read("mkdocs.yml"), re.MULTILINE))
    assert navigation == pages_of_site()


def test_index_has_the_order_of_the_navigation():
    navigation = re.findall(r": ([\w/]+\.md)$", read("mkdocs.yml"), re.MULTILINE)
    assert [target.removeprefix("../") for target in links("docs/README.md")] == navigation[1:]


def test_reference_has_every_public_name():
    page = read("docs/api.md")
    members = {name for names in re.findall(r"members: \[([^\]]+)\]", page) for name in names.split(", ")}
    registries = {name for name, value in vars(registry).items() if isinstance(value, registry.Registry)}
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == registries
    assert set(plsc.__all__) - {"__version__"} - registries <= members


def test_architecture_has_every_folder_and_layer():
    page = read("docs/architecture.md")
    rows = re.findall(r"^\| (\d) \| (.+) \|$", page, re.MULTILINE)
    assert [re.findall(r"`(\w+)`", parts) for _, parts in rows] == LAYERS[::-1]
    folders = {path.parent.name for path in (ROOT / "plsc").glob("*/__init__.py")}
    assert folders <= set(re.findall(r"^\| `plsc/(\w+)` \|", page, re.MULTILINE))


def test_files_that_pages_name_exist():
    for page in PAGES:
        name = name_of(page)
        for path in re.findall(r"`((?:plsc|tests|tools|docs|configs/\w+)/[\w/-]+\.\w+)`", own_words(name)):
            assert (ROOT / path).exists(), f"{name}: {path}"
