"""Components of plug-ins: `imports:` and entry points."""

import sys
from importlib import metadata

import pytest

from plsc.config import plugins
from plsc.config.tree import ConfigError, ConfigMap, parse


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """An empty folder on the search path; modules imported from it are removed after the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(plugins, "load_built_in", lambda: None)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def install(folder, name, target):
    """Create the metadata of an installed package with an entry point."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[plsc.plugins]\n{name} = {target}\n", encoding="utf-8")


def test_installed_plug_ins_are_imported(packages):
    (packages / "good_method.py").write_text("", encoding="utf-8")
    install(packages, "good", "good_method")
    plugins.load(ConfigMap())
    assert "good_method" in sys.modules


def test_a_broken_plug_in_is_named(packages):
    (packages / "broken_method.py").write_text("1 / 0", encoding="utf-8")
    install(packages, "broken", "broken_method")
    with pytest.raises(ConfigError, match=r"plug-in 'broken' \(broken_method\) cannot.*ZeroDivision.*uninstall its"):
        plugins.load(ConfigMap())


def test_entry_points_in_the_format_of_python_3_9(monkeypatch):
    entry = metadata.EntryPoint("old", "old_method", "plsc.plugins")
    monkeypatch.setattr(sys, "version_info", (3, 9))
    monkeypatch.setattr(metadata, "entry_points", lambda: {"plsc.plugins": [entry], "other": []})
    assert list(plugins._entry_points()) == [entry]


def test_imports_of_the_config(packages):
    (packages / "my_method.py").write_text("", encoding="utf-8")
    plugins.load(parse("imports: [my_method]", "x.yaml"))
    assert "my_method" in sys.modules


def test_imports_are_found_in_the_current_folder(packages, monkeypatch):
    here = packages / "project"
    here.mkdir()
    (here / "local_method.py").write_text("", encoding="utf-8")
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    plugins.load(parse("imports: [local_method]", "x.yaml"))
    assert "local_method" in sys.modules


def test_every_failed_import_is_reported_with_its_origin(packages):
    (packages / "faulty.py").write_text("raise RuntimeError('no')", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        plugins.load(parse("imports:\n- faulty\n- not_there\n", "x.yaml"))
    first, second = caught.value.problems
    assert first == "x.yaml:2: imports: 'faulty' cannot be imported: RuntimeError('no')"
    assert second.startswith("x.yaml:3: imports: 'not_there' cannot be imported: ModuleNotFoundError")
    assert second.endswith("install it, run plsc in its folder, or add that folder to PYTHONPATH")


@pytest.mark.parametrize("text", ["imports: null", "imports: os", "imports: [3]", "{}"])
def test_a_wrong_imports_section_is_reported_by_the_schema(packages, text):
    plugins.load(parse(text, "x.yaml"))
