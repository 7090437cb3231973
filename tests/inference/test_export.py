"""Exports hold the weights in hand and the preprocessing of the run."""

import json

import numpy as np
import pytest

import plsc
from plsc.checkpoint.formats import read_weights
from plsc.config import registry
from plsc.data.batch_transforms import BatchTransform
from plsc.inference import export as exporting
from plsc.inference.export import export

SHIFT = "DataLoader.Eval.batch_transforms+={name: Shift}"


class Shift(BatchTransform):
    """Preprocessing of a plug-in, which does not mention a key."""

    augments = False

    def __call__(self, batch, rng):
        return {**batch, "image": batch["image"] + 1.0}


@pytest.fixture
def changed(toy_runs):
    """A network whose weights differ from those of its checkpoint, as a moving average does."""
    model = plsc.load(toy_runs.pretrain)
    weight = model.task.encoder.blocks[0].mlp.fc1.weight
    weight.set_value(weight * 1.5)
    return model


@pytest.mark.parametrize(("kind", "file"), [("timm", "timm.safetensors"), ("safetensors", "model.safetensors")])
def test_the_weights_in_hand_are_exported(changed, tmp_path, kind, file):
    lines = []
    export(changed, tmp_path / "out", [kind], part="encoder", say=lines.append)
    found = read_weights(tmp_path / "out" / file).arrays["model.encoder.blocks.0.mlp.fc1.weight"]
    np.testing.assert_array_equal(found, changed.task.encoder.blocks[0].mlp.fc1.weight.numpy())
    assert f"{file}: outputs differ from the network's by at most" in lines[0]


@pytest.mark.parametrize("kind", ["timm", "safetensors"])
def test_a_file_with_other_outputs_is_refused(changed, tmp_path, monkeypatch, kind):
    original = exporting._arrays
    monkeypatch.setattr(exporting, "_arrays", lambda network: {n: a * 1.1 for n, a in original(network).items()})
    with pytest.raises(ValueError, match="has other outputs than the network"):
        export(changed, tmp_path / "out", [kind])
    assert not (tmp_path / "out").exists()


def test_preprocessing_of_a_plug_in_is_kept(toy_runs, tmp_path, monkeypatch):
    monkeypatch.setitem(registry.BATCH_TRANSFORMS._components, "Shift", Shift)
    plain, shifted = plsc.load(toy_runs.classifier), plsc.load(toy_runs.classifier, overrides=[SHIFT])
    pixels = [np.zeros((3, 32, 32), "uint8")]
    np.testing.assert_allclose(shifted.prepare(pixels).numpy(), plain.prepare(pixels).numpy() + 1.0)
    export(shifted, tmp_path / "out", ["safetensors"])
    facts = json.loads((tmp_path / "out" / "preprocessing.json").read_text(encoding="utf-8"))
    assert [node["name"] for node in facts["batch_transforms"]] == ["Normalize", "Shift"]


def test_augmentation_is_left_out(toy_runs):
    mixup = "DataLoader.Eval.batch_transforms+={name: MixupCutmix, num_classes: 2}"
    assert len(plsc.load(toy_runs.classifier, overrides=[mixup]).prepare.batch_transforms) == 1
