"""Start-up time in new processes: `--help`, import of Paddle, and everything up to the end of the first step."""

import copy
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

import plsc
from plsc.config.run_config import RunConfig
from plsc.config.tree import dump

Config = RunConfig
RUNS = 3
HELP = ["-m", "plsc", "train", "--help"]
IMPORT = ["-c", "from plsc import runtime; runtime.setup(); runtime.import_paddle()"]
HELP_IMPORTS = """
import contextlib, io, sys
from plsc.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main(["train", "--help"])
print("paddle" in sys.modules)
"""


def measure_startup(config: Config, folder: Path) -> Dict[str, Any]:
    """Measure start-up times in seconds; medians over new processes.

    Args:
        config: From `inputs.runnable`.
        folder: Output directory for a run of one step.

    Raises:
        ValueError: If the run of one step fails; with its error output.
    """
    (folder / "first_step.yaml").write_text(dump(_one_step(config, folder / "run")), encoding="utf-8")
    command = ["-m", "plsc", "train", "-c", str(folder / "first_step.yaml")]
    began = time.time()
    whole = _seconds(command)
    first = (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[0]
    return {
        "help_seconds": statistics.median(_seconds(HELP) for _ in range(RUNS)),
        "help_imports_paddle": _run(["-c", HELP_IMPORTS]).strip() == "True",
        "import_paddle_seconds": statistics.median(_seconds(IMPORT) for _ in range(RUNS)),
        "first_step_seconds": json.loads(first)["time"] - began,
        "run_of_one_step_seconds": whole,  # including its checkpoint
    }


def _one_step(config: Config, output: Path) -> Dict[str, Any]:
    """Return the config of a run that takes and logs one step."""
    result: Dict[str, Any] = copy.deepcopy(dict(config))
    result["Global"].update(output_dir=str(output), max_train_step=1, log_every_steps=1, resume=None, profile=None)
    result["Global"].update(progress="none", monitor=None)
    result["DataLoader"]["Eval"] = result["Metric"] = result["Callbacks"] = None
    return result


def _seconds(arguments: List[str]) -> float:
    start = time.perf_counter()
    _run(arguments)
    return time.perf_counter() - start


def _run(arguments: List[str]) -> str:
    """Return the output of a new Python process with this plsc."""
    paths = [str(Path(plsc.__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        said = done.stderr.strip()[-2000:]
        raise ValueError(f"`python {' '.join(arguments[:6])}` ended with code {done.returncode}: {said}")
    return done.stdout
