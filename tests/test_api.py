"""`plsc.load` and `plsc.train`, as a notebook uses them."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image

import plsc
from plsc import runtime
from plsc.checkpoint.arrays import CheckpointError
from plsc.config.tree import ConfigError
from tests.integration.runs import ROOT, SMALL, SMALL_ENCODER, data


@pytest.fixture(autouse=True)
def no_set_up(monkeypatch):
    monkeypatch.setattr(runtime, "setup", lambda num_threads=None: {})


def files(toy_runs, label=0):
    return sorted((toy_runs.images / "val" / str(label)).iterdir())


def test_features_of_one_image_and_of_several(toy_runs):
    model = plsc.load(toy_runs.classifier)
    one, two = files(toy_runs)[:2]
    features = model.features(one)
    assert features.shape == (16,) and features.dtype == np.float32
    several = model.features([one, Image.open(two), np.asarray(Image.open(one))], batch_size=2)
    assert several.shape == (3, 16)
    assert np.allclose(several[[0, 2]], features, atol=1e-5)
    assert model.features([one], "tokens").shape == (1, 65, 16)
    assert model.features(one, "cls").shape == (16,)


def test_features_are_what_the_head_takes(toy_runs):
    model = plsc.load(toy_runs.classifier)
    (file,) = files(toy_runs)[:1]
    logits = model.task.model.head(paddle.to_tensor(model.features([file], "mean")))
    assert np.allclose(logits.numpy()[0], model.logits(file), atol=1e-5)


@pytest.mark.parametrize("run", ["classifier", "pretrain", "pixels"])
def test_every_run_with_an_encoder_gives_features(toy_runs, run):
    model = plsc.load(getattr(toy_runs, run))
    assert model.features(files(toy_runs)[0]).shape == (16,)
    assert model.classes == ["0", "1"] and model.step > 0


def test_predictions_are_sorted_and_named(toy_runs):
    model = plsc.load(toy_runs.classifier)
    (guesses,) = model.predict([files(toy_runs)[0]], topk=9)
    assert [guess.name for guess in guesses] == [str(guess.index) for guess in guesses]
    assert guesses[0].probability >= guesses[1].probability
    assert sum(guess.probability for guess in guesses) == pytest.approx(1)
    assert model.predict(files(toy_runs)[0], topk=1) == guesses[:1]


def test_class_names_are_in_the_checkpoint(toy_runs):
    model = plsc.load(toy_runs.classifier, overrides=["DataLoader.Eval.dataset.root=nowhere"])
    assert model.classes == ["0", "1"] and model.name(7) == "7"


def test_mistakes(toy_runs):
    model = plsc.load(toy_runs.classifier)
    with pytest.raises(ValueError, match="pooling is one of mean, cls, tokens, got 'max'"):
        model.features(files(toy_runs)[0], "max")
    with pytest.raises(ValueError, match="topk must be at least 1, got 0"):
        model.predict(files(toy_runs)[0], topk=0)
    with pytest.raises(ValueError, match="the list of images is empty"):
        model.features([])
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        model.features("nowhere.png")
    for run in (toy_runs.pretrain, toy_runs.tokenizer):
        with pytest.raises(ValueError, match="which does not classify; fine-tune or probe"):
            plsc.load(run).predict(files(toy_runs)[0])
    with pytest.raises(ValueError, match="a run of TokenizerTraining, whose network has no token features"):
        plsc.load(toy_runs.tokenizer).features(files(toy_runs)[0])
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        plsc.load("nowhere")
    with pytest.raises(ConfigError, match="holds no moving average"):
        plsc.load(toy_runs.classifier, ema=True)


def test_training_gives_the_run(toy_runs, tmp_path):
    overrides = [*SMALL, *SMALL_ENCODER, *data(toy_runs.images), "Global.epochs=1", "Model.head.in_features=16"]
    overrides += ["LRScheduler.warmup_epochs=0", f"Global.output_dir={tmp_path / 'out'}"]
    run = plsc.train(ROOT / "configs/quickstart/scratch.yaml", overrides)
    epochs, accuracy = run.series("eval", "top1")
    assert run.path == tmp_path / "out" and epochs == [1.0] and 0 <= accuracy[0] <= 100
    again = plsc.train(run.config, [f"Global.output_dir={tmp_path / 'again'}"])
    assert again.series("train", "loss") == run.series("train", "loss")


def test_training_names_mistakes():
    with pytest.raises(ConfigError, match="the mapping given to plsc.train:2: Global.epoch: .* did you mean 'epochs'"):
        plsc.train({"Global": {"epoch": 1}})


def test_a_mapping_takes_overrides():
    with pytest.raises(ConfigError, match="Global.epoch: .* did you mean 'epochs'"):
        plsc.train({"Global": {"epochs": 1}}, ["Global.epoch=2"])


def test_importing_plsc_is_cheap():
    code = "import sys, plsc; plsc.__version__; assert not {'paddle', 'numpy', 'yaml'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
    with pytest.raises(AttributeError, match="module 'plsc' has no attribute 'lod'"):
        plsc.lod  # noqa: B018


def test_public_names_exist_and_are_the_same_for_type_checkers():
    """The names of `__all__` resolve, are documented, and are those under TYPE_CHECKING."""
    tree = ast.parse(Path(plsc.__file__).read_text(encoding="utf-8"))
    (typed,) = [node for node in tree.body if isinstance(node, ast.If)]
    modules = {name.name: node.module for node in typed.body for name in node.names}
    assert modules == plsc._LAZY
    assert sorted(plsc.__all__) == sorted([*modules, "JobError", "PlscError", "__version__"])
    assert set(plsc.__all__) <= set(dir(plsc))
    for name in plsc.__all__:
        assert getattr(plsc, name) is not None and f"`{name}`" in plsc.__doc__, name


def test_every_error_of_the_package_is_a_plsc_error():
    """Exceptions that end a run or a loop on request, and warnings, are not errors."""
    control = {"Interrupted", "Rewind", "Stopped"}
    for path in sorted((ROOT / "plsc").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name not in control | {"PlscError"}:
                bases = [ast.unparse(base) for base in node.bases]
                raw = [base for base in bases if base.endswith("Error") or base in ("Exception", "BaseException")]
                assert not raw or any(base in OWN_ERRORS for base in bases), f"{path}: {node.name}"


OWN_ERRORS = {"PlscError", "ImageError", "ConfigError", "CheckpointError", "OutputError", "JobError"}


def test_errors_are_still_errors_of_python():
    for name, base in (("ConfigError", ValueError), ("CheckpointError", ValueError), ("ImageError", ValueError)):
        assert issubclass(getattr(plsc, name), base)
    assert issubclass(plsc.OutputError, OSError)
