"""Commands replace only files written by plsc, completely or not at all; other files are kept."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint import replace
from plsc.checkpoint.reader import Checkpoint, find_newest
from plsc.inference import export as exporting
from tests.checkpoint.test_files import names, save
from tests.faults.scenes import arguments

THESIS = "the only copy"


def snapshot(folder):
    """Content of every file and link below a folder, without following links."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        name = str(path.relative_to(folder))
        found[name] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found


@pytest.fixture
def place(tmp_path, toy_runs):
    """A working directory `here`, next to a run `run` and a foreign folder `papers`."""
    shutil.copytree(toy_runs.classifier, tmp_path / "run")
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.tex").write_text(THESIS, encoding="utf-8")
    (tmp_path / "here").mkdir()
    return tmp_path


def linked(path, target):
    path.symlink_to(target)
    return path


def mixed(folder):
    """A checkpoint directory that contains a foreign file."""
    save(folder, 0)
    (folder / "step_00000000" / "notes.txt").write_text(THESIS, encoding="utf-8")
    return folder


TARGETS = {  # kind of OUT, and a part of the reason
    "papers": (lambda at: at / "papers", "it is a folder that holds thesis.tex"),
    "the folder above": (lambda at: Path(".."), "is a folder that exists"),
    "above by a longer way": (lambda at: at / "here" / ".." / ".." / at.name, "it is a folder that holds"),
    "the working directory": (lambda at: at / "here", "it contains the working directory"),
    "a dot": (lambda at: Path("."), "is a folder that exists"),
    "the run itself": (lambda at: at / "run", "it is a folder that holds"),
    "the checkpoints of the run": (lambda at: at / "run" / "checkpoints", "checkpoints"),
    "the checkpoint that is read": (lambda at: Checkpoint.open(at / "run").path, "it holds the source"),
    "a part of the source": (lambda at: Checkpoint.open(at / "run").path / "model.safetensors", "the source"),
    "a link to papers": (lambda at: linked(at / "link", at / "papers"), "it is a link to"),
    "a link to a file": (lambda at: linked(at / "link", at / "papers" / "thesis.tex"), "it is a link to"),
    "a link to nothing": (lambda at: linked(at / "link", at / "nothing"), "it is a link to"),
    "a link to the source": (lambda at: linked(at / "link", at / "run"), "it is a link to"),
    "a checkpoint with notes": (lambda at: mixed(at / "mixed"), "and only a folder that holds one checkpoint of plsc"),
}


@pytest.mark.parametrize("to", ["own", "plsc"])
@pytest.mark.parametrize("make, reason", TARGETS.values(), ids=TARGETS)
def test_convert_by_force_replaces_nothing_else(cli, place, monkeypatch, make, reason, to):
    monkeypatch.chdir(place / "here")
    target = make(place)
    before = snapshot(place)
    code, _, error = cli("convert", place / "run", target, "--to", to, "--force")
    assert code == 2 and reason in error, error
    assert snapshot(place) == before


def test_convert_by_force_does_not_replace_its_source(cli, place, monkeypatch):
    monkeypatch.chdir(place / "here")
    assert cli("convert", place / "run", "weights.pd", "--to", "plsc")[0] == 0
    os.link("weights.pd", "other_name.pd")
    Path("link.pd").symlink_to("weights.pd")
    before = snapshot(place)
    for source, target in (("weights.pd", "weights.pd"), ("weights.pd", "other_name.pd"), ("link.pd", "weights.pd")):
        code, _, error = cli("convert", source, target, "--to", "plsc", "--force")
        assert code == 2 and f"{target} is not replaced, even with --force: it is " in error and "source" in error
    assert snapshot(place) == before


def test_a_checkpoint_behind_a_link_in_the_run_is_the_source(cli, place, monkeypatch):
    monkeypatch.chdir(place / "here")
    path = Checkpoint.open(place / "run").path
    path.rename(place / "elsewhere")
    path.symlink_to(place / "elsewhere")
    before = snapshot(place)
    code, _, error = cli("convert", place / "run", place / "elsewhere", "--to", "own", "--force")
    assert code == 2 and "it holds the source" in error
    assert snapshot(place) == before


