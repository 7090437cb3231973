"""Command `plsc extract-features --checkpoint X IMAGES --out features.npz`: features of images for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Dict, List, Optional

from plsc.cli import common

POOLINGS = ("mean", "cls", "tokens")


def main(argv: Optional[List[str]] = None) -> int:
    """Run the verb; return the exit code."""
    parser = common.parser("extract-features", "Write the features of images to an .npz file.")
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="files or folders (the run's evaluation set)")
    common.add_checkpoint_options(parser)
    parser.add_argument("--out", required=True, metavar="FILE", help="the .npz file to write")
    parser.add_argument("--split", choices=("Train", "Eval"), help="dataset of the run, instead of IMAGE (Eval)")
    parser.add_argument("--pooling", nargs="+", choices=POOLINGS, default=["mean"], help="features to write (mean)")
    parser.add_argument("--batch-size", type=int, default=64, help="images per batch (64)")
    parser.add_argument("--num-workers", type=int, default=0, help="processes that read images (0)")
    return common.guarded(_run, parser.parse_args(argv), prints_results=False)


def _run(arguments: argparse.Namespace) -> int:
    common.at_least(1, batch_size=arguments.batch_size)
    common.at_least(0, num_workers=arguments.num_workers)
    common.at_most(1024, num_workers=arguments.num_workers)
    if arguments.images and arguments.split:
        raise ValueError("set either images or --split, not both")
    path = Path(arguments.out)
    if path.suffix != ".npz":
        raise ValueError(f"--out must end in .npz, got {path}")
    from plsc.checkpoint.replace import check_file, npz_with, replacing_file

    check_file(path, npz_with(*POOLINGS), "a file of features")
    model = common.load_predictor(arguments)
    import numpy as np

    from plsc.inference.features import extract_features

    arrays: Dict[str, Any] = extract_features(
        model, arguments.images, arguments.split, arguments.pooling, arguments.batch_size, arguments.num_workers
    )
    with replacing_file(path, npz_with(*POOLINGS), "a file of features") as file, open(file, "wb") as opened:
        np.savez(opened, **arrays)
    shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in arrays.items())
    print(f"{path}: {shapes}")
    return 0
