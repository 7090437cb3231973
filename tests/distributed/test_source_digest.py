"""Checksums of every file of plsc and of the plug-ins of a run."""

import importlib
import sys
import zlib
from pathlib import Path

import plsc
from plsc.distributed import source_digest


def test_every_file_of_the_package():
    found = source_digest.source_digests()
    package = Path(plsc.__file__).parent
    assert set(found) == {path.relative_to(package.parent).as_posix() for path in package.rglob("*.py")}
    path = package / "engine" / "run.py"
    assert found["plsc/engine/run.py"] == f"{zlib.crc32(path.read_bytes()):08x}"


def test_plug_ins_with_what_they_import(tmp_path, monkeypatch):
    files = {
        "digest_single.py": "import digest_beside\n",
        "digest_beside.py": "",
        "digest_unused.py": "",
        "digest_package/__init__.py": "",
        "digest_package/parts.py": "from digest_package.deep import more\n",
        "digest_package/deep/__init__.py": "",
        "digest_package/deep/more.py": "",
        "digest_package/unused.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    for name in ("digest_single", "digest_package.parts"):
        importlib.import_module(name)
    before = source_digest.source_digests(["digest_single"])
    assert {name for name in before if name.startswith("digest")} == {"digest_single.py", "digest_beside.py"}
    package = source_digest.source_digests(["digest_package.parts"])
    assert sorted(name for name in package if name.startswith("digest")) == [
        "digest_package.py", "digest_package/deep.py", "digest_package/deep/more.py", "digest_package/parts.py",
    ]  # fmt: skip
    (tmp_path / "digest_beside.py").write_text("VALUE = 1\n", encoding="utf-8")
    after = source_digest.source_digests(["digest_single"])
    assert {name for name in after if after[name] != before[name]} == {"digest_beside.py"}