def test_convert_by_force_replaces_files_empty_folders_and_checkpoints(cli, place):
    (place / "file").write_text("old", encoding="utf-8")
    (place / "empty").mkdir()
    save(place / "converted", 0)
    shutil.copytree(Checkpoint.open(place / "run"), place / "step")
    for name in ("file", "empty", "converted", "step"):
        for to in ("own", "plsc", "own"):
            code, _, error = cli("convert", place / "run", place / name, "--to", to, "--force")
            assert code == 0, error
        assert Checkpoint.open(place / name).model()
    assert not [name for name in names(place) if name.startswith(replace.STAGING)]


@pytest.mark.parametrize("to", ["own", "plsc", "official", "safetensors"])
def test_a_failed_conversion_keeps_existing_files(cli, place, monkeypatch, to):
    shutil.copytree(Checkpoint.open(place / "run").path, place / "old")
    (place / ".old.tmp").write_text("a file of somebody", encoding="utf-8")
    before = snapshot(place)

    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    for target in (place / "old", place / "deep" / "er" / "new"):
        code, _, error = cli("convert", place / "run", target, "--to", to, "--force")
        assert code == 2 and "No space left on device" in error
        assert snapshot(place) == before


def test_a_folder_comes_back_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    target = save(tmp_path, 0)
    before, rename = snapshot(tmp_path), os.replace

    def fail(source, destination):
        if Path(destination) == target and "aside" not in str(source):
            raise OSError(5, "Input/output error")
        rename(source, destination)

    monkeypatch.setattr(os, "replace", fail)
    (tmp_path / "new").mkdir()
    with pytest.raises(OSError, match="Input/output error"):
        replace.put(tmp_path / "new", target, tmp_path / "aside")
    (tmp_path / "new").rmdir()
    assert snapshot(tmp_path) == before


def export(cli, toy_runs, out, *more):
    return cli("export", "--checkpoint", toy_runs.classifier, "--out", out, "--formats", "safetensors", *more)


def test_a_second_export_replaces_the_first(cli, toy_runs, tmp_path):
    assert export(cli, toy_runs, "out")[0] == 0
    first = snapshot("out")
    assert sorted(first) == ["README.md", "export.json", "model.safetensors", "preprocessing.json"]
    assert export(cli, toy_runs, "out", "--part", "encoder")[0] == 0
    assert sorted(snapshot("out")) == sorted(first) and snapshot("out") != first
    Path("empty").mkdir()
    assert export(cli, toy_runs, "empty")[0] == 0
    assert snapshot("empty") == first
    Path("link").symlink_to("empty")
    assert export(cli, toy_runs, "link")[0] == 0
    assert Path("link").is_symlink() and snapshot("empty") == first
    assert names(tmp_path) == ["empty", "link", "out"]


def readme(out):
    (out / "README.md").write_text("my own words", encoding="utf-8")


FOREIGN = {
    "a README.md alone": lambda out: (shutil.rmtree(out), out.mkdir(), readme(out)),
    "a README.md that was edited": readme,
    "a file besides": lambda out: (out / "notes.txt").write_text(THESIS, encoding="utf-8"),
    "a folder besides": lambda out: (out / ".git").mkdir(),
    "a link in place of a file": lambda out: ((out / "README.md").rename(out.parent / "card"),
                                              (out / "README.md").symlink_to(out.parent / "card")),
    "no manifest": lambda out: (out / "export.json").unlink(),
    "a manifest of something else": lambda out: (out / "export.json").write_text("[1]", encoding="utf-8"),
    "a file": lambda out: (shutil.rmtree(out), out.write_text(THESIS, encoding="utf-8")),
}  # fmt: skip


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN)
def test_an_export_refuses_files_of_others(cli, toy_runs, tmp_path, change):
    assert export(cli, toy_runs, "out")[0] == 0
    change(tmp_path / "out")
    before = snapshot(tmp_path)
    code, _, error = export(cli, toy_runs, "out")
    assert code == 2 and "choose another folder" in error
    assert snapshot(tmp_path) == before


