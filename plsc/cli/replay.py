"""Command `plsc replay DUMP`: repetition of a training step with non-finite gradients."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import List, Optional

from plsc.cli import common
from plsc.config import files as config_files


def main(argv: Optional[List[str]] = None) -> int:
    """Run the verb; return the exit code."""
    parser = common.parser(
        "replay", "Repeat a training step with non-finite gradients and show the first layer with such values."
    )
    parser.add_argument("dump", metavar="DUMP", type=Path, help="output_dir/nonfinite/step_...")
    parser.add_argument("--rank", type=int, default=0, help="process whose part of the batch to use (0)")
    return common.guarded(_run, parser.parse_args(argv))


def _run(arguments: argparse.Namespace) -> int:
    path = arguments.dump / "config.yaml"
    if not path.is_file():
        raise ValueError(f"{arguments.dump} is not a dump of a step: it has no config.yaml")
    config, _ = common.prepare(config_files.load(str(path), []))
    from plsc.diagnose.replay import replay
    from plsc.engine.device import set_device

    set_device("auto")
    print(replay(config, arguments.dump, arguments.rank))
    return 0
