"""Runs are restored from their checkpoints alone, whatever phase they are of."""

import numpy as np
import paddle
import pytest

from plsc.checkpoint.arrays import CheckpointError
from plsc.checkpoint.files import write
from plsc.checkpoint.reader import Checkpoint
from plsc.config import plugins
from plsc.config.files import load
from plsc.config.run_config import RunConfig
from plsc.config.tree import ConfigError, dump
from plsc.engine.parts import build_task
from plsc.inference.evaluate import evaluate_checkpoint
from plsc.inference.restore import read_config, restore
from plsc.tokenizers import Target
from tests.integration.runs import SMALL_ENCODER, make_digits

PROBE = ("configs/quickstart/linprobe_random.yaml", ["Model.head.in_features=16", "Model.head.num_classes=2"])
PRETRAIN = ("configs/quickstart/pretrain.yaml", ["Model.vocab_size=16", "Tokenizer.checkpoint=nowhere"])


def save(folder, phase, step=7, seed=5, ema=False):
    """A checkpoint of untrained weights; returns them and the run's directory."""
    file, overrides = phase
    config = load(file, [*SMALL_ENCODER, *overrides, f"Global.output_dir={folder / 'run'}"])
    plugins.load_built_in()
    checked = RunConfig.checked(config)
    standing = build_task(checked, seed, tokenizer=_NoTokenizer() if "Tokenizer" in config else None)
    weights = {name: value.numpy() for name, value in standing.state_dict().items()}
    arrays = {"model": weights, "optimizer": {}}
    if ema:
        arrays["ema"] = {**{name: 0 * value for name, value in weights.items()}, "updates": np.array([3])}
    write(folder / "run" / "checkpoints", step, arrays, {}, dump(config))
    return weights, folder / "run"


class _NoTokenizer(Target):
    kind = "ids"

    def __call__(self, batch):
        raise AssertionError


@pytest.mark.parametrize("phase", [PROBE, PRETRAIN], ids=["probe", "pretrain"])
@pytest.mark.parametrize("where", ["", "checkpoints", "checkpoints/latest", "checkpoints/step_00000007"])
def test_a_task_comes_back_with_its_weights(tmp_path, phase, where):
    weights, run = save(tmp_path, phase)
    restored = restore(run / where)
    assert restored.step == 7 and restored.path == run / "checkpoints" / "step_00000007"
    assert restored.config["Global"]["output_dir"] == str(run)
    for name, value in restored.task.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), weights[name])
    assert not restored.task.encoder.blocks[0].training
    assert restored.task.encoder(paddle.zeros([1, 3, 32, 32])).shape == [1, 65, 16]


def test_a_missing_tokenizer_is_missed_only_when_it_is_used(tmp_path):
    _, run = save(tmp_path, PRETRAIN)
    tokenizer = restore(run).task.tokenizer
    with pytest.raises(ValueError, match="tokenizer of this checkpoint cannot be built.*nowhere"):
        tokenizer({})


def test_overrides_change_what_is_not_the_model(tmp_path):
    _, run = save(tmp_path, PROBE)
    assert restore(run, ["Global.seed=3"]).config["Global"]["seed"] == 3
    with pytest.raises(CheckpointError, match="is of another model"):
        restore(run, ["Model.encoder.depth=3"])
    with pytest.raises(ConfigError, match="did you mean 'depth'"):
        restore(run, ["Model.encoder.detph=3"])


def test_the_average_of_the_weights(tmp_path):
    _, run = save(tmp_path, PROBE, ema=True)
    state = restore(run, ema=True).task.state_dict()
    assert not state["model.head.linear.weight"].numpy().any()
    assert restore(run).task.state_dict()["model.head.linear.weight"].numpy().any()


def test_what_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist; give a run's output directory"):
        restore(tmp_path / "nowhere")
    _, run = save(tmp_path, PROBE)
    with pytest.raises(ConfigError, match="holds no moving average of the weights"):
        restore(run, ema=True)
    with pytest.raises(ConfigError, match="has no config.yaml"):
        read_config(tmp_path)


def test_an_evaluation_uses_the_checkpoints_weights(tmp_path):
    make_digits(tmp_path / "digits", per_class=3)
    _, run = save(tmp_path, PROBE, ema=True)
    data = [f"DataLoader.Eval.dataset.root={tmp_path / 'digits' / 'val'}"]
    restored = restore(run, data)
    checkpoint = Checkpoint(restored.path)
    found = evaluate_checkpoint(restored.config, checkpoint, ema=True)
    assert found["loss"] == pytest.approx(np.log(2), abs=1e-5)  # all weights are zero
    assert evaluate_checkpoint(restored.config, checkpoint)["loss"] != found["loss"]
    with pytest.raises(ConfigError, match="DataLoader.Eval: the config has no evaluation set"):
        evaluate_checkpoint(restore(run, ["DataLoader.Eval=null", "Metric=null"]).config, checkpoint)
