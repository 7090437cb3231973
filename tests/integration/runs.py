"""Toy versions of the quickstart: real commands in separate processes, on a few small images."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent.parent
SMALL = ["Global.log_every_steps=2", "Global.progress=lines", "Global.device=cpu"]
SMALL_ENCODER = ["Model.encoder.embed_dim=16", "Model.encoder.depth=2", "Model.encoder.num_heads=2"]


def make_digits(root, per_class=10, classes=2, size=32):
    """Write images of two easily separable classes: bright left or bright right halves, with noise."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in range(classes):
            folder = Path(root) / split / str(label)
            folder.mkdir(parents=True)
            for number in range(per_class):
                pixels = rng.integers(0, 100, (size, size, 3), dtype=np.uint8)
                half = slice(0, size // 2) if label % 2 == 0 else slice(size // 2, size)
                pixels[:, half] += 120
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return Path(root)


def data(root, evaluation=True):
    """Overrides for data in a folder made by `make_digits`."""
    train = [f"DataLoader.Train.dataset.root={root}/train", "DataLoader.Train.loader.batch_size=4"]
    val = [f"DataLoader.Eval.dataset.root={root}/val", "DataLoader.Eval.loader.batch_size=3"]
    return train + (val if evaluation else [])


def command(config, overrides):
    """Command line of a run, as a list."""
    return [sys.executable, str(ROOT / "tools" / "train.py"), "-c", str(ROOT / config), "-o", *SMALL, *overrides]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def train(config, overrides, cwd, expect=0):
    """Run a config to its end and return its output."""
    done = subprocess.run(
        command(config, overrides), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )
    text = done.stdout + done.stderr
    assert done.returncode == expect, text
    return text


def metrics(run, split="train"):
    """Rows of one split in a run's metrics.jsonl."""
    rows = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["split"] == split]