def test_an_export_does_not_delete_other_formats(cli, toy_runs, tmp_path):
    assert export(cli, toy_runs, "out", "paddle")[0] == 0
    before = snapshot(tmp_path)
    code, _, error = export(cli, toy_runs, "out")
    assert code == 2 and "holds an earlier export with model." in error
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("earlier", [False, True])
def test_a_failed_export_keeps_existing_files(cli, toy_runs, tmp_path, monkeypatch, earlier):
    if earlier:
        assert export(cli, toy_runs, "out")[0] == 0
    before = snapshot(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(exporting, "model_card", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        assert export(cli, toy_runs, "out")[0] == 2
    assert snapshot(tmp_path) == before


def test_an_exchange_of_files_that_fails_at_any_rename_is_undone(tmp_path, monkeypatch):
    folder = tmp_path / "out"

    def write(content):
        with replace.replacing_files(folder) as new:
            for name in ("a", "b"):
                (new / name).write_text(content, encoding="utf-8")

    write("first")
    before, rename = snapshot(tmp_path), os.replace
    for number in range(6):  # three files are moved away, and three in
        calls = iter(range(number + 1))

        def fail(source, target, calls=calls, last=number):
            if next(calls, None) == last:
                raise OSError(28, "No space left on device")
            rename(source, target)

        monkeypatch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="No space left"):
            write("second")
        assert snapshot(tmp_path) == before
    monkeypatch.setattr(os, "replace", rename)
    write("second")
    assert (folder / "a").read_text(encoding="utf-8") == "second"


WRITERS = {  # the arguments of commands that write one file
    "report": lambda run: ["report", run, "--images", "0", "--out"],
    "eval": lambda run: ["eval", "--checkpoint", run, "--json"],
    "frozen": lambda run: ["evaluate-frozen", "--checkpoint", run, "--protocols", "knn", "--json"],
    "features": lambda run: ["extract-features", "--checkpoint", run, "--out"],
}


@pytest.mark.parametrize("command", WRITERS.values(), ids=WRITERS)
def test_a_file_of_another_kind_is_not_replaced(cli, toy_runs, tmp_path, command):
    arguments = command(toy_runs.classifier)
    (tmp_path / "page.npz").write_text("<!doctype html><title>mine</title>", encoding="utf-8")
    (tmp_path / "package.npz").write_text(json.dumps({"name": "x", "version": "1"}), encoding="utf-8")
    np.savez(tmp_path / "arrays.npz", other=np.zeros(2))
    (tmp_path / "link.npz").symlink_to("page.npz")
    (tmp_path / "folder.npz").mkdir()
    before = snapshot(tmp_path)
    for name in sorted(before):
        code, _, error = cli(*arguments, name)
        assert code == 2 and name in error, error
        assert snapshot(tmp_path) == before


@pytest.mark.parametrize("command", WRITERS.values(), ids=WRITERS)
def test_a_file_of_the_same_kind_is_replaced_also_behind_a_link(cli, toy_runs, tmp_path, command):
    arguments = command(toy_runs.classifier)
    for _ in range(2):
        code, _, error = cli(*arguments, "deep/out.npz")
        assert code == 0, error
    first = (tmp_path / "deep" / "out.npz").read_bytes()
    (tmp_path / "link.npz").symlink_to("deep/out.npz")
    (tmp_path / "empty.npz").touch(mode=0o600)
    assert cli(*arguments, "link.npz")[0] == 0 and cli(*arguments, "empty.npz")[0] == 0
    assert (tmp_path / "link.npz").is_symlink()
    assert len((tmp_path / "empty.npz").read_bytes()) == len(first)
    assert (tmp_path / "empty.npz").stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["deep", "empty.npz", "link.npz"] and names(tmp_path / "deep") == ["out.npz"]


def test_figures_replace_figures_only(cli, toy_runs, tmp_path):
    options = ["--parts", "augmentation", "--count", "1", "--out", "."]
    command = ["visualize", "--checkpoint", toy_runs.classifier, *options]
    (tmp_path / "augmentation_0.png").write_text(THESIS, encoding="utf-8")
    code, _, error = cli(*command)
    assert code == 2 and "augmentation_0.png exists and is not a PNG image; remove it" in error
    assert (tmp_path / "augmentation_0.png").read_text(encoding="utf-8") == THESIS
    (tmp_path / "augmentation_0.png").unlink()
    assert cli(*command)[0] == 0 and cli(*command)[0] == 0


def test_devices_and_pipes_are_written_to(tmp_path):
    read, write = os.pipe()
    replace.write_json(Path(f"/dev/fd/{write}"), {"metrics": 1})
    assert json.loads(os.read(read, 1000)) == {"metrics": 1}
    os.close(read)
    os.close(write)


def test_rotation_deletes_checkpoints_only(tmp_path):
    for step in range(1, 7):
        save(tmp_path, step)
    (tmp_path / "step_00000001" / "notes.txt").write_text(THESIS, encoding="utf-8")
    (tmp_path / "step_00000002").rename(tmp_path.parent / "moved")
    (tmp_path / "step_00000002").symlink_to(tmp_path.parent / "moved")
    (tmp_path / "step_100").mkdir()
    (tmp_path / "step_100" / "weights.bin").write_text("of another program", encoding="utf-8")
    (tmp_path / "best").symlink_to("step_00000003")
    (tmp_path / ".tmp-upload").write_text("of another program", encoding="utf-8")
    moved = snapshot(tmp_path.parent / "moved")
    checkpoint_files.keep_last(tmp_path, 2)
    kept = [".tmp-upload", "best", "latest", "step_00000001", "step_00000003", "step_00000006", "step_100"]
    assert names(tmp_path) == kept
    assert snapshot(tmp_path.parent / "moved") == moved
    checkpoint_files.point(tmp_path, "best", tmp_path / "step_00000006")
    assert not (tmp_path / "best").is_symlink() and (tmp_path / "step_00000003" / "state.json").is_file()
    shutil.rmtree(tmp_path.parent / "moved")


def test_files_at_the_path_of_a_checkpoint_are_renamed(tmp_path):
    for number, content in enumerate(("one", "two")):
        (tmp_path / "step_00000003").mkdir()
        (tmp_path / "step_00000003" / "mine").write_text(content, encoding="utf-8")
        path = save(tmp_path, 3)
        assert find_newest(tmp_path).path == path
        kept = tmp_path / ("kept-step_00000003" if number == 0 else "kept-step_00000003-2")
        assert (kept / "mine").read_text(encoding="utf-8") == content
        shutil.rmtree(path)
    assert checkpoint_files.checkpoints(tmp_path) == []


def test_a_checkpoint_at_a_link_is_written_beside_its_target(tmp_path):
    save(tmp_path / "a", 3, value=1.0)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "step_00000003").symlink_to(tmp_path / "a" / "step_00000003")
    before = snapshot(tmp_path / "a")
    path = save(tmp_path / "b", 3, value=2.0)
    assert not path.is_symlink() and snapshot(tmp_path / "a") == before
    assert names(tmp_path / "b") == ["latest", "step_00000003"]


