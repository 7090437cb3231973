"""Command `plsc export --checkpoint X --out DIR`: export of a network for use without this package."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import List, Optional

from plsc.cli import common

FORMATS = ("paddle", "onnx", "safetensors", "timm")
POOLINGS = ("mean", "cls", "tokens")


def main(argv: Optional[List[str]] = None) -> int:
    """Run the verb; return the exit code."""
    parser = common.parser("export", "Export a network with its preprocessing and a model card.")
    common.add_checkpoint_options(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=["paddle"], help="formats to write (paddle)")
    parser.add_argument(
        "--part", choices=("classifier", "encoder"), help="part to export (classifier, if there is one)"
    )
    parser.add_argument("--pooling", choices=POOLINGS, default="mean", help="pooling of the encoder's features (mean)")
    return common.guarded(_run, parser.parse_args(argv), prints_results=False)


def _run(arguments: argparse.Namespace) -> int:

    model = common.load_predictor(arguments)
    from plsc.inference.export import export

    export(model, Path(arguments.out), arguments.formats, arguments.part, arguments.pooling)
    return 0
