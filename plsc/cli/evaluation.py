"""Command `plsc eval --checkpoint PATH`: metrics of a checkpoint on its evaluation set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import List, Optional

from plsc import strict_json
from plsc.cli import common
from plsc.config import files as config_files
from plsc.config.tree import ConfigError


def main(argv: Optional[List[str]] = None) -> int:
    """Run the verb; return the exit code."""
    parser = common.parser("eval", "Evaluate a checkpoint and print the metrics as one JSON object.")
    common.add_config_options(parser, required=False)
    parser.add_argument("--checkpoint", required=True, metavar="PATH", help="run directory, checkpoint, latest or best")
    parser.add_argument("--ema", action="store_true", help="use the moving average of the weights")
    parser.add_argument(
        "--details", action="store_true", help="print tables of per-class accuracy, confusions and calibration"
    )
    parser.add_argument("--json", metavar="FILE", help="write the details and the confusion matrix as JSON")
    return common.guarded(_run, parser.parse_args(argv))


def _run(arguments: argparse.Namespace) -> int:
    from plsc.checkpoint import replace
    from plsc.checkpoint.reader import Checkpoint

    if arguments.json is not None:
        replace.check_json(Path(arguments.json), "metrics")
    checkpoint = Checkpoint.open(arguments.checkpoint)
    arguments.config = arguments.config or str(checkpoint.path / "config.yaml")
    tree = config_files.load(arguments.config, common.overrides(arguments))
    if "Model" not in tree:
        raise ConfigError(
            f"{arguments.config} describes no model, because it belongs to a converted file with weights only; set the "
            "config of the model with -c"
        )
    config, _ = common.prepare(tree)
    from plsc.inference.evaluate import evaluate_checkpoint

    if not (arguments.details or arguments.json):
        print(strict_json.dumps(evaluate_checkpoint(config, checkpoint, arguments.ema)))
        return 0
    from plsc.inference.per_class import evaluate_in_detail, table

    found = evaluate_in_detail(config, checkpoint, arguments.ema)
    if arguments.json is not None:
        replace.write_json(Path(arguments.json), found, "metrics")
    print(table(found))
    return 0