IN_THE_WAY = {  # content of the output directory, and the message
    "checkpoints a file": (lambda run: (run / "checkpoints").touch(), "checkpoints is a file, but the run needs"),
    "vdl a file": (lambda run: (run / "vdl").touch(), "vdl is a file, but the run needs a folder"),
    "pictures a file": (lambda run: (run / "pictures").touch(), "pictures is a file, but the run needs a folder"),
    "nonfinite a file": (lambda run: (run / "nonfinite").touch(), "nonfinite is a file, but the run needs a folder"),
    "config.yaml a folder": (lambda run: (run / "config.yaml").mkdir(), "config.yaml is a folder, but the run needs"),
    "env.json a folder": (lambda run: (run / "env.json").mkdir(), "env.json is a folder, but the run needs a file"),
    "metrics a folder": (lambda run: (run / "metrics.jsonl").mkdir(), "metrics.jsonl is a folder, but the run needs a"),
    "train.log a folder": (lambda run: (run / "train.log").mkdir(), "train.log is a folder, but the run needs a file"),
    "report.html a folder": (lambda run: (run / "report.html").mkdir(), "report.html is a folder, but the run needs a"),
    "lock a folder": (lambda run: (run / ".lock").mkdir(), ".lock is a folder, but the run needs a file"),
    "latest a folder": (lambda run: (run / "checkpoints" / "latest").mkdir(parents=True), "latest is a folder"),
    "checkpoints a dead link": (lambda run: (run / "checkpoints").symlink_to("gone"), "checkpoints is a broken link"),
    "a lock of another program": (lambda run: (run / ".lock").write_text("uv"), "not written by a run of plsc"),
    "lock a link": (lambda run: (run / ".lock").symlink_to(run.parent / "thesis"), "thesis, which would be over"),
    "config.yaml a link": (lambda run: (run / "config.yaml").symlink_to(run.parent / "thesis"), "yaml is a link"),
    "config.yaml of the user": (lambda run: (run / "config.yaml").write_text("# mine"), "not written by a run"),
    "metrics of another program": (lambda run: (run / "metrics.jsonl").write_text("{}"), "not written by a run"),
    "a page of the user": (lambda run: (run / "report.html").write_text("mine"), "report.html exists and is not"),
}  # fmt: skip


