"""The verbs `export` and `extract-features` on real runs."""

import json
import re

import numpy as np
import paddle
import pytest
from safetensors.numpy import load_file

import plsc
from plsc.checkpoint.formats import read_weights
from plsc.inference import export as exporting

IMAGE = ("val", "1", "0.png")


def test_export_of_a_classifier(cli, toy_runs, tmp_path):
    options = ["--out", "out", "--formats", "paddle", "safetensors"]
    code, out, err = cli("export", "--checkpoint", toy_runs.classifier, *options)
    assert code == 0, err
    assert re.search(r"out/model\.(json|pdmodel): outputs differ from the network's by at most \d", out)
    facts = json.loads((tmp_path / "out" / "preprocessing.json").read_text(encoding="utf-8"))
    assert facts["classes"] == ["0", "1"]
    assert facts["output"] == {"what": "logits", "pooling": "mean", "shape": ["batch", 2]}
    assert facts["transforms"] == [{"name": "Resize", "size": 32}]
    assert facts["batch_transforms"] == [{"name": "Normalize", "mean": [0.5] * 3, "std": [0.5] * 3}]
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for part in ("# classifier", "| top1 |", "{name: Resize, size: 32}", "paddle.jit.load", "Init: {checkpoint: "):
        assert part in card


def test_the_exported_program_takes_any_batch(cli, toy_runs, tmp_path):
    cli("export", "--checkpoint", toy_runs.pretrain, "--out", "out", "--pooling", "cls")
    model = plsc.load(toy_runs.pretrain)
    program = paddle.jit.load(str(tmp_path / "out" / "model"))
    for count in (1, 3):
        pixels = [model.prepare.pixels(toy_runs.images.joinpath(*IMAGE))] * count
        features = program(model.prepare(pixels)).numpy()
        assert features.shape == (count, 16)
        assert np.allclose(features, model.features(toy_runs.images.joinpath(*IMAGE), "cls"), atol=1e-4)


def test_safetensors_start_another_run(cli, toy_runs, tmp_path):
    cli("export", "--checkpoint", toy_runs.classifier, "--out", "out", "--formats", "safetensors", "--part", "encoder")
    weights = read_weights(tmp_path / "out" / "model.safetensors")
    own = plsc.load(toy_runs.classifier).task.state_dict()
    assert weights.arrays and set(weights.arrays) <= set(own)
    assert all(np.array_equal(value, own[name].numpy()) for name, value in weights.arrays.items())
    assert not any(name.startswith("model.head") for name in weights.arrays)


@pytest.mark.parametrize(
    ("pooling", "norm", "global_pool"),
    [("mean", "fc_norm", "avg"), ("cls", "norm", "token"), ("tokens", "norm", "token")],
)
def test_timm(cli, toy_runs, tmp_path, pooling, norm, global_pool):
    options = ["--formats", "timm", "--pooling", pooling]
    code, _, err = cli("export", "--checkpoint", toy_runs.pretrain, "--out", "out", *options)
    assert code == 0, err
    arrays = load_file(tmp_path / "out" / "timm.safetensors")
    assert arrays["blocks.1.attn.qkv.weight"].shape == (48, 16) and "pos_embed" in arrays
    assert [name for name in arrays if name in ("norm.weight", "fc_norm.weight")] == [f"{norm}.weight"]
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"patch_size=(4, 4), embed_dim=16, depth=2, num_heads=2, num_classes=0, global_pool='{global_pool}'" in card


def test_timm_gets_the_encoder_of_a_classifier_without_its_head(cli, toy_runs, tmp_path):
    probe = toy_runs.train_probe(tmp_path / "probe")
    for part, classes in (("encoder", 0), ("classifier", 2)):
        code, _, err = cli("export", "--checkpoint", probe, "--out", part, "--formats", "timm", "--part", part)
        assert code == 0, err
        assert ("head.weight" in load_file(tmp_path / part / "timm.safetensors")) == bool(classes)
        card = (tmp_path / part / "README.md").read_text(encoding="utf-8")
        assert f"num_classes={classes}, global_pool='avg'" in card


def test_onnx(cli, toy_runs, tmp_path):
    pytest.importorskip("paddle2onnx", reason="the extra onnx is not installed")
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    code, out, err = cli("export", "--checkpoint", toy_runs.classifier, "--out", "out", "--formats", "onnx")
    assert code == 0, err
    assert "out/model.onnx: outputs differ from the network's by at most" in out


