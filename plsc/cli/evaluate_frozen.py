"""`plsc evaluate-frozen --checkpoint RUN`: what a frozen encoder is worth, by several protocols in one go."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional

from plsc.cli import common
from plsc.config import files as config_files
from plsc.config import overrides
from plsc.config.tree import ConfigError, ConfigMap

if TYPE_CHECKING:
    from plsc.checkpoint.reader import Checkpoint

PROTOCOLS = ("knn", "ridge", "linear", "attentive", "ep", "layers")
DEFAULT = ("knn", "linear", "attentive", "ep", "layers")


def main(argv: Optional[List[str]] = None) -> int:
    """Runs the verb; returns the exit code."""
    parser = common.parser(
        "evaluate-frozen",
        "Classify by features of a frozen encoder: that of a checkpoint, with the data of its own config or of "
        "--data-config; or that of a probe's config, with the weights that its Init.checkpoint names (null: random).",
    )
    common.add_config_options(parser, required=False)
    parser.add_argument("--checkpoint", metavar="PATH", help="run directory, checkpoint, latest or best; instead of -c")
    parser.add_argument("--data-config", metavar="FILE", help="take the section DataLoader of this config instead")
    parser.add_argument("--ema", action="store_true", help="with --checkpoint: the moving average of the weights")
    parser.add_argument("--random", action="store_true", help="compare with the same encoder before training")
    parser.add_argument(
        "--protocols", nargs="+", choices=PROTOCOLS, default=list(DEFAULT), help="which (all but ridge)"
    )
    parser.add_argument("--epochs", type=int, default=60, help="passes of each classifier over the features (60)")
    parser.add_argument("--validation-share", type=float, default=0.2, help="of the training images, to choose (0.2)")
    parser.add_argument("--validation-only", action="store_true", help="leave the evaluation set alone")
    parser.add_argument("--json", metavar="FILE", help="write everything that was tried, too")
    arguments = parser.parse_args(argv)
    if (arguments.config is None) == (arguments.checkpoint is None):
        parser.error("give either --checkpoint PATH or -c CONFIG")
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
    """The config given, or the checkpoint's own; with the data of another one, if asked for; then the overrides."""
    config = config_files.load(arguments.config if checkpoint is None else checkpoint.path / "config.yaml")
    if arguments.data_config is not None:
        data = config_files.load(arguments.data_config)
        if not isinstance(data.get("DataLoader"), ConfigMap):
            raise ConfigError(f"--data-config {arguments.data_config}: it has no section DataLoader to take")
        config.put("DataLoader", data["DataLoader"], data.origins["DataLoader"])
    for text in common.overrides(arguments):
        overrides.apply_override(config, text)
    return config
