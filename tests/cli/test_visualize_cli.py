"""The verb `visualize` on real runs."""

import numpy as np
import pytest
from PIL import Image

from plsc.data.folder import EXTENSIONS, ImageFolder
from plsc.engine.callbacks.pictures import as_images
from plsc.inference.preprocess import Preprocessing, find_images, open_image, reading_of
from plsc.inference.restore import restore
from plsc.visualize.pictures import Pictures
from plsc.visualize.schedules import schedules

CONFIG = "configs/quickstart/pretrain.yaml"


def written(folder):
    return sorted(path.name for path in folder.glob("*.png"))


def test_pre_training_of_tokens(cli, toy_runs, tmp_path):
    code, out, err = cli("visualize", "--checkpoint", toy_runs.pretrain, "--count", 2, "--out", "drawn")
    assert code == 0, err
    names = ["attention_0", "attention_1", "augmentation_0", "augmentation_1", "masks", "reconstruction", "schedules"]
    assert written(tmp_path / "drawn") == [f"{name}.png" for name in names]
    assert "drawn/reconstruction.png" in out.splitlines()
    assert all(np.asarray(Image.open(path)).std() > 5 for path in (tmp_path / "drawn").iterdir())


def test_given_images(cli, toy_runs, tmp_path):
    own = toy_runs.images / "val" / "0"
    parts = ["--parts", "attention", "reconstruction", "--patch", "1,2", "--block", "0", "--out", "x"]
    code, _, err = cli("visualize", "--checkpoint", toy_runs.classifier, "--images", own / "0.png", *parts)
    assert code == 0, err
    assert written(tmp_path / "x") == ["attention_0.png"]


def test_a_config_alone(cli, toy_runs, tmp_path):
    root = f"DataLoader.Train.dataset.root={toy_runs.images}/train"
    tokens = f"Tokenizer.checkpoint={toy_runs.tokenizer}"
    options = ["-o", root, tokens, "Model.vocab_size=8", "DataLoader.Train.loader.batch_size=4"]
    code, _, err = cli("visualize", "-c", CONFIG, *options, "--out", "x")
    assert code == 0, err
    assert written(tmp_path / "x") == ["augmentation_0.png", "augmentation_1.png", "masks.png", "schedules.png"]


def test_pixel_targets_are_drawn_as_pixels(toy_runs):
    saved = restore(toy_runs.pixels)
    drawn = {}
    pictures = Pictures(saved.config, count=2, task=saved.task)
    original = saved.task.pictures
    saved.task.pictures = lambda batch: drawn.update(original(batch)) or drawn
    pictures.reconstruction()
    drawn = as_images(drawn)
    assert list(drawn) == ["original", "masked", "targets", "predicted"]
    assert np.abs(drawn["targets"].astype(int) - drawn["original"]).max() <= 1
    visible = (drawn["masked"] == drawn["original"]).all(axis=-1, keepdims=True)
    assert np.abs((drawn["predicted"].astype(int) - drawn["original"]) * visible).max() <= 1
    assert np.abs(drawn["predicted"].astype(int) - drawn["original"]).max() > 20


def test_the_schedules_are_those_of_the_run(toy_runs):
    overrides = ["Optimizer.weight_decay_end=0.5", "Global.epochs=5", "LRScheduler.warmup_epochs=1"]
    saved = restore(toy_runs.classifier, overrides)
    epochs, rates, decays = schedules(saved.config, saved.task)
    assert epochs[0] == 0 and epochs[-1] == pytest.approx(5 - epochs[1])
    assert rates[0] == 0 and max(rates) == pytest.approx(1e-3, rel=0.1)
    assert decays[0] == pytest.approx(0.05) and decays[-1] > 0.45 and sorted(decays) == decays


def test_preprocessing_is_that_of_the_evaluation(toy_runs):
    saved = restore(toy_runs.classifier)
    prepare = Preprocessing(saved.config, (32, 32))
    file = toy_runs.images / "val" / "1" / "0.png"
    pixels = prepare.pixels(file)
    assert pixels.shape == (3, 32, 32) and pixels.dtype == np.uint8
    batch = prepare([pixels, pixels])
    assert batch.shape == [2, 3, 32, 32]
    assert np.allclose(batch[0].numpy(), (pixels / 255.0 - 0.5) / 0.5, atol=1e-6)
    same = [prepare.pixels(image) for image in (Image.open(file), np.asarray(Image.open(file)), str(file))]
    assert all((other == pixels).all() for other in same)


