"""Command `plsc benchmark -c CONFIG`: time of training steps, data loading and startup on this machine."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, List, Optional

from plsc.cli import common

PHASES = ("step", "data", "startup", "scaling", "all")


def main(argv: Optional[List[str]] = None) -> int:
    """Run the verb; return the exit code."""
    parser = common.parser(
        "benchmark", "Measure a config on this machine: training step, data loading, startup, scaling."
    )
    common.add_config_options(parser)
    parser.add_argument(
        "--phase", choices=PHASES, nargs="+", default=["all"], help="phases to measure; all: step, data and startup"
    )
    parser.add_argument("--against", metavar="JSON", help="benchmark.json of an earlier benchmark to compare with")
    parser.add_argument(
        "--fail-below",
        type=float,
        metavar="RATIO",
        help="with --against: exit with code 1 if a ratio is lower than this",
    )
    parser.add_argument(
        "--out", default="output/benchmark", metavar="DIR", help="folder of the JSON file and charts (output/benchmark)"
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="approximate duration of a measurement (20)")
    arguments = parser.parse_args(argv)
    if arguments.fail_below is not None and arguments.against is None:
        parser.error("--fail-below needs --against")
    return common.guarded(_run, arguments, prints_results=False)


def _run(arguments: argparse.Namespace) -> int:
    if not 0 < arguments.seconds < float("inf"):
        raise ValueError(f"--seconds must be above 0, got {arguments.seconds:g}")
    tree = common.load_config(arguments)
    reference = _read(arguments.against) if arguments.against is not None else None
    config, chosen = common.prepare(tree)
    from plsc.benchmark import report
    from plsc.checkpoint.replace import check_json

    check_json(Path(arguments.out) / "benchmark.json", "measured")
    from plsc.benchmark.run import ALL, benchmark, write

    phases = [*ALL, *arguments.phase] if "all" in arguments.phase else arguments.phase
    result = benchmark(config, phases, arguments.seconds, chosen, lambda text: print(text, flush=True))
    result["command"] = {"config": arguments.config, "overrides": common.overrides(arguments)}
    written = write(result, Path(arguments.out))
    print(f"\n{report.table(result)}\n\nwritten: {', '.join(map(str, written))}")
    if reference is None:
        return 0
    text, lowest = report.compare(result, reference)
    print(f"\n{text}")
    below = arguments.fail_below is not None and (lowest is None or lowest < arguments.fail_below)
    return common.FAILURE if below else 0


def _read(path: str) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"--against {path} is not a JSON file: {error}") from error
