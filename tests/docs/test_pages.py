"""What the pages point at is there: links, anchors, keys of configs, options of tools, the reading order."""

import re

import pytest

from plsc.cli import VERBS
from plsc.cli.listing import KINDS
from plsc.config import plugins, schema
from plsc.config.registry import TASKS, Registry
from plsc.tasks import Task
from tests.docs.pages import PAGES, ROOT, anchors, links, name_of, prose, read
from tests.docs.toy import verb_of

NAMES = [name_of(page) for page in PAGES]
KEY = re.compile(rf"`((?:{'|'.join(schema.SECTIONS)})(?:\.[\w*-]+)+)(?:[:=][^`]*)?`")


@pytest.mark.parametrize("page", NAMES)
def test_links_lead_somewhere(page):
    for target in links(page):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        found = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert found.exists(), f"{page} links {target}, which is not there"
        if anchor:
            assert anchor in anchors(name_of(found)), f"{page} links {target}, which has no such heading"


def test_every_page_is_in_the_reading_order():
    assert {name for name in NAMES if name.startswith("docs/")} - {"docs/README.md"} <= {
        f"docs/{target}" for target in links("docs/README.md")
    }
    assert "docs/README.md" in links("README.md")


def own_words(page):
    """The prose of a page; without the first column of tables where that is another project's."""
    foreign = page.startswith("docs/coming_from")
    return re.sub(r"^\|[^|]*\|", "|", prose(page), flags=re.MULTILINE) if foreign else prose(page)


def exists(kind, path):
    """Whether a key path leads to something: a section, a setting, an argument of any component of the kind."""
    return leads_somewhere(kind, path.split("."))


def leads_somewhere(kind, parts):
    if not parts or (kind is TASKS and hasattr(Task, parts[0])):  # a method
        return True
    if isinstance(kind, list):
        return (parts[0].isdigit() and leads_somewhere(kind[0], parts[1:])) or leads_somewhere(kind[0], parts)
    if isinstance(kind, Registry):
        known = any(parts[0] in kind.parameters(name) for name in kind.names())
        return (parts[0] == "name" or known) and leads_somewhere(kind, parts[1:])
    if isinstance(kind, dict):
        return parts[0] in kind and leads_somewhere(kind[parts[0]], parts[1:])
    return len(parts) == 1 and parts[0] in getattr(kind, "__dataclass_fields__", {})


@pytest.mark.parametrize("page", NAMES)
def test_keys_are_those_of_a_config(page):
    plugins.load_built_in()
    wrong = [key for key in KEY.findall(own_words(page)) if not exists(schema.SECTIONS, key)]
    assert wrong == [], f"{page} names keys that no config can have"


def test_components_in_the_text_are_there():
    plugins.load_built_in()
    known = {name for kind in KINDS.values() for name in kind.names()}
    for page in NAMES:
        assert set(re.findall(r"\{name: (\w+)", prose(page))) <= known, page


def test_an_unknown_key_is_found():
    plugins.load_built_in()
    assert exists(schema.SECTIONS, "DataLoader.Train.transforms.1.scale")
    assert exists(schema.SECTIONS, "Model.encoder.depth")
    assert not exists(schema.SECTIONS, "Model.encoder.detph")
    assert not exists(schema.SECTIONS, "Global.epoch")


@pytest.mark.parametrize("page", NAMES)
def test_tools_and_options_in_the_text_are_there(page, cli):
    for text in re.findall(r"`(?:python )?tools/(\w+\.(?:py|sh)[^`]*)`", own_words(page)):
        script, *words = text.split()
        assert (ROOT / "tools" / script).is_file(), f"{page}: tools/{script}"
        verb, options = verb_of(script), [word.split("=")[0] for word in words if word.startswith("-")]
        if verb in VERBS and options:
            _, shown, _ = cli(verb, "--help")
            assert set(options) <= set(re.findall(r"(?<!\S)--?[\w-]+", shown)), f"{page}: {text}"


@pytest.mark.parametrize("page", NAMES)
def test_verbs_and_their_options_in_the_text_exist(page, cli):
    for verb, options in re.findall(r"`plsc ([a-z][\w-]*)([^`]*)`", own_words(page)):
        assert verb in VERBS, f"{page}: plsc {verb}"
        _, shown, _ = cli(verb, "--help")
        named = {word.split("=")[0] for word in options.split() if word.startswith("-")}
        assert named <= set(re.findall(r"(?<!\S)--?[\w-]+", shown)), f"{page}: plsc {verb}{options}"


def test_every_section_is_explained():
    explained = {name.split(".")[0] for name in re.findall(r"`([\w.]+)`", read("docs/configuration.md"))}
    assert set(schema.SECTIONS) <= explained