def test_without_an_evaluation_set_the_middle_is_taken(toy_runs):
    prepare = Preprocessing(restore(toy_runs.pretrain).config, (32, 32))
    wide = np.zeros((64, 128, 3), dtype=np.uint8)
    wide[:, 32:96] = 255
    assert (prepare.pixels(wide)[:, 2:-2, 2:-2] == 255).all()
    assert prepare.transform_nodes[0]["name"] == "CenterCrop"


@pytest.mark.parametrize("image", [np.zeros((3, 8, 8), np.uint8), np.zeros((8, 8, 3), np.float32), 5])
def test_files_that_are_not_images(image):
    with pytest.raises(ValueError, match="an image is a file name, a PIL image or uint8 pixels"):
        open_image(image)


def test_images_are_found_in_folders(toy_runs, tmp_path):
    assert len(find_images([toy_runs.images / "val", toy_runs.images / "train" / "0" / "1.png"])) == 13
    with pytest.raises(ValueError, match="there is no such file or folder"):
        find_images([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="there are no images; looked for .jpg"):
        find_images([tmp_path])


def test_all_commands_find_the_same_files(tmp_path):
    root = tmp_path / "images"
    hidden = ("b/._2.jpg", "a/.ipynb_checkpoints/1-checkpoint.png")
    for name in ("a/1.png", "b/2.JFIF", "b/3.heic", "b/deep/4.avif", *hidden):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "5.png").write_bytes(b"x")
    (root / "a" / "linked").symlink_to(tmp_path / "elsewhere")
    dataset = ImageFolder(str(root))
    expected = [dataset.path(index) for index in range(len(dataset))]
    assert expected == [f"{root}/{name}" for name in ("a/1.png", "a/linked/5.png", "b/2.JFIF", "b/deep/4.avif")]
    assert [str(path) for path in find_images([root])] == expected
    assert [path.name for path in find_images([root], [".heic"])] == ["3.heic"]
    with pytest.raises(ValueError, match=r"there are no images; looked for .webp, found 2 .png, 1 .avif, 1 .heic"):
        find_images([root], [".webp"])
    (root / "a" / "0.png").symlink_to("nowhere.png")
    assert find_images([root])[0].name == "0.png", "reported when it is read"


def test_the_run_says_which_files_are_images():
    subset = {"name": "Subset", "dataset": {"extensions": [".PNG"]}}
    config = {"DataLoader": {"Eval": None, "Train": {"dataset": subset}}}
    assert reading_of(config) == ([".png"], None)
    config["DataLoader"]["Eval"] = {"dataset": {"name": "ListFile", "bits": 12}}
    assert reading_of(config) == (list(EXTENSIONS), 12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "-c FILE or --checkpoint PATH is required"),
        (["--checkpoint", "nowhere"], "nowhere does not exist"),
        (["--checkpoint", "RUN", "--patch", "1;2"], "--patch must be a row and a column, such as 3,4, got '1;2'"),
        (["--checkpoint", "RUN", "--patch", "8,0"], "--patch: the encoder has 8 x 8 patches, counted from 0, got 8,0"),
        (["--checkpoint", "RUN", "--block", "7"], "--block: the encoder has blocks 0 to 1, got 7"),
        (["--checkpoint", "RUN", "--count", "0"], "--count must be at least 1, got 0"),
        (["--checkpoint", "RUN", "--images", "nowhere"], "nowhere: there is no such file or folder"),
        (["--checkpoint", "RUN", "--parts", "song"], "invalid choice: 'song'"),
    ],
)
def test_mistakes_are_named(cli, toy_runs, tmp_path, arguments, message):
    arguments = [toy_runs.classifier if argument == "RUN" else argument for argument in arguments]
    code, _, err = cli("visualize", *arguments)
    assert code == 2 and message in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
