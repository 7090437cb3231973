"""Command `plsc plan -c CONFIG`: estimates of memory, time and communication of a run on other devices."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Dict, List, Optional

from plsc import strict_json
from plsc.cli import common


def main(argv: Optional[List[str]] = None) -> int:
    """Run the verb; return the exit code."""
    parser = common.parser(
        "plan", "Estimate the memory, time and communication of a run on given devices, without training."
    )
    common.add_config_options(parser)
    parser.add_argument("--gpu", default="a100-40g", metavar="NAME", help="kind of GPU, or cpu (a100-40g)")
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="devices per node (1)")
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="number of nodes (1)")
    parser.add_argument("--batch", type=int, metavar="N", help="images per device and micro-batch (from the config)")
    parser.add_argument(
        "--images", type=int, metavar="N", help="size of the training set, if it is not on this machine"
    )
    parser.add_argument("--bandwidth", type=float, metavar="GB/S", help="bandwidth of the slowest link between devices")
    parser.add_argument(
        "--efficiency", type=float, default=0.4, metavar="FRACTION", help="fraction of the peak FLOP/s (0.4)"
    )
    parser.add_argument("--measured", metavar="JSON", help="benchmark.json written by `plsc benchmark --phase scaling`")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return common.guarded(_run, parser.parse_args(argv))


def _run(arguments: argparse.Namespace) -> int:
    _check(arguments)
    measured = _cost_model(arguments.measured) if arguments.measured is not None else None
    if arguments.batch is not None:
        arguments.override.append([f"DataLoader.Train.loader.batch_size={arguments.batch}"])
    config, _ = common.prepare(common.load_config(arguments))
    from plsc.planning import devices, report
    from plsc.planning.duration import Cluster
    from plsc.planning.work import work_of

    cluster = Cluster(
        devices.find(arguments.gpu), arguments.devices, arguments.nodes, arguments.bandwidth, arguments.efficiency
    )
    work = work_of(config, cluster.processes, arguments.images)
    if arguments.json:
        print(strict_json.dumps(report.plan(work, cluster, measured), indent=2))
    else:
        print(report.text(work, cluster, arguments.gpu, measured))
    return 0


def _check(arguments: argparse.Namespace) -> None:
    for name in ("devices", "nodes", "batch", "images"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}")
    if arguments.bandwidth is not None and not arguments.bandwidth > 0:
        raise ValueError(f"--bandwidth must be above 0 (GB/s), got {arguments.bandwidth:g}")
    if not 0 < arguments.efficiency <= 1:
        raise ValueError(f"--efficiency must be in (0, 1], got {arguments.efficiency:g}")


def _cost_model(path: str) -> Dict[str, Any]:
    try:
        result = json.loads(Path(path).read_text(encoding="utf-8"))
        model = result["results"]["scaling"]["cost_model"]
        return {name: float(model[name]) for name in model}
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"--measured {path} is not a JSON file: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"--measured {path} has no results.scaling.cost_model; create it with `plsc benchmark --phase scaling`"
        ) from error
