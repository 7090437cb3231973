"""The pipeline of `make evidence` at toy length, and its configs on colour images with transparency."""

import json
import subprocess
import sys

import pytest

from plsc.checkpoint import files as checkpoint_files
from tests.integration.photos import CLASSES, VALIDATION, make_photos
from tests.integration.runs import ROOT, environment, make_digits, metrics, train

SHORT = ["Global.max_train_step=2", "DataLoader.Train.loader.batch_size=8"]
CHANGE = "random codes as targets"


def evidence(*arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "digits" / "evidence.py"), *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One seed and one change, from nothing to the page of results."""
    folder = tmp_path_factory.mktemp("evidence")
    data = make_digits(folder / "digits", per_class=10, classes=10)
    arguments = ["--data", data, "--output", folder / "runs", "--results", folder / "docs", "--at-once", 2]
    arguments += ["--seeds", 0, "--changes", CHANGE, "-o", *SHORT]
    done = evidence(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, arguments, done.stdout


def test_the_page_has_every_table_and_plot(finished):
    folder = finished[0]
    text = (folder / "docs" / "results.md").read_text(encoding="utf-8")
    for wanted in ("| k-NN |", "| linear probe |", "| attentive probe |", "| 10% | 400 |", f"| {CHANGE} |", "Aims:"):
        assert wanted in text
    for plot in ("frozen", "labels", "changes", "progress"):
        assert f"(results_{plot}.png)" in text
        assert (folder / "docs" / f"results_{plot}.png").stat().st_size > 5000


def test_every_number_has_its_command(finished):
    text = (finished[0] / "docs" / "results.md").read_text(encoding="utf-8")
    commands = text[text.index("## The commands") :]
    names = [path.parent.name for path in (finished[0] / "runs").glob("*/job.json")]
    assert len(names) == 20 and all(f"# {name}\n" in commands for name in names)
    assert sys.executable not in text


def test_numbers_are_those_of_the_runs(finished):
    folder = finished[0]
    text = (folder / "docs" / "results.md").read_text(encoding="utf-8")
    found = json.loads((folder / "runs" / "frozen_0" / "results.json").read_text(encoding="utf-8"))
    random = json.loads((folder / "runs" / "frozen_random_0" / "results.json").read_text(encoding="utf-8"))
    assert f"| linear probe | {random['linear']['top1']:.1f} | {found['linear']['top1']:.1f} |" in text
    scratch, fine = (metrics(folder / "runs" / f"{kind}_10_0", "eval")[-1]["top1"] for kind in ("scratch", "finetune"))
    assert f"| 10% | 400 | {scratch:.1f} | {fine:.1f} |" in text


def test_the_held_out_images_are_looked_at_once(finished):
    for path in (finished[0] / "runs").glob("*/metrics.jsonl"):
        rows = metrics(path.parent, "eval")
        assert len(rows) == (0 if path.parent.name.startswith(("pretrain", "change")) else 1)


def test_what_is_done_is_not_run_again(finished):
    done = evidence(*finished[1])
    assert done.returncode == 0 and "done in" not in done.stdout


def test_runs_of_other_settings_are_not_mistaken_for_these(finished):
    done = evidence(*finished[1], "Optimizer.weight_decay=0.01")
    assert done.returncode == 2 and "was made by another command" in done.stderr


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Tokenizer and encoder trained on colour images, by changing nothing but the folder."""
    folder = tmp_path_factory.mktemp("photos")
    images = make_photos(folder / "photos")
    root = [f"DataLoader.Train.dataset.root={images}/train", "Global.max_train_step=4"]
    held_out = f"DataLoader.Eval.dataset.root={images}/val"
    train("configs/evidence/tokenizer.yaml", [*root, held_out], folder)
    train("configs/evidence/pretrain.yaml", root, folder)
    return folder, [*root, held_out]


def test_pretraining_on_colour_images_with_alpha(photos):
    run = photos[0] / "output" / "evidence" / "pretrain"
    assert checkpoint_files.resolve(run).name == "step_00000004"
    assert metrics(run)[-1]["loss"] > 0


@pytest.mark.parametrize("config", ["finetune", "scratch"])
def test_nine_unbalanced_classes(photos, config):
    text = train(f"configs/evidence/{config}.yaml", [*photos[1], "Model.head.num_classes=9"], photos[0])
    assert ("initialised from" in text) == (config == "finetune")
    (row,) = metrics(photos[0] / "output" / "evidence" / config, "eval")
    hits = row["top1"] / 100 * VALIDATION * len(CLASSES)
    assert hits == pytest.approx(round(hits))


def test_frozen_features_of_nine_classes(photos):
    options = ["-o", *photos[1][:1], photos[1][2]]
    done = subprocess.run(
        [sys.executable, "-m", "plsc", "evaluate-frozen", "-c", str(ROOT / "configs/evidence/frozen.yaml")]
        + ["--protocols", "knn", "linear", "--epochs", "5", "--json", "found.json", *options],
        cwd=photos[0],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((photos[0] / "found.json").read_text(encoding="utf-8"))
    assert found["knn"]["top1"] > 100 / len(CLASSES)
