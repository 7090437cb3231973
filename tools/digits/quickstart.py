#!/usr/bin/env python
"""Run the quickstart on real images: tokenizer, CAE pre-training, linear probes, fine-tuning, training from scratch.

    python tools/digits/prepare.py && python tools/digits/quickstart.py

Trains six configs of configs/quickstart one after another, each in a separate `tools/train.py` process. Then prints a
table of accuracies and writes a figure and an HTML report. Completed runs are skipped; an interrupted run continues.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List, Optional, Tuple

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from plsc.sweep.jobs import run_command  # noqa: E402

RUNS = ("tokenizer", "pretrain", "linprobe_random", "linprobe", "scratch", "finetune")
LABELS = {
    "linprobe_random": "linear probe, random encoder",
    "linprobe": "linear probe, pre-trained encoder",
    "scratch": "trained from scratch",
    "finetune": "fine-tuned from pre-training",
}


def main(argv: Optional[List[str]] = None) -> int:
    """Run all configs; return the exit code of the first run that fails, or 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="datasets/digits", help="folder written by tools/digits/prepare.py")
    parser.add_argument("--output", default="output/quickstart", help="folder for the six runs")
    parser.add_argument(
        "-o", "--override", nargs="+", default=[], help="overrides for every run, such as a shorter length"
    )
    arguments = parser.parse_args(argv)
    output = Path(arguments.output)
    started = time.time()
    for number, name in enumerate(RUNS, 1):
        print(f"\n[{number}/{len(RUNS)}] configs/quickstart/{name}.yaml", flush=True)
        code = train(name, Path(arguments.data), output, arguments.override)
        if code:
            print(f"{name} exited with code {code}; run the same command to continue", file=sys.stderr)
            return code
    minutes = (time.time() - started) / 60
    figure = draw(output)
    print("\n" + table(output, Path(arguments.data)))
    print(f"\ntraining took {minutes:.1f} minutes\nruns:    {output}/\nfigure:  {figure}")
    print(f"curves:  visualdl --logdir {output}\nreport:  {output / 'report.html'}")
    return report(output)


def report(output: Path) -> int:
    """Write an HTML page that compares the runs; return the exit code."""
    title = "Quickstart: the gain of pre-training on digits"
    command = [sys.executable, "-m", "plsc", "report", *(str(output / name) for name in RUNS)]
    options = ["--out", str(output / "report.html"), "--title", title]
    return subprocess.call([*command, *options], stdout=subprocess.DEVNULL)


def train(name: str, data: Path, output: Path, overrides: List[str]) -> int:
    """Train one config in a separate process; return its exit code."""
    command = [sys.executable, str(ROOT / "tools" / "train.py"), "-c", str(ROOT / f"configs/quickstart/{name}.yaml")]
    settings = [f"Global.output_dir={output / name}", f"DataLoader.Train.dataset.root={data / 'train'}"]
    if name != "pretrain":
        settings.append(f"DataLoader.Eval.dataset.root={data / 'val'}")
    if name == "pretrain":
        settings.append(f"Tokenizer.checkpoint={output / 'tokenizer'}")
    if name in ("linprobe", "finetune"):
        settings.append(f"Init.checkpoint={output / 'pretrain'}")
    return run_command([*command, "-o", *settings, *overrides])


def read_metrics(run: Path, split: str) -> List[Dict[str, float]]:
    """Return the rows of one split in a run's metrics.jsonl, in order."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["split"] == split]


def table(output: Path, data: Path) -> str:
    """Format the accuracies on the validation images as a text table."""
    from tools.digits.prepare import raw_pixel_baseline

    rows: List[Tuple[str, float]] = [("logistic regression on raw pixels", raw_pixel_baseline(data))]
    rows += [(label, read_metrics(output / name, "eval")[-1]["top1"]) for name, label in LABELS.items()]
    width = max(len(label) for label, _ in rows)
    lines = [f"{'top-1 on 1,000 held-out digits':<{width}}       %", "-" * (width + 9)]
    return "\n".join(lines + [f"{label:<{width}}  {accuracy:6.1f}" for label, accuracy in rows])


def draw(output: Path) -> Path:
    """Draw loss curves, accuracy curves and reconstructions into one PNG file; return its path."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from PIL import Image

    figure, axes = pyplot.subplot_mosaic([["loss", "accuracy"], ["images", "images"]], figsize=(11, 8))
    losses = read_metrics(output / "pretrain", "train")
    for name, label in (("loss_main", "token prediction (nats)"), ("loss_align", "latent alignment (MSE)")):
        axes["loss"].plot([row["epoch"] for row in losses], [row[name] for row in losses], label=label)
    axes["loss"].set(title="pre-training losses", xlabel="epoch", ylabel="loss")
    for name in ("finetune", "scratch", "linprobe", "linprobe_random"):
        rows = read_metrics(output / name, "eval")
        axes["accuracy"].plot([r["epoch"] for r in rows], [r["top1"] for r in rows], marker=".", label=LABELS[name])
    axes["accuracy"].set(title="accuracy on held-out digits", xlabel="epoch", ylabel="top-1 (%)")
    for key in ("loss", "accuracy"):
        axes[key].legend()
        axes[key].grid(alpha=0.3)
    newest = sorted((output / "pretrain" / "pictures").glob("*.png"))[-1]
    axes["images"].imshow(Image.open(newest), interpolation="nearest")
    axes["images"].set_title("rows: original, masked, decoded tokens, predictions for the masked tokens")
    axes["images"].axis("off")
    figure.tight_layout()
    path = output / "quickstart.png"
    figure.savefig(path, dpi=120)
    return path


if __name__ == "__main__":
    sys.exit(main())
