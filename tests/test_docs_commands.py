"""The commands of the pages about using what was trained, run from the Markdown itself on toy runs."""

import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import pytest

from plsc import runtime

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("reports", "visualizing", "inference", "tuning")


def blocks(page, language):
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands():
    lines = [(page, line) for page in PAGES for block in blocks(page, "sh") for line in block.splitlines()]
    return [line for _, line in lines if "tools/train.py" not in line]


@pytest.fixture
def quickstart(toy_runs, tmp_path, monkeypatch):
    """A folder that looks as after the quickstart."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runtime, "setup", lambda num_threads=None: {})
    output = tmp_path / "output" / "quickstart"
    output.mkdir(parents=True)
    runs = {"finetune": "classifier", "scratch": "classifier", "linprobe": "pretrain"}
    for name in ("tokenizer", "pretrain", *runs):
        shutil.copytree(getattr(toy_runs, runs.get(name, name)), output / name)
    shutil.copytree(toy_runs.images, tmp_path / "datasets" / "digits")
    digits = tmp_path / "datasets" / "digits" / "val" / "0"
    for target in ("datasets/digits/val/3/1502.png", "my_images/b.png", "a.png", "digit.png"):
        (tmp_path / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(digits / "0.png", tmp_path / target)
    return tmp_path


@pytest.mark.parametrize("line", commands())
def test_the_command_works(quickstart, cli, line):
    words = shlex.split(line.split(" > ")[0], comments=True)
    assert words[0] == "python", line
    if "onnx" in words and importlib.util.find_spec("paddle2onnx") is None:
        pytest.skip("the extra onnx is not installed")
    verb = Path(words[1]).stem.replace("_", "-")
    extra = ["--dry-run"] if verb == "sweep" else []
    if "configs/quickstart/pretrain.yaml" in words:
        extra = ["-o", "Model.vocab_size=8", "DataLoader.Train.loader.batch_size=4"]
    code, _, err = cli(verb, *words[2:], *extra)
    assert code == 0, err


def test_the_first_lines_of_python_work(quickstart):
    first, *_ = blocks("inference", "python")
    names = {}
    exec(first, names)  # noqa: S102 - our own page
    assert names["features"].shape == (16,)
