"""Folders with other classes than the training set: every verb matches them by name or rejects them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plsc import runtime
from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint.reader import Checkpoint
from plsc.cli import main

CONFIG = """\
Global: {output_dir: out, epochs: 1, progress: none, device: cpu}
Task: {name: Classification}
Model:
  name: Classifier
  encoder: {name: ViT, image_size: 16, patch_size: 4, embed_dim: 16, depth: 2, num_heads: 2}
  head: {name: LinearHead, in_features: 16, num_classes: 3}
Loss: {name: CrossEntropy}
DataLoader:
  Train:
    dataset: {name: ImageFolder, root: train}
    transforms: [{name: CenterCrop, size: 16}]
    batch_transforms: [{name: Normalize}]
    loader: {batch_size: 4}
  Eval:
    dataset: {name: ImageFolder, root: val}
    transforms: [{name: CenterCrop, size: 16}]
    batch_transforms: [{name: Normalize}]
    loader: {batch_size: 4}
Metric: [{name: Accuracy, topk: [1]}, {name: CrossEntropyMetric}]
Optimizer: {name: AdamW}
LRScheduler: {name: WarmupCosine, learning_rate: 1e-2}
"""
GRID = [
    "Model={_delete_: true, name: LinearGrid, num_classes: 3, blocks: [1], rates: [1.0], encoder: {name: ViT, "
    "image_size: 16, patch_size: 4, embed_dim: 16, depth: 2, num_heads: 2}}",
    "Loss={_delete_: true, name: SumOverHeads}", "Metric=[{name: BestHead}]",
    "Optimizer={_delete_: true, name: SGD}",
]  # fmt: skip
EVAL = "DataLoader.Eval.dataset.root"
UNKNOWN = ["1 of its 3 classes is unknown to", "'date'; the known classes are 'apple', 'berry', 'cherry'"]


def make(root, names, first=0):
    """Write six images of each class; the images of a class depend only on the class and `first`."""
    for name in names:
        folder = Path(root) / name
        folder.mkdir(parents=True)
        for number in range(6):
            rng = np.random.default_rng([first, number, ord(name[0])])
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / f"{number}.png")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with images, a config and a run `run` of three classes."""
    folder = tmp_path_factory.mktemp("classes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(runtime, "setup", lambda num_threads=None: {})
        make("train", ("apple", "berry", "cherry"))
        make("val", ("apple", "berry", "cherry"), 1)
        make("two", ("berry", "cherry"), 1)
        make("other", ("berry", "cherry", "date"), 1)
        (folder / "order.txt").write_text("cherry\napple\nberry\n", encoding="utf-8")
        (folder / "toy.yaml").write_text(CONFIG, encoding="utf-8")
        assert main(["train", "-c", "toy.yaml", "-o", "Global.output_dir=run", "Global.epochs=2"]) == 0
    return folder


@pytest.fixture
def cli(cli, finished, tmp_path):
    for path in finished.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return cli


def checked(result):
    code, out, err = result
    assert code == 0, out + err
    return out, err


def matrix(cli, *overrides):
    """Return the confusion matrix by class name, the notes, and the metrics of `eval --details`."""
    _, err = checked(cli("eval", "--checkpoint", "run", "--json", "found.json", "-o", *overrides))
    found = json.loads(Path("found.json").read_text(encoding="utf-8"))
    names = [one["name"] for one in found["classes"]]
    return dict(zip(names, found["confusion_matrix"])), err, found["metrics"]


def test_eval_matches_a_subset_by_name_and_reports_missing_classes(cli):
    whole, said, _ = matrix(cli, "Global.seed=0")
    assert "note" not in said
    part, said, metrics = matrix(cli, f"{EVAL}=two")
    assert part == {"apple": [0, 0, 0], "berry": whole["berry"], "cherry": whole["cherry"]}
    assert "note: DataLoader.Eval has no images of 1 of the 3 classes: 'apple'" in said
    out, said = checked(cli("eval", "--checkpoint", "run", "-o", f"{EVAL}=two"))
    right = 100 * (whole["berry"][1] + whole["cherry"][2]) / 12
    assert json.loads(out)["top1"] == pytest.approx(right) == pytest.approx(metrics["top1"])
    assert "no images of 1 of the 3 classes" in said


def test_eval_follows_the_names_of_folders_in_another_order(cli):
    whole, _, metrics = matrix(cli, "Global.seed=0")
    again, said, same = matrix(cli, "DataLoader.Eval.dataset.class_list=order.txt")
    assert again == whole and "note" not in said
    assert same["top1"] == metrics["top1"] and same["loss"] == pytest.approx(metrics["loss"], rel=1e-6)


@pytest.mark.parametrize("details", [[], ["--details"]])
def test_eval_refuses_classes_that_the_checkpoint_does_not_know(cli, details):
    code, out, err = cli("eval", "--checkpoint", "run", *details, "-o", f"{EVAL}=other")
    assert code == 2 and not out
    assert all(part in err for part in UNKNOWN) and "DataLoader.Eval.dataset" in err and "class_list" in err


@pytest.mark.parametrize("model", [[], GRID], ids=["classifier", "grid"])
def test_training_matches_the_evaluation_set_by_name(cli, model):
    def losses(*overrides):
        shutil.rmtree("out", ignore_errors=True)
        _, err = checked(cli("train", "-c", "toy.yaml", "-o", "Global.seed=0", *model, *overrides))
        rows = map(json.loads, Path("out/metrics.jsonl").read_text(encoding="utf-8").splitlines())
        return [{k: v for k, v in row.items() if k != "time"} for row in rows if row["split"] == "eval"], err

    whole, _ = losses()
    again, said = losses("DataLoader.Eval.dataset.class_list=order.txt")
    assert [row["top1"] for row in again] == [row["top1"] for row in whole] and "note" not in said
    _, said = losses(f"{EVAL}=two")
    assert "note: DataLoader.Eval has no images of 1 of the 3 classes: 'apple'" in said
    shutil.rmtree("out")
    code, _, err = cli("train", "-c", "toy.yaml", "-o", *model, f"{EVAL}=other")
    assert code == 2 and all(part in err for part in UNKNOWN) and not Path("out").exists()


def test_a_grid_of_heads_with_too_few_classes_is_refused(cli):
    grid = [text.replace("num_classes: 3", "num_classes: 2") for text in GRID]
    code, _, err = cli("train", "-c", "toy.yaml", "-o", *grid)
    assert code == 2 and "the dataset has 3 classes, but the model has 2 outputs" in err


def frozen(cli, *overrides):
    options = ["--checkpoint", "run", "--protocols", "knn", "--json", "frozen.json", "-o", "Global.seed=0"]
    result = cli("evaluate-frozen", *options, *overrides)
    found = json.loads(Path("frozen.json").read_text(encoding="utf-8")) if result[0] == 0 else None
    return result, found


def test_frozen_features_are_compared_by_name(cli):
    trained = "DataLoader.Eval.dataset.root=train"  # the nearest neighbour of each image is itself
    _, whole = frozen(cli, trained, "DataLoader.Eval.dataset.class_list=order.txt")
    _, plain = frozen(cli, trained)
    assert whole == plain and plain["knn"]["top1"] > 0
    (code, _, err), _ = frozen(cli, f"{EVAL}=two")
    assert code == 0 and "no images of 1 of the 3 classes: 'apple'" in err
    (code, _, err), _ = frozen(cli, f"{EVAL}=other")
    assert code == 2 and all(part in err for part in UNKNOWN)


def copied(name, *missing_or_changed):
    """A copy of the run's last checkpoint whose state has no names, or other ones."""
    path = Checkpoint.open("run").path
    target = Path(name) / "checkpoints" / path.name
    shutil.copytree(path, target)
    state = json.loads((target / "state.json").read_text(encoding="utf-8"))
    del state["classes"]
    state.update(*missing_or_changed)
    (target / "state.json").write_text(json.dumps(state), encoding="utf-8")
    return name


def test_a_checkpoint_without_class_names_is_matched_by_position_with_a_note(cli):
    old = copied("old")
    _, err = checked(cli("eval", "--checkpoint", old))
    assert "note: classes are matched by position, not by name" in err and "does not name its classes" in err
    _, err = checked(cli("predict", "val", "--checkpoint", old))
    assert "has no class names; the names of the run's dataset are used, in their order" in err


def head(path):
    return Checkpoint.open(path).model()["model.head.linear.weight"]


def init(cli, *overrides):
    """Return the weights and the output of a run with learning rate 0 that starts from `run`, including the head."""
    still = ["LRScheduler={_delete_: true, name: Constant, learning_rate: 1e-30}", "Optimizer.weight_decay=0"]
    settings = ["Init.checkpoint=run", "Init.take=null", *still, *overrides]
    _, err = checked(cli("train", "-c", "toy.yaml", "-o", *settings))
    return head("out"), err


def test_init_puts_the_outputs_of_a_head_into_the_order_of_the_run(cli):
    lists = [f"DataLoader.{split}.dataset.class_list=order.txt" for split in ("Train", "Eval")]
    found, said = init(cli, *lists)
    np.testing.assert_allclose(found, head("run")[:, [2, 0, 1]], atol=1e-7)
    assert "model.head.linear.weight, model.head.linear.bias were reordered to this run's order of classes" in said
    shutil.rmtree("out")
    found, said = init(cli)
    np.testing.assert_allclose(found, head("run"), atol=1e-7)
    assert "order of classes" not in said and "by position" not in said


def test_init_does_not_load_a_head_of_other_classes(cli):
    roots = [f"DataLoader.{split}.dataset.root=other" for split in ("Train", "Eval")]
    found, said = init(cli, *roots)
    assert not np.allclose(found, head("run"), atol=1e-3)
    assert "model.head.linear.bias not loaded, newly initialized: its classes are apple, berry, cherry" in said


def test_init_notes_that_classes_without_names_match_by_position(cli):
    old = copied("old")
    found, said = init(cli, f"Init.checkpoint={old}")
    np.testing.assert_allclose(found, head("run"), atol=1e-7)
    assert "matched by position: the checkpoint does not name each of them" in said


def test_a_report_counts_by_name_and_notes_what_is_missing(cli):
    shutil.copytree("run", "part")
    text = Path("part/config.yaml").read_text(encoding="utf-8")
    for file in [*Path("part").rglob("config.yaml")]:
        file.write_text(text.replace("root: val", "root: two"), encoding="utf-8")
    for state in Path("part").rglob("state.json"):
        described = json.loads(state.read_text(encoding="utf-8"))
        config = state.parent / "config.yaml"
        described["files"]["config.yaml"] = checkpoint_files.fingerprint(config)
        state.write_text(json.dumps(described), encoding="utf-8")
    checked(cli("report", "part", "--out", "part.html", "--embedding", "pca"))
    page = Path("part.html").read_text(encoding="utf-8")
    assert "no images of 1 of the 3 classes" in page
    assert "<td class=wrap>apple</td><td class=n>0</td><td class=n>-</td>" in page
