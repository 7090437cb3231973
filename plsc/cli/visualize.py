"""Command `plsc visualize -c CONFIG --checkpoint X --images DIR`: PNG figures of a config and a network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import List, Optional, Tuple

from plsc.cli import common
from plsc.config import files as config_files

PARTS = ("augmentation", "masks", "schedules", "reconstruction", "attention")


def main(argv: Optional[List[str]] = None) -> int:
    """Run the verb; return the exit code."""
    parser = common.parser(
        "visualize",
        "Write PNG figures of the augmentation, masks and schedules of a config; with a checkpoint also of the "
        "reconstructions and the attention of its network.",
    )
    common.add_config_options(parser, required=False)
    parser.add_argument(
        "--checkpoint", metavar="PATH", help="run directory or checkpoint; its config is used without -c"
    )
    parser.add_argument(
        "--images", nargs="+", default=[], metavar="PATH", help="image files or folders (the training set)"
    )
    parser.add_argument(
        "--out", default="output/visualize", metavar="DIR", help="folder of the PNG files (output/visualize)"
    )
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help="figures to write (all that apply)"
    )
    parser.add_argument("--count", type=int, default=8, help="maximal number of images (8)")
    parser.add_argument("--patch", metavar="ROW,COLUMN", help="query patch of the attention, from 0 (the center)")
    parser.add_argument("--block", type=int, default=-1, help="block of the attention; negative: from the last (-1)")
    parser.add_argument("--ema", action="store_true", help="use the moving average of the weights")
    arguments = parser.parse_args(argv)
    if arguments.config is None and arguments.checkpoint is None:
        parser.error("-c FILE or --checkpoint PATH is required")
    return common.guarded(_run, arguments, prints_results=False)


def _run(arguments: argparse.Namespace) -> int:
    patch = None if arguments.patch is None else _patch(arguments.patch)
    if arguments.count < 1:
        raise ValueError(f"--count must be at least 1, got {arguments.count}")
    from plsc.checkpoint.reader import Checkpoint

    checkpoint = Checkpoint.open(arguments.checkpoint) if arguments.checkpoint is not None else None
    if checkpoint is not None:
        arguments.config = arguments.config or str(checkpoint.path / "config.yaml")
    config, _ = common.prepare(config_files.load(arguments.config, common.overrides(arguments)))
    from plsc.engine.device import set_device
    from plsc.inference.restore import restore_task
    from plsc.visualize.pictures import Pictures, visualize

    set_device(config.global_.device)
    task = restore_task(config, checkpoint, arguments.ema).task if checkpoint is not None else None
    pictures = Pictures(config, arguments.images, arguments.count, task, patch, arguments.block)
    visualize(pictures, Path(arguments.out), arguments.parts)
    return 0


def _patch(text: str) -> Tuple[int, int]:
    parts = text.split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise ValueError(f"--patch must be a row and a column, such as 3,4, got {text!r}")
    return int(parts[0]), int(parts[1])
