"""Command `plsc train -c CONFIG -o KEY=VALUE`: every kind of training."""

from __future__ import annotations

import argparse
from typing import List, Optional

from plsc import runtime
from plsc.cli import common
from plsc.config.tree import ConfigMap, describe


def main(argv: Optional[List[str]] = None) -> int:
    """Run the verb; return the exit code."""
    parser = common.parser("train", "Train from a YAML config: pre-training, fine-tuning, probing, tokenizer training.")
    common.add_config_options(parser, required=False)
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--print-config", action="store_true", help="print the resolved config with the origins of its values, and stop"
    )
    action.add_argument("--dry-run", action="store_true", help="build all components, print sizes and costs, and stop")
    action.add_argument(
        "--list", metavar="KIND", help="print the registered components of a kind, or of `all`, and stop"
    )
    arguments = parser.parse_args(argv)
    if arguments.config is None and arguments.list is None:
        parser.error("-c FILE is required")
    prints_results = arguments.print_config or arguments.dry_run or arguments.list is not None
    return common.guarded(_run, arguments, prints_results)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.list is not None:
        return _list(arguments)
    runtime.stop_with_parent()
    tree = common.load_config(arguments)
    if arguments.print_config:
        print(describe(tree), flush=True)  # before the check, because it shows the origin of an error
    config, chosen = common.prepare(tree)
    if arguments.print_config:
        return 0
    from plsc.engine.device import set_device
    from plsc.engine.run import train

    if arguments.dry_run:
        from plsc.planning.dry_run import dry_run

        set_device("auto")
        print(dry_run(config))
        return 0
    from plsc.report.write import RunReport

    return train(config, chosen, RunReport())


def _list(arguments: argparse.Namespace) -> int:
    from plsc.config import plugins

    common.set_up()
    config = common.load_config(arguments) if arguments.config else ConfigMap()
    plugins.load(config)
    from plsc.cli.listing import listing

    print(listing(arguments.list))
    return 0
