"""Command `plsc report RUN [RUN...]`: an HTML report of one run or several runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import List, Optional

from plsc.cli import common

EMBEDDINGS = ("pca", "tsne", "umap")


def main(argv: Optional[List[str]] = None) -> int:
    """Run the verb; return the exit code."""
    parser = common.parser("report", "Write a self-contained HTML report of one run or a comparison of several runs.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="output directory of a training run")
    parser.add_argument(
        "--out", metavar="FILE", help="HTML file (report.html in the run, or in the parent folder of several)"
    )
    parser.add_argument("--title", help="title of the page")
    parser.add_argument(
        "--images", type=int, default=2000, metavar="N", help="labeled images to evaluate per run; 0: none (2000)"
    )
    parser.add_argument(
        "--embedding", choices=EMBEDDINGS, default="tsne", help="projection of features to two dimensions (tsne)"
    )
    return common.guarded(_run, parser.parse_args(argv), prints_results=False)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.images < 0:
        raise ValueError(f"--images must be at least 0, got {arguments.images}")
    common.set_up()
    from plsc.report.compare import report

    out = Path(arguments.out) if arguments.out is not None else None
    print(report(arguments.runs, out, arguments.title, arguments.images, embedding=arguments.embedding))
    return 0
