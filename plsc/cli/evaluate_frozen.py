"""Command `plsc evaluate-frozen --checkpoint RUN`: evaluation of a frozen encoder by several protocols."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional

from plsc.cli import common
from plsc.config import files as config_files
from plsc.config.overrides import apply_override
from plsc.config.tree import ConfigError, ConfigMap

if TYPE_CHECKING:
    from plsc.checkpoint.reader import Checkpoint

PROTOCOLS = ("knn", "ridge", "linear", "attentive", "ep", "layers")
DEFAULT = ("knn", "linear", "attentive", "ep", "layers")


def main(argv: Optional[List[str]] = None) -> int:
    """Run the verb; return the exit code."""
    parser = common.parser(
        "evaluate-frozen",
        "Evaluate the features of a frozen encoder. The encoder and data are those of a checkpoint (--checkpoint; "
        "--data-config selects other data), or those of a config with the weights of its Init.checkpoint (-c; null: "
        "random weights).",
    )
    common.add_config_options(parser, required=False)
    parser.add_argument("--checkpoint", metavar="PATH", help="run directory, checkpoint, latest or best; instead of -c")
    parser.add_argument("--data-config", metavar="FILE", help="use the DataLoader section of this config instead")
    parser.add_argument("--ema", action="store_true", help="with --checkpoint: use the moving average of the weights")
    parser.add_argument("--random", action="store_true", help="also evaluate the same encoder with random weights")
    parser.add_argument(
        "--protocols", nargs="+", choices=PROTOCOLS, default=list(DEFAULT), help="protocols (all but ridge)"
    )
    parser.add_argument("--epochs", type=int, default=60, help="training epochs of each classifier (60)")
    parser.add_argument(
        "--validation-share", type=float, default=0.2, help="fraction of the training images for selection (0.2)"
    )
    parser.add_argument("--validation-only", action="store_true", help="do not use the evaluation set")
    parser.add_argument("--json", metavar="FILE", help="also write all results to this file")
    arguments = parser.parse_args(argv)
    if (arguments.config is None) == (arguments.checkpoint is None):
        parser.error("set either --checkpoint PATH or -c CONFIG")
    if arguments.ema and arguments.checkpoint is None:
        parser.error("--ema needs --checkpoint")
    return common.guarded(_run, arguments)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.epochs < 1:
        raise ValueError(f"--epochs must be at least 1, got {arguments.epochs}")
    if not 0 < arguments.validation_share < 1:
        raise ValueError(f"--validation-share must be in (0, 1), got {arguments.validation_share:g}")
    from plsc.checkpoint import replace

    if arguments.json is not None:
        replace.check_json(Path(arguments.json), *PROTOCOLS)
    checkpoint = _checkpoint(arguments)
    config, _ = common.prepare(_config(arguments, checkpoint))
    from plsc.evaluation.frozen.protocols import Settings, table
    from plsc.inference import frozen
    from plsc.inference.restore import restore_task

    settings = Settings(arguments.validation_share, arguments.epochs, config.global_.seed)
    options = (arguments.protocols, settings, not arguments.validation_only)
    if checkpoint is None:
        results = frozen.evaluate_config(config, *options)
    else:
        results = frozen.evaluate_restored(restore_task(config, checkpoint, arguments.ema), *options)
    random = frozen.evaluate_random(config, *options) if arguments.random else None
    if arguments.json is not None:
        written = results if random is None else {**results, "random": random}
        replace.write_json(Path(arguments.json), written, *PROTOCOLS)
    print(table(results, random))
    return 0


def _checkpoint(arguments: argparse.Namespace) -> Optional[Checkpoint]:
    if arguments.checkpoint is None:
        return None
    from plsc.checkpoint.reader import Checkpoint

    return Checkpoint.open(arguments.checkpoint)


def _config(arguments: argparse.Namespace, checkpoint: Optional[Checkpoint]) -> ConfigMap:
    """Load the config of `-c` or of the checkpoint, replace its data by `--data-config`, and apply the overrides."""
    config = config_files.load(arguments.config if checkpoint is None else checkpoint.path / "config.yaml")
    if arguments.data_config is not None:
        data = config_files.load(arguments.data_config)
        if not isinstance(data.get("DataLoader"), ConfigMap):
            raise ConfigError(f"--data-config {arguments.data_config} has no section DataLoader")
        config.put("DataLoader", data["DataLoader"], data.origins["DataLoader"])
    for text in common.overrides(arguments):
        apply_override(config, text)
    return config
