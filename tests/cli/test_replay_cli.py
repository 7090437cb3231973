"""A run with non-finite gradients writes a dump, and another process repeats the step."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.integration.runs import data, environment, make_digits, metrics, train

PRETRAIN = "configs/quickstart/pretrain.yaml"
POISON = """
from plsc.config.registry import BATCH_TRANSFORMS
from plsc.data.batch_transforms import BatchTransform

@BATCH_TRANSFORMS.register()
class Poison(BatchTransform):
    augments = True

    def __call__(self, batch, rng):
        if 3 in batch["index"].numpy():
            batch = {**batch, "image": batch["image"] * float("inf")}
        return batch
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken")
    images = make_digits(folder / "digits")
    (folder / "poison.py").write_text(POISON, encoding="utf-8")
    overrides = [
        *data(images, evaluation=False), "Model.encoder.embed_dim=16", "Model.encoder.depth=2",
        "Model.encoder.num_heads=2", "Model.vocab_size=32", "~Callbacks",
        "Tokenizer={_delete_: true, name: RandomTokenizer, vocab_size: 32, patch_size: 4}", "imports=[poison]",
        "DataLoader.Train.batch_transforms+={name: Poison}", "Global.output_dir=run", "Global.epochs=2",
    ]  # fmt: skip
    return folder, overrides


def replay(*arguments, cwd):
    command = [sys.executable, "-m", "plsc", "replay", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=120, check=False)


def test_the_run_stops_with_names_and_the_dump_repeats_it(run):
    folder, overrides = run
    text = train(PRETRAIN, overrides, folder, expect=1)
    assert "Traceback" not in text
    dump = next((folder / "run" / "nonfinite").iterdir())
    facts = json.loads((dump / "rank_0" / "facts.json").read_text(encoding="utf-8"))
    with np.load(dump / "rank_0" / "batch_0.npz") as batch:
        assert 3 in batch["index"]
    assert len(facts["files"]) == 4 and facts["files"][0] in text
    assert "the batch's image is not finite" in text
    done = replay(dump.relative_to(folder), cwd=folder)
    assert done.returncode == 0, done.stderr
    now = next(line for line in done.stdout.splitlines() if line.startswith("now:"))
    assert now == f"now:  {facts['where']}"


def test_skip_trains_on_without_the_broken_batches(run):
    folder, overrides = run
    train(PRETRAIN, [*overrides, "Global.output_dir=skip", "Global.on_nonfinite=skip"], folder)
    rows = metrics(folder / "skip")
    assert rows[-1]["step"] == 10 and rows[-1]["skipped_steps"] == 2.0
    assert all(np.isfinite(row["loss"]) for row in rows)


def test_a_folder_that_is_not_a_dump_is_an_error(tmp_path):
    done = replay(tmp_path, cwd=tmp_path)
    assert done.returncode == 2 and "is not a dump of a step" in done.stderr
    (tmp_path / "config.yaml").write_text("imports: []\n", encoding="utf-8")
    assert replay(tmp_path, cwd=tmp_path).returncode == 2
