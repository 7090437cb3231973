"""Names of files and classes that are not UTF-8, hold control characters, or look the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from plsc.runs.log import RunLog
from tests.faults.scenes import arguments
from tests.integration.runs import ROOT, metrics

LATIN = "caf\udce9"  # as Python holds the bytes b"caf\xe9"
FORGED = "a\n2026-01-01 00:00:00,000 done: 12 steps\x1b[2J"
SHOWN = r"a\n2026-01-01 00:00:00,000 done: 12 steps\x1b[2J"


@pytest.fixture
def images(tmp_path, toy_runs):
    """Images in classes with such names; one file per class has such a name, too."""
    for part in ("train", "val"):
        for old, new in (("0", FORGED), ("1", LATIN)):
            folder = tmp_path / "images" / part / new
            folder.mkdir(parents=True)
            for number, file in enumerate(sorted((toy_runs.images / part / old).iterdir())):
                name = f"{new}.png" if number == 0 else file.name
                os.link(file, folder / name)
    return tmp_path / "images"


def run(*command, encoding="utf-8"):
    """Run a command in a separate process with the given output encoding; return its output as text."""
    environment = {**os.environ, "PYTHONIOENCODING": f"{encoding}:strict", "PYTHONPATH": str(ROOT)}
    full = [sys.executable, "-m", "plsc", *map(str, command)]
    done = subprocess.run(full, capture_output=True, env=environment, check=False)
    return done.returncode, done.stdout.decode(encoding), done.stderr.decode(encoding)


def clean(text):
    text.encode("utf-8")
    assert "\x1b" not in text and "codec" not in text
    assert not any(line.startswith("2026-01-01") for line in text.splitlines())
    return text


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_every_command_prints_them(tmp_path, images, encoding):
    code, out, err = run(*arguments(images, tmp_path / "run", "Global.report=true"), encoding=encoding)
    assert code == 0, err
    clean(out + err + (tmp_path / "run" / "train.log").read_text(encoding="utf-8"))
    page = clean((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    assert SHOWN in page and r"caf\xe9" in page
    of_run = ["--checkpoint", tmp_path / "run"]
    details = ["eval", "--details", "--json", tmp_path / "x.json"]
    for verb in (details, ["predict", images / "val"], ["export", "--out", tmp_path / "e"]):
        code, out, err = run(*verb, *of_run, encoding=encoding)
        assert code == 0, err
        clean(out + err)
        assert verb[0] == "export" or (SHOWN in out and r"caf\xe9" in out)
    code, out, _ = run("predict", images / "val", *of_run, "--format", "json", encoding=encoding)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and f"{images}/val/{SHOWN}/{SHOWN}.png" in [row["file"] for row in rows]
    for written in (tmp_path / "x.json", tmp_path / "e" / "preprocessing.json", tmp_path / "e" / "README.md"):
        text = written.read_text(encoding="utf-8")
        clean(str(json.loads(text)) if written.suffix == ".json" else text)
        assert r"\ud" not in text


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("name", [LATIN, FORGED])
def test_a_damaged_file_is_named(tmp_path, images, workers, name):
    (images / "train" / name / f"{name}.png").unlink()
    (images / "train" / name / f"{name}.png").write_bytes(b"no image")
    shown = r"caf\xe9" if name == LATIN else SHOWN
    common = [f"DataLoader.Train.loader.num_workers={workers}", "Global.epochs=1"]
    code, _, err = run(*arguments(images, tmp_path / "stop", *common))
    assert code == 2 and f"{shown}/{shown}.png: is not an image" in clean(err)
    code, _, err = run(*arguments(images, tmp_path / "run", *common, "DataLoader.Train.loader.on_bad_image=skip"))
    assert code == 0, err
    log = clean((tmp_path / "run" / "train.log").read_text(encoding="utf-8"))
    assert f"bad image, skipped: {images}/train/{shown}/{shown}.png: is not an image" in log
    assert metrics(tmp_path / "run")[-1]["bad_images"] == 1


def test_a_step_that_is_not_finite_names_its_files_and_keeps_the_dump(tmp_path, images):
    code, _, err = run(*arguments(images, tmp_path / "run", "LRScheduler.learning_rate=9.0e+18"))
    assert code == 1 and "are not finite" in clean(err) and "Dump: " in err, err
    assert SHOWN in err or r"caf\xe9" in err
    facts = list((tmp_path / "run" / "nonfinite").rglob("facts.json"))
    assert facts
    clean(" ".join(json.loads(facts[0].read_text(encoding="utf-8"))["files"]))


def test_only_the_log_begins_its_lines(tmp_path):
    log = RunLog(main=True, progress="none")
    log.note(FORGED)
    log.open(tmp_path)
    log.note(f"a list:\n  {LATIN}\n2026-01-01 00:00:00,000 forged")
    log.close()
    lines = (tmp_path / "train.log").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 5 and not any(line.startswith("2026-01-01") for line in lines)
    assert lines[3] == r"      caf\xe9" and "\x1b" not in "".join(lines)


def test_classes_in_another_normalization_are_the_same(tmp_path, cli):
    for part, name in (("train", "cr\xe8me"), ("val", "cre\u0300me")):
        for folder in (name, "other"):
            (tmp_path / part / folder).mkdir(parents=True)
            for number in range(4):
                Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / part / folder / f"{number}.png")
    code, _, err = cli(*arguments(tmp_path, tmp_path / "run"))
    assert code == 0 and "DataLoader.Eval has no images of" not in err, err


def test_labels_that_start_at_1(tmp_path, toy_runs, cli):
    files = sorted((toy_runs.images / "train").glob("[01]/*"))
    rows = [f"{file.parent.name}/{file.name} {int(file.parent.name) + 1}" for file in files]
    Path("list.txt").write_text("\n".join(rows), encoding="utf-8")
    dataset = f"{{_delete_: true, name: ListFile, root: {toy_runs.images}/train, list_file: list.txt}}"
    command = arguments(toy_runs.images, tmp_path / "run", f"DataLoader.Train.dataset={dataset}")
    code, _, err = cli(*command)
    assert code == 2 and "its labels are 1 to 2, but labels start at 0: subtract 1 from each, or set the" in err
