"""A benchmark of a checked config: runs the phases in order and writes the results."""

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
from plsc.runtime import available_cores

Config = RunConfig
ALL = ("step", "data", "startup")  # step first: peak memory is that of the process
FORMAT = 1
DISAGREE = 1.15  # largest ratio of two measurements of the same time without a note


def benchmark(
    config: Config,
    phases: Sequence[str],
    seconds: float,
    runtime: Mapping[str, str],
    say: Callable[[str], None],
    sweeps: Optional[Mapping[str, Sequence[int]]] = None,
) -> Dict[str, Any]:
    """Measure a config on this machine.

    Args:
        config: Checked by plsc.config.schema.
        phases: Some of `step`, `data`, `startup` and `scaling`.
        seconds: Approximate time of a single measurement.
        runtime: Choices of plsc.runtime.
        say: Called with lines about the progress.
        sweeps: Sizes to measure, see `scaling.measure_scaling`.

    Returns:
        Plain data: `machine`, `config`, `notes`, and `results` by phase.

    Raises:
        ValueError: If the config cannot be run, even with replacements for missing files.
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
    """Write `benchmark.json` and its charts; return their paths."""
    path = folder / "benchmark.json"
    replace.write_json(path, result, "measured")
    return [path, *report.draw(result, folder)]


def machine(runtime: Mapping[str, str]) -> Dict[str, Any]:
    """Return the facts about the machine that the results depend on."""
    facts = environment(runtime)
    on_gpu = facts["device"].startswith("gpu")
    return {
        "cpu": _cpu(),
        "cores": available_cores(),
        "threads": int(os.environ.get("OMP_NUM_THREADS", "1")),
        "gpu": paddle.device.cuda.get_device_name() if on_gpu else None,
        "load": list(os.getloadavg()),  # far above the cores: other processes ran, and the rates are too low
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
    """Yield notes about measurements that contradict or explain each other."""
    step, data = results.get("step"), results.get("data")
    if step:
        staged = step["seconds_per_staged_step"]
        if not 1 / DISAGREE < staged / step["seconds_per_step"] < DISAGREE:
            yield (
                f"steps with timed stages took {staged:.3g} s, the others {step['seconds_per_step']:.3g} s: the timer "
                "waits for the device after each stage, or other processes were running"
            )
    if step and data:
        loader, taken, workers = data["loader_images_per_second"], step["images_per_second"], data["num_workers"]
        verdict = "the loader is faster" if loader > taken else "a run waits for the loader"
        if not workers:
            verdict = "the training process reads the data between steps (DataLoader.Train.loader.num_workers: 0)"
        yield f"the loader with {workers} workers reads {loader:.3g} img/s, the step takes {taken:.3g}: {verdict}"