@pytest.mark.parametrize("make, message", IN_THE_WAY.values(), ids=IN_THE_WAY)
def test_conflicting_files_are_found_before_a_run_starts(cli, toy_runs, tmp_path, make, message):
    (tmp_path / "thesis").write_text(THESIS, encoding="utf-8")
    (tmp_path / "run").mkdir()
    make(tmp_path / "run")
    before = snapshot(tmp_path)
    code, _, error = cli(*arguments(toy_runs.images, tmp_path / "run", "Global.report=true"))
    assert code == 2 and message in error and "Traceback" not in error, error
    assert snapshot(tmp_path) == before


def test_all_conflicting_files_are_reported_at_once(cli, toy_runs, tmp_path):
    (tmp_path / "run" / "config.yaml").mkdir(parents=True)
    (tmp_path / "run" / "vdl").touch()
    code, _, error = cli(*arguments(toy_runs.images, tmp_path / "run"))
    assert code == 2 and "config.yaml is a folder" in error and "vdl is a file" in error


def test_folders_of_a_run_may_be_links_to_another_disk(cli, toy_runs, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "disk")
    for _ in range(2):
        code, _, error = cli(*arguments(toy_runs.images, tmp_path / "run"))
        assert code == 0, error
    assert (tmp_path / "disk" / "latest").is_file() and (tmp_path / "run" / "checkpoints").is_symlink()


def test_a_run_that_fails_at_its_first_step_removes_only_what_it_wrote(tmp_path):
    from plsc.runs.directory import RunLock

    for others in ([], ["notes.txt"]):
        lock = RunLock(tmp_path / "new" / "run")
        lock.acquire()
        (tmp_path / "new" / "run" / "checkpoints").mkdir()
        for name in ("config.yaml", *others):
            (tmp_path / "new" / "run" / name).touch()
        lock.discard()
        lock.release()
        assert list(snapshot(tmp_path)) == (["new", "new/run", "new/run/notes.txt"] if others else [])
