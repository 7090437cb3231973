"""`on_bad_image: skip` in all readers of images: rehearsal, probe, frozen evaluation, features, figures, predict."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from plsc.data.bad_images import BadImages
from plsc.data.images import ImageError
from plsc.data.loader import DataLoader
from tests.faults.scenes import arguments
from tests.integration.runs import metrics

SKIP = ["DataLoader.Train.loader.on_bad_image=skip", "DataLoader.Eval.loader.on_bad_image=skip"]


@pytest.fixture
def images(tmp_path, toy_runs):
    shutil.copytree(toy_runs.images, tmp_path / "images")
    return tmp_path / "images"


def spoil(images, *names):
    for name in names:
        (images / name).write_bytes(b"not an image")


def of_class(images, folder):
    return [str(path.relative_to(images)) for path in sorted((images / folder).iterdir())]


def test_the_first_evaluation_images_are_damaged(tmp_path, images, cli):
    spoil(images, "val/0/0.png", "val/0/1.png")
    code, _, error = cli(*arguments(images, tmp_path / "run", *SKIP))
    assert code == 0, error
    assert metrics(tmp_path / "run", "eval")[-1]["bad_images"] == 2


def test_all_evaluation_images_are_damaged(tmp_path, images, cli):
    spoil(images, *of_class(images, "val/0"), *of_class(images, "val/1"))
    code, _, error = cli(*arguments(images, tmp_path / "run", *SKIP))
    assert code == 2 and "none of the 12 images of DataLoader.Eval can be read:\n  " in error
    assert error.count("is not an image") == 12 and "nothing to evaluate" not in error
    assert not (tmp_path / "run").exists()


def test_classes_without_a_readable_image_are_named(tmp_path, images, cli):
    spoil(images, *of_class(images, "val/1"), *of_class(images, "train/1"))
    code, _, error = cli(*arguments(images, tmp_path / "run", *SKIP, "Global.epochs=4"))
    assert code == 0, error
    log = (tmp_path / "run" / "train.log").read_text(encoding="utf-8")
    count = len(of_class(images, "train/1"))
    assert f"no image of class 1 can be read ({count} of {count} are bad): the class is not trained" in log
    assert "no image of class 1 can be read (6 of 6 are bad): the class is not evaluated" in log


def test_the_beginning_of_a_run_counts_images_classes_and_other_files(tmp_path, images, cli):
    for name in ("train/0/x.heic", "train/1/y.heic", "train/1/notes.txt"):
        (images / name).write_bytes(b"x")
    assert cli(*arguments(images, tmp_path / "run"))[0] == 0
    log = (tmp_path / "run" / "train.log").read_text(encoding="utf-8")
    count = len(of_class(images, "train/0")) + len(of_class(images, "train/1")) - 3
    assert f"DataLoader.Train: {count} images in 2 classes ({count // 2} each); 3 other files ignored" in log
    assert "(see extensions): 2 .heic, 1 .txt" in log and "DataLoader.Eval: 12 images in 2 classes (6 each)" in log


def test_the_probe_follows_the_policy_of_the_training_set(tmp_path, images, cli):
    spoil(images, "train/0/0.png", "train/0/1.png", "train/1/2.png")
    probe = ["Callbacks=[{name: FrozenProbe, batch_size: 2}]"]
    code, _, error = cli(*arguments(images, tmp_path / "run", *SKIP, *probe))
    assert code == 0, error
    rows = metrics(tmp_path / "run", "probe")
    assert len(rows) == 3 and all(np.isfinite(row["knn_top1"]) for row in rows)
    log = (tmp_path / "run" / "train.log").read_text(encoding="utf-8")
    assert f"bad image, skipped: {images}/train/0/0.png: is not an image" in log
    code, _, error = cli(*arguments(images, tmp_path / "other", *probe))
    assert code == 2 and "DataLoader.Train.loader.on_bad_image: skip" in error


def test_frozen_evaluation_follows_the_policy(images, toy_runs, cli):
    spoil(images, "train/0/0.png", "val/0/0.png", "val/0/1.png")
    roots = [f"DataLoader.Train.dataset.root={images}/train", f"DataLoader.Eval.dataset.root={images}/val"]
    command = ["evaluate-frozen", "--checkpoint", toy_runs.classifier, "--protocols", "ridge", "-o", *roots]
    code, out, error = cli(*command, *SKIP)
    assert code == 0 and "ridge" in out, error
    assert error.count("bad image, skipped: ") == 3
    code, _, error = cli(*command)
    assert code == 2 and "train/0/0.png: is not an image" in error and "Train.loader.on_bad_image: skip" in error


@pytest.mark.parametrize("workers", [0, 1])
def test_features_follow_the_policy(tmp_path, images, toy_runs, cli, workers):
    spoil(images, "val/0/0.png", "val/0/1.png", "val/1/3.png")
    options = ["--checkpoint", toy_runs.classifier, "--out", "f.npz", "--batch-size", 2, "--num-workers", workers]
    for chosen in ([images / "val"], ["--split", "Eval"]):
        root = ["-o", f"DataLoader.Eval.dataset.root={images}/val"]
        code, _, error = cli("extract-features", *chosen, *options, *root)
        assert code == 2 and "val/0/0.png: is not an image" in error
        assert "DataLoader.Eval.loader.on_bad_image: skip" in error
        code, _, error = cli("extract-features", *chosen, *options, *root, *SKIP)
        assert code == 0 and error.count("bad image, skipped") == 3, error
        found = np.load(tmp_path / "f.npz")
        assert found["mean"].shape[0] == len(found["files"]) == 9
        assert not any(name.endswith(("0/0.png", "0/1.png", "1/3.png")) for name in found["files"])
        assert "labels" not in found or found["labels"].tolist() == [0] * 4 + [1] * 5


def test_figures_follow_the_policy(tmp_path, images, toy_runs, cli):
    spoil(images, "val/0/0.png")
    command = ["visualize", "--checkpoint", toy_runs.classifier, "--images", images / "val"]
    command += ["--out", tmp_path / "drawn"]
    code, _, error = cli(*command, "--parts", "augmentation")
    assert code == 2 and "val/0/0.png: is not an image" in error and not (tmp_path / "drawn").exists()
    code, _, error = cli(*command, "--parts", "augmentation", "-o", *SKIP)
    assert code == 0 and error.count("bad image, skipped") == 1


def test_a_thin_image_does_not_stop_a_prediction(images, toy_runs, cli):
    Image.new("L", (1, 60_000), 99).save(images / "val" / "0" / "thin.png")
    crop = "DataLoader.Eval.transforms=[{name: CenterCrop, size: 32%s}]"
    transforms = (crop % ", crop_ratio: null").replace("[", "[{name: Resize, size: 256}, ")
    options = ["--checkpoint", toy_runs.classifier, "--format", "json", "--topk", 1]
    code, out, _ = cli("predict", images / "val", *options, "-o", transforms)
    rows = [json.loads(line) for line in out.splitlines()]
    failed = [row for row in rows if "error" in row]
    assert code == 1 and len(rows) == 13 and len(failed) == 1
    assert "val/0/thin.png: Resize failed: 1 x 60,000 pixels would become 256 x 15,360,000" in failed[0]["error"]
    code, out, _ = cli("predict", images / "val", *options, "-o", crop % "")
    assert code == 0 and len(out.splitlines()) == 13


class _Greedy:
    """Images, some of which need more memory than is available."""

    classes, labels = ["a"], np.zeros(6, dtype=np.int64)

    def __len__(self):
        return 6

    def path(self, index):
        return f"{index}.png"

    def __getitem__(self, index):
        if index in (0, 3):
            raise MemoryError
        return {"image": np.zeros((3, 4, 4), np.uint8), "label": 0, "path": self.path(index)}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("leave_out", [False, True])
def test_memory_errors_are_bad_images(workers, leave_out):
    def loader(action):
        bad = BadImages("DataLoader.Eval.loader", action, leave_out=leave_out, say=said.append)
        return DataLoader(_Greedy(), batch_size=3, shuffle=False, drop_last=False, num_workers=workers, bad_images=bad)

    said = []
    with pytest.raises(ValueError, match="0.png: needs more memory than is available.*on_bad_image: skip"):
        list(loader("stop"))
    reader = loader("skip")
    assert sum(batch["image"].shape[0] for batch in reader) == (4 if leave_out else 6)
    assert reader.bad_images.count() == 2 and any("3.png: needs more memory" in text for text in said)
    assert reader.first(2)["index"].tolist() == ([1, 2] if leave_out else reader.first(2)["index"].tolist())


def test_all_images_are_bad():
    class Bad(_Greedy):
        def __getitem__(self, index):
            raise ImageError(f"{index}.png: is damaged")

    loader = DataLoader(Bad(), bad_images=BadImages("DataLoader.Eval.loader", "skip", leave_out=True))
    with pytest.raises(ImageError, match="none of the 6 images of DataLoader.Eval can be read:\n  0.png: is damaged"):
        loader.first(2)
    few = DataLoader(Bad(), bad_images=BadImages("DataLoader.Eval.loader", "skip", limit=2, leave_out=True))
    with pytest.raises(ImageError, match="3 images cannot be read; DataLoader.Eval.loader.max_bad_images allows 2"):
        few.first(2)
