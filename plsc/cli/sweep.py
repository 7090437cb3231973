"""Command `plsc sweep -c CONFIG -o KEY=A,B`: runs of one config with several settings, and their comparison."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import plsc
from plsc.cli import common
from plsc.config import files as config_files

_FAILURES = 20


def main(argv: Optional[List[str]] = None) -> int:
    """Run the verb; return the exit code."""
    parser = common.parser(
        "sweep", "Train a config with every combination of several values per key, and compare the runs."
    )
    common.add_config_options(parser)
    parser.add_argument(
        "--out", default="output/sweep", metavar="DIR", help="folder for the runs, one subfolder each (output/sweep)"
    )
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="number of parallel runs (1)")
    parser.add_argument("--random", type=int, metavar="N", help="draw N random settings instead of the grid")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random draws (0)")
    parser.add_argument("--metric", help="evaluation metric to sort by (Global.monitor, else top1, else the first)")
    parser.add_argument("--dry-run", action="store_true", help="check all configs, list the runs and stop")
    parser.add_argument("--images", type=int, default=0, help="labeled images that the report evaluates per run (0)")
    arguments = parser.parse_args(argv)
    return common.guarded(_run, arguments, prints_results=arguments.dry_run)


def _run(arguments: argparse.Namespace) -> int:
    from plsc.sweep.grid import combinations, named
    from plsc.sweep.jobs import Job, Stopped, run_jobs

    common.at_least(1, at_once=arguments.at_once, random=arguments.random if arguments.random is not None else 1)
    common.at_least(0, images=arguments.images)
    fixed, tried = combinations(common.overrides(arguments), arguments.random, arguments.seed)
    out = Path(arguments.out)
    runs = named(tried)
    jobs = []
    for name, values in runs.items():
        settings = [*fixed, *(f"{key}={value}" for key, value in values.items()), f"Global.output_dir={out / name}"]
        common.prepare(config_files.load(arguments.config, settings))  # errors are found before the first run starts
        command = (sys.executable, "-m", "plsc", "train", "-c", arguments.config, "-o", *settings)
        jobs.append(Job(name, command, out / name))
    print("\n  ".join([f"{len(jobs)} runs:", *runs]))
    if arguments.dry_run:
        return 0
    environment = {"PYTHONPATH": _search_path()}
    if arguments.at_once > 1:
        from plsc.runtime import available_cores

        environment["OMP_NUM_THREADS"] = str(max(1, available_cores() // arguments.at_once))
    try:
        failed = run_jobs(jobs, arguments.at_once, environment, lambda line: print(line, flush=True))
    except Stopped as stopped:
        print(f"{stopped}; the runs have ended. The same command resumes the sweep.", file=sys.stderr)
        return 128 + stopped.signal_number
    _conclude(runs, out, arguments)
    for name, reason in list(failed.items())[:_FAILURES]:
        print(f"{name}: {reason}", file=sys.stderr)
    return common.FAILURE if failed else 0


def _search_path() -> str:
    """Return a PYTHONPATH with which the runs import this plsc, whether installed or not."""
    own = str(Path(plsc.__file__).resolve().parent.parent)
    return os.pathsep.join([own, *filter(None, [os.environ.get("PYTHONPATH")])])


def _conclude(runs: Dict[str, Dict[str, str]], out: Path, arguments: argparse.Namespace) -> None:
    """Print a table of the runs, the best first, and write the report."""
    from plsc.report.compare import report
    from plsc.report.measured import best, lower_is_better, main_metric, split_of
    from plsc.runs.reader import read_run
    from plsc.sweep.grid import table

    finished = {name: read_run(out / name) for name in runs if (out / name / "metrics.jsonl").is_file()}
    metric = arguments.metric or next(filter(None, map(main_metric, finished.values())), "")
    rows: List[Tuple[Dict[str, str], Dict[str, Any]]] = []
    for name, values in runs.items():
        run = finished.get(name)
        found: Dict[str, Any] = {}
        if run is not None and metric and run.series(split_of(run, metric), metric)[1]:
            found = dict(zip(("best", "epoch"), best(run, metric)))
        rows.append((values, found))
    sign = 1 if lower_is_better(metric) else -1
    rows.sort(key=lambda row: ("best" not in row[1], sign * row[1].get("best", 0.0)))
    print("\n" + table(rows, metric or "(not evaluated)"))
    if finished:
        paths = [out / name for name in finished]
        title = f"Sweep of {Path(arguments.config).name}"
        print(f"\nreport: {report(paths, out / 'report.html', title, arguments.images, say=lambda line: None)}")
