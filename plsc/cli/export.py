"""`plsc export --checkpoint X --out DIR`: a network for use without this package."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import List, Optional

from plsc.cli import common

FORMATS = ("paddle", "onnx", "safetensors", "timm")
POOLINGS = ("mean", "cls", "tokens")


def main(argv: Optional[List[str]] = None) -> int:
    """Runs the verb; returns the exit code."""
    parser = common.parser("export", "Write a network for others, with its preprocessing and a model card.")
    common.add_checkpoint_options(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=["paddle"], help="which (paddle)")
    parser.add_argument("--part", choices=("classifier", "encoder"), help="what (the classifier, if it is one)")
    parser.add_argument("--pooling", choices=POOLINGS, default="mean", help="of the encoder's features (mean)")
    return common.guarded(_run, parser.parse_args(argv), prints_results=False)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.ema and "timm" in arguments.formats:
        raise ValueError("--formats timm takes the checkpoint's own weights; leave --ema out")

    model = common.load_predictor(arguments)
    from plsc.inference.export import export

    export(model, Path(arguments.out), arguments.formats, arguments.part, arguments.pooling)
    return 0
