"""Command `plsc convert IN OUT --to FORMAT`: conversion of weights between the formats of several projects."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import List, Optional

from plsc.cli import common

FORMATS = ("plsc", "official", "own", "safetensors", "timm-vit")


def main(argv: Optional[List[str]] = None) -> int:
    """Run the verb; return the exit code."""
    parser = common.parser("convert", "Convert weights between the formats of plsc, PLSC, the CAE authors and timm.")
    parser.add_argument("source", metavar="IN", help="run directory, checkpoint, or file .pd, .pth or .safetensors")
    parser.add_argument("target", metavar="OUT", help="file to write; a directory for `own`")
    parser.add_argument("--to", required=True, choices=FORMATS, help="format of the output")
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    return common.guarded(_run, parser.parse_args(argv), prints_results=False)


def _run(arguments: argparse.Namespace) -> int:
    common.set_up()
    from plsc.checkpoint.convert import convert

    print(convert(Path(arguments.source), Path(arguments.target), arguments.to, arguments.force))
    return 0
