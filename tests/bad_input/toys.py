"""Shared parts of the tables of invalid input: two small valid configs, and the check of the error."""

import os
import re
import shutil
from pathlib import Path
from typing import Callable, List, NamedTuple, Sequence

import numpy as np
from PIL import Image

CLASSIFY = """\
Global: {output_dir: out, epochs: 1, progress: none, device: cpu}
Task: {name: Classification}
Model:
  name: Classifier
  encoder: {name: ViT, image_size: 16, patch_size: 4, embed_dim: 16, depth: 2, num_heads: 2}
  head: {name: LinearHead, in_features: 16, num_classes: 2}
Loss: {name: CrossEntropy}
DataLoader:
  Train:
    dataset: {name: ImageFolder, root: images/train}
    transforms: [{name: RandomResizedCrop, size: 16}]
    batch_transforms: [{name: Normalize}]
    loader: {batch_size: 4}
  Eval:
    dataset: {name: ImageFolder, root: images/val}
    transforms: [{name: CenterCrop, size: 16}]
    batch_transforms: [{name: Normalize}]
    loader: {batch_size: 4}
Metric: [{name: Accuracy, topk: [1]}]
Optimizer: {name: AdamW}
LRScheduler: {name: WarmupCosine, learning_rate: 1e-3}
"""
PRETRAIN = """\
Global: {output_dir: out, epochs: 1, progress: none, device: cpu}
Task: {name: MaskedImageModeling}
Model:
  name: CAE
  encoder: {name: ViT, image_size: 16, patch_size: 4, embed_dim: 16, depth: 2, num_heads: 2}
  regressor_depth: 1
  decoder_depth: 1
  vocab_size: 8
MaskGenerator: {name: RandomMask, grid: 4, num_masked: 8}
Tokenizer: {name: RandomTokenizer, vocab_size: 8, patch_size: 4}
Loss: {name: CAELoss}
DataLoader:
  Train:
    dataset: {name: ImageFolder, root: images/train}
    transforms: [{name: TwoSizeCrop, size: 16, second_size: 16}]
    batch_transforms: [{name: Normalize}, {name: ToFloat}]
    loader: {batch_size: 4}
Optimizer: {name: AdamW}
LRScheduler: {name: WarmupCosine, learning_rate: 1e-3}
"""
CLASSES, IMAGES, SIDE = 2, 4, 20
_DEBUG_HINT = "(--debug shows the traceback)"


class Case(NamedTuple):
    """An invalid input and the expected message.

    Attributes:
        name: Test id.
        says: Required parts of the message.
        overrides: Arguments of `-o`.
        prepare: Makes files in the current folder invalid; None if the overrides are the invalid part.
        arguments: The command line; by default `train -c CONFIG -o overrides`.
    """

    name: str
    says: Sequence[str]
    overrides: Sequence[str] = ()
    prepare: Callable[[], object] = lambda: None
    arguments: Sequence[object] = ()


def rows(table) -> List[Case]:
    """Cases from rows `(overrides in one string, part of the message, ...)`; two spaces separate overrides."""
    return [Case(text, says, text.split("  ")) for text, *says in table]


def make_images(root: Path) -> None:
    """Write images of two classes to `train` and `val`."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in range(CLASSES):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(IMAGES):
                Image.fromarray(rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / f"{number}.png")


def refused(cli, arguments, says, output="out") -> str:
    """Run `plsc arguments`, check that it fails with a user's error, and return its output.

    It must print one error with each of `says` and no traceback, end with code 2 and leave no output directory.
    """
    before = set(os.listdir())
    code, out, err = cli(*arguments)
    text = out + err
    assert code == 2, text
    assert "Traceback" not in text, text
    assert len(re.findall(r"(?:^|plsc [\w-]+: )error: ", text, re.MULTILINE)) == 1, text
    missing = [part for part in says if part not in text]
    assert not missing, f"{missing} not in\n{text}"
    assert not os.path.lexists(output), f"left behind: {sorted(Path(output).rglob('*'))}"
    left = set(os.listdir()) - before - {"__pycache__"}
    assert not left, f"left behind: {left}"
    return text.replace(_DEBUG_HINT, "").strip()


def trains(cli, *overrides, config="classify.yaml"):
    """Train with an unusual but valid config, remove its files and return its output."""
    code, out, err = cli("train", "-c", config, "-o", "Global.seed=0", *overrides)
    assert code == 0, out + err
    assert Path("out/checkpoints/latest").is_file()
    shutil.rmtree("out")
    return out + err
