"""A benchmark from a checked config: the phases in order, and what is written about them."""

import os
import platform
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence

import paddle

from plsc.benchmark import report
from plsc.benchmark.data import measure_data
from plsc.benchmark.inputs import Subject, runnable
from plsc.benchmark.scaling import measure_scaling
from plsc.benchmark.startup import measure_startup
from plsc.benchmark.step import measure_step
from plsc.checkpoint import replace
from plsc.config.run_config import RunConfig
from plsc.config.tree import to_plain
from plsc.engine.device import set_device
from plsc.runs.environment import environment

Config = RunConfig
ALL = ("step", "data", "startup")  # step first: peak memory is the process's
FORMAT = 1
DISAGREE = 1.15  # two measurements of one thing


def benchmark(
    config: Config,
    phases: Sequence[str],
    seconds: float,
    runtime: Mapping[str, str],
    say: Callable[[str], None],
    sweeps: Optional[Mapping[str, Sequence[int]]] = None,
) -> Dict[str, Any]:
    """Measures a config on this machine.

    Args:
        config: Checked by plsc.config.schema.
        phases: Of `step`, `data`, `startup` and `scaling`.
        seconds: About how long a single measurement may take.
        runtime: What plsc.runtime chose.
        say: Told what is going on.
        sweeps: See `scaling.measure_scaling`.

    Returns:
        Plain data: `machine`, `config`, `notes`, and `results` by phase.

    Raises:
        ValueError: If the config cannot be run, even with stand-ins for missing files.
    """
    set_device(config.global_.device)
    with tempfile.TemporaryDirectory(prefix="plsc_benchmark_") as folder:
        subject = runnable(config, Path(folder))
        measures: Dict[str, Callable[[], Dict[str, Any]]] = {
            "step": lambda: measure_step(subject, seconds),
            "data": lambda: measure_data(subject, seconds),
            "startup": lambda: measure_startup(subject.config, Path(folder)),
            "scaling": lambda: measure_scaling(subject, seconds, sweeps),
        }
        results: Dict[str, Any] = {}
        for phase, measure in measures.items():
            if phase in phases:
                say(f"measuring: {phase}")
                results[phase] = measure()
        notes = [*dict.fromkeys([*subject.notes, *_remarks(results)])]
    return {
        "format": FORMAT,
        "machine": machine(runtime),
        "config": to_plain(config),
        "measured": _sizes(subject),
        "notes": notes,
        "results": results,
    }


def write(result: Mapping[str, Any], folder: Path) -> List[Path]:
    """Writes `benchmark.json` and its charts; returns their paths."""
    path = folder / "benchmark.json"
    replace.write_json(path, result, "measured")
    return [path, *report.draw(result, folder)]


def machine(runtime: Mapping[str, str]) -> Dict[str, Any]:
    """What the numbers depend on besides the code."""
    facts = environment(runtime)
    on_gpu = facts["device"].startswith("gpu")
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": int(os.environ.get("OMP_NUM_THREADS", "1")),
        "gpu": paddle.device.cuda.get_device_name() if on_gpu else None,
        "load": list(os.getloadavg()),  # far above the cores: others were at work, and the numbers are too low
        **facts,
    }


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _sizes(subject: Subject) -> Dict[str, Any]:
    masked, patches = subject.patches
    return {"batch_size": subject.loader.batch_size, "masked_patches": masked, "patches": patches}


def _remarks(results: Mapping[str, Any]) -> Iterator[str]:
    """What two measurements say together."""
    step, data = results.get("step"), results.get("data")
    if step:
        staged = step["seconds_per_staged_step"]
        if not 1 / DISAGREE < staged / step["seconds_per_step"] < DISAGREE:
            yield (
                f"the steps whose stages were timed took {staged:.3g} s, the others {step['seconds_per_step']:.3g} s: "
                "the stages had to wait for each other, or this machine was doing something else"
            )
    if step and data:
        loader, taken, workers = data["loader_images_per_second"], step["images_per_second"], data["num_workers"]
        verdict = "hides behind the step" if loader > taken else "is what a run waits for"
        if not workers:
            verdict = "hides behind nothing, as the process that trains reads (DataLoader.Train.loader.num_workers: 0)"
        yield f"the loader with {workers} workers reads {loader:.3g} img/s, the step takes {taken:.3g}: it {verdict}"
