"""Every command verifies the files of a checkpoint once and reads only the arrays that it needs."""

from collections import Counter
from pathlib import Path

import pytest
import safetensors.numpy

from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint.reader import Checkpoint
from tests.faults.scenes import arguments


@pytest.fixture
def reads(monkeypatch):
    """Counts by (folder of the checkpoint, file): `verified`, and `read` for arrays."""
    verified, read = Counter(), Counter()
    fingerprint, load_file = checkpoint_files.fingerprint, safetensors.numpy.load_file

    def counted_fingerprint(path):
        verified[Path(path).parent.name, Path(path).name] += 1
        return fingerprint(path)

    def counted_load(path):
        read[Path(path).parent.name, Path(path).name] += 1
        return load_file(path)

    monkeypatch.setattr(checkpoint_files, "fingerprint", counted_fingerprint)
    monkeypatch.setattr(safetensors.numpy, "load_file", counted_load)
    return verified, read


COMMANDS = {
    "eval": lambda run, images: ["eval", "--checkpoint", run],
    "eval --details": lambda run, images: ["eval", "--checkpoint", run, "--details"],
    "predict": lambda run, images: ["predict", images / "val" / "1" / "0.png", "--checkpoint", run],
    "export": lambda run, images: ["export", "--checkpoint", run, "--out", "out", "--formats", "safetensors"],
    "convert": lambda run, images: ["convert", run, "out.pd", "--to", "plsc"],
    "visualize": lambda run, images: ["visualize", "--checkpoint", run, "--parts", "attention", "--count", "1"],
    "evaluate-frozen": lambda run, images: ["evaluate-frozen", "--checkpoint", run, "--protocols", "knn"],
    "extract-features": lambda run, images: ["extract-features", "--checkpoint", run, "--out", "out.npz"],
    "report": lambda run, images: ["report", run, "--out", "out.html"],
    "init": lambda run, images: arguments(images, "new", f"Init.checkpoint={run}", "Global.max_train_step=1"),
}


CASES = [(name, where) for name in COMMANDS for where in ("", "checkpoints/latest") if name != "report" or not where]


@pytest.mark.parametrize(("name", "where"), CASES)
def test_users_of_weights_verify_each_file_once_and_read_the_model_only(cli, toy_runs, reads, name, where):
    saved = Checkpoint.open(toy_runs.classifier)
    verified, read = reads
    verified.clear()
    code, _, error = cli(*COMMANDS[name](toy_runs.classifier / where, toy_runs.images))
    assert code == 0, error
    folder = saved.path.name
    assert {key: count for key, count in verified.items() if key[0] == folder} == {
        (folder, name): 1 for name in saved.state["files"]
    }
    assert {key: count for key, count in read.items() if key[0] == folder} == {(folder, "model.safetensors"): 1}


def test_a_moving_average_is_read_instead_of_the_weights(cli, toy_runs, reads):
    command = [*arguments(toy_runs.images, "run", "Global.max_train_step=1"), "EMA.decay=0.9"]
    assert cli(*command)[0] == 0
    verified, read = reads
    verified.clear()
    code, _, error = cli("eval", "--checkpoint", "run", "--ema")
    assert code == 0, error
    assert set(verified.values()) == {1}
    assert [name for _, name in read] == ["ema.safetensors"]


def test_a_resumed_run_verifies_each_file_once_and_reads_each_part_once(cli, toy_runs, reads):
    command = arguments(toy_runs.images, "run")
    assert cli(*command, "Global.max_train_step=2")[0] == 0
    folder = Checkpoint.open("run").path.name
    verified, read = reads
    verified.clear()
    code, _, error = cli(*command, "Global.max_train_step=3")
    assert code == 0, error
    assert {name: count for (where, name), count in verified.items() if where == folder} == {
        "config.yaml": 1,
        "model.safetensors": 1,
        "optimizer.safetensors": 1,
    }
    assert {name: count for (where, name), count in read.items() if where == folder} == {
        "model.safetensors": 1,
        "optimizer.safetensors": 1,
    }