def test_another_output_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="m.onnx has other outputs than the network: they differ by up to 0.1"):
        exporting._compared(tmp_path / "m.onnx", np.zeros(3), np.full(3, 0.1))
    with pytest.raises(ValueError, match="up to inf"):
        exporting._compared(tmp_path / "m.onnx", np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="up to nan"):
        exporting._compared(tmp_path / "m.onnx", np.full(3, np.nan), np.zeros(3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "RUN"], "the following arguments are required: --out"),
        (["--checkpoint", "PRETRAIN", "--out", "x", "--part", "classifier"], "does not classify; export its encoder"),
        (["--checkpoint", "TOKENIZER", "--out", "x"], "whose network has no token features"),
        (["--checkpoint", "RUN", "--out", "x", "--formats", "timm", "--ema"], "moving average"),
        (["--checkpoint", "RUN", "--out", "x", "--formats", "timm"], "has no relative position bias"),
    ],
)
def test_mistakes_of_export(cli, toy_runs, arguments, message):
    known = {"RUN": toy_runs.classifier, "PRETRAIN": toy_runs.pretrain, "TOKENIZER": toy_runs.tokenizer}
    code, _, err = cli("export", *(known.get(argument, argument) for argument in arguments))
    assert code == 2 and message in err and "Traceback" not in err


def test_onnx_without_its_packages(cli, toy_runs, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "paddle2onnx", None)
    code, _, err = cli("export", "--checkpoint", toy_runs.classifier, "--out", "x", "--formats", "onnx")
    assert code == 2 and "ONNX needs paddle2onnx and onnxruntime" in err
    assert "pip install -e '.[onnx]' in the checkout of plsc" in err


def test_onnx_of_an_old_paddle_needs_an_old_converter(monkeypatch):
    for name in ("paddle2onnx", "onnxruntime"):
        monkeypatch.setitem(__import__("sys").modules, name, __import__("types"))
    monkeypatch.setattr(paddle, "__version__", "2.6.2")
    monkeypatch.setattr(exporting, "version", lambda name: "2.1.0")
    with pytest.raises(ImportError, match="paddle2onnx 2.1.0 cannot read programs of Paddle 2.6.2; pip install paddle"):
        exporting._onnx_tools()


def test_features_of_a_data_set(cli, toy_runs, tmp_path):
    options = ["--pooling", "mean", "cls", "--out", "deep/f.npz", "--batch-size", 5]
    code, out, err = cli("extract-features", "--checkpoint", toy_runs.classifier, *options)
    assert code == 0, err
    with np.load(tmp_path / "deep" / "f.npz", allow_pickle=False) as found:
        assert sorted(found.files) == ["classes", "cls", "files", "labels", "mean"]
        assert found["labels"].tolist() == [0] * 6 + [1] * 6 and found["classes"].tolist() == ["0", "1"]
        model = plsc.load(toy_runs.classifier)
        for number in (0, 7):
            assert np.allclose(found["mean"][number], model.features(str(found["files"][number])), atol=1e-5)
    assert "mean [12, 16]" in out


def test_features_of_files(cli, toy_runs, tmp_path):
    folder = toy_runs.images / "train" / "0"
    code, _, err = cli("extract-features", folder, "--checkpoint", toy_runs.pretrain, "--out", "f.npz")
    assert code == 0, err
    with np.load(tmp_path / "f.npz", allow_pickle=False) as found:
        assert sorted(found.files) == ["files", "mean"] and found["mean"].shape == (6, 16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "f.npy"], "--out must end in .npz, got f.npy"),
        (["--out", "f.npz", "x", "--split", "Train"], "set either images or --split, not both"),
        (["--out", "f.npz", "nowhere"], "nowhere: there is no such file or folder"),
        (["--out", "f.npz"], "DataLoader.Eval: the run has none; name images, or give --split Train"),
        (["--out", "f.npz", "--num-workers", "-1"], "--num-workers must be at least 0, got -1"),
    ],
)
def test_mistakes_of_extraction(cli, toy_runs, tmp_path, arguments, message):
    code, _, err = cli("extract-features", *arguments, "--checkpoint", toy_runs.pretrain)
    assert code == 2 and message in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
