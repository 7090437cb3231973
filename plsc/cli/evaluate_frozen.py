"""`plsc evaluate-frozen -c CONFIG`: what a frozen encoder is worth, by several protocols in one go."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import List, Optional

from plsc.cli import common

PROTOCOLS = ("knn", "linear", "attentive", "layers")


def main(argv: Optional[List[str]] = None) -> int:
    """Runs the verb; returns the exit code."""
    parser = common.parser(
        "evaluate-frozen",
        "Classify by features of a frozen encoder. The config is one of a probe: its encoder, its training and "
        "evaluation sets, and Init.checkpoint for the weights (null: random ones).",
    )
    common.add_config_options(parser)
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS), help="which (all)")
    parser.add_argument("--epochs", type=int, default=60, help="passes of each classifier over the features (60)")
    parser.add_argument("--validation-share", type=float, default=0.2, help="of the training images, to choose (0.2)")
    parser.add_argument("--validation-only", action="store_true", help="leave the evaluation set alone")
    parser.add_argument("--json", metavar="FILE", help="write everything that was tried, too")
    return common.guarded(_run, parser.parse_args(argv))


def _run(arguments: argparse.Namespace) -> int:
    if arguments.epochs < 1:
        raise ValueError(f"--epochs must be at least 1, got {arguments.epochs}")
    if not 0 < arguments.validation_share < 1:
        raise ValueError(f"--validation-share must be in (0, 1), got {arguments.validation_share:g}")
    config = common.load_config(arguments)
    common.prepare(config)
    from plsc.engine.frozen import evaluate_config
    from plsc.evaluation.frozen import Settings, table

    settings = Settings(arguments.validation_share, arguments.epochs, config["Global"].get("seed", 0))
    results = evaluate_config(config, arguments.protocols, settings, not arguments.validation_only)
    if arguments.json is not None:
        path = Path(arguments.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(table(results))
    return 0
