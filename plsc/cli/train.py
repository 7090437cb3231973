"""`plsc train -c CONFIG -o KEY=VALUE`: every kind of training there is."""

from __future__ import annotations

import argparse
from typing import List, Optional

from plsc import runtime
from plsc.cli import common
from plsc.config.tree import ConfigMap, describe


def main(argv: Optional[List[str]] = None) -> int:
    """Runs the verb; returns the exit code."""
    parser = common.parser("train", "Train from a YAML config: pre-training, fine-tuning, probing, tokenizers.")
    common.add_config_options(parser, required=False)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--print-config", action="store_true", help="print the resolved config with origins and stop")
    action.add_argument("--dry-run", action="store_true", help="build everything, print sizes and costs, and stop")
    action.add_argument("--list", metavar="KIND", help="print the registered components of a kind (or `all`) and stop")
    arguments = parser.parse_args(argv)
    if arguments.config is None and arguments.list is None:
        parser.error("-c FILE is needed")
    prints_results = arguments.print_config or arguments.dry_run or arguments.list is not None
    return common.guarded(_run, arguments, prints_results)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.list is not None:
        return _list(arguments)
    runtime.stop_with_parent()
    config = common.load_config(arguments)
    if arguments.print_config:
        print(describe(config), flush=True)  # before the check: it shows where a mistake comes from
    chosen = common.prepare(config)
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
