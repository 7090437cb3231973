"""Command `plsc doctor`: checks of the environment, with advice for each problem."""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Optional

from plsc import distribution
from plsc.cli import common

_GIB = 2**30
_EXTRAS = {
    "visualdl": "training curves in VisualDL; pip install visualdl",
    "matplotlib": f"charts of benchmarks and schedules; {distribution.install('quickstart')}",
    "sklearn": "t-SNE maps of features in reports; pip install scikit-learn",
    "cv2": f"the fast image decoder; {distribution.install('fast')}",
    "paddle2onnx": f"export to ONNX; {distribution.install('onnx')}",
}


class Finding(NamedTuple):
    """Result of a check: level `ok`, `note` (works, but can be improved) or `problem`, subject, text with advice."""

    level: str
    what: str
    text: str


def main(argv: Optional[List[str]] = None) -> int:
    """Run the verb; return the exit code: 1 if there is a problem."""
    parser = common.parser("doctor", "Check Python, Paddle, device, memory, disk and data, and give advice.")
    common.add_config_options(parser, required=False)
    return common.guarded(_run, parser.parse_args(argv))


def _run(arguments: argparse.Namespace) -> int:
    worst = 0
    for finding in findings(arguments):
        print(f"{finding.level:<8} {finding.what:<16} {finding.text}", flush=True)
        worst = max(worst, finding.level == "problem")
    return common.FAILURE if worst else 0


def findings(arguments: argparse.Namespace) -> Iterator[Finding]:
    """Yield all findings, the basic ones first; checks that depend on a failed one are skipped."""
    from plsc import runtime

    yield _python()
    conflict = distribution.conflict()
    if conflict is not None:
        yield Finding("problem", "plsc", conflict)
    chosen = runtime.setup()
    try:
        version = runtime.import_paddle().__version__
    except Exception as error:  # noqa: BLE001 - a broken installation fails in any way
        yield Finding("problem", "Paddle", f"cannot be imported: {error}; {distribution.install('cpu', 'gpu')}")
        return
    yield from _versions(version)
    yield from _machine(chosen)
    yield from _extras()
    from plsc.diagnose.doctor import compute, data, decoding

    yield from (Finding(*found) for found in (*compute(), *decoding()))
    if arguments.config is not None:
        config, _ = common.prepare(common.load_config(arguments))
        yield Finding("ok", "config", f"{arguments.config} has no errors")
        yield from (Finding(*found) for found in data(config))


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < (3, 9):
        return Finding("problem", "Python", f"{version}; plsc needs 3.9 or newer")
    return Finding("ok", "Python", f"{version} on {sys.platform}")


def _versions(version: str) -> Iterator[Finding]:
    import numpy as np

    yield Finding("ok", "Paddle", version)
    old = version.startswith("2.")
    if old and int(np.__version__.split(".")[0]) >= 2:
        advice = "pip install 'numpy<2'"
        yield Finding("problem", "NumPy", f"{np.__version__}; Paddle {version} needs a version below 2: {advice}")
    else:
        yield Finding("ok", "NumPy", np.__version__)
    try:
        from google import protobuf
    except ImportError:
        return
    if old and int(protobuf.__version__.split(".")[0]) >= 5:
        advice = "training on several devices fails with it: pip install 'protobuf<5'"
        yield Finding("problem", "protobuf", f"{protobuf.__version__}; {advice}")


def _machine(chosen: Any) -> Iterator[Finding]:
    from plsc.runtime import available_cores

    threads = chosen.get("OMP_NUM_THREADS", "unknown")
    yield Finding("ok", "CPU", f"{available_cores()} cores for this process, {threads} threads for matmuls")
    memory = _available_memory()
    if memory is not None:
        level = "ok" if memory >= 4 * _GIB else "note"
        advice = "" if level == "ok" else "; use a small batch and few workers, or the system may kill the process"
        yield Finding(level, "memory", f"{memory / _GIB:.1f} GiB available{advice}")
    shared = Path("/dev/shm")
    if shared.is_dir():
        free = shutil.disk_usage(shared).free
        enough = free >= _GIB
        advice = "" if enough else "; workers send batches through pipes, which is slower: docker run --shm-size=8g"
        yield Finding("ok" if enough else "note", "shared memory", f"{free / _GIB:.1f} GiB free in {shared}{advice}")
    free = shutil.disk_usage(Path.cwd()).free
    level = "ok" if free >= 5 * _GIB else "note" if free >= _GIB else "problem"
    advice = "" if level == "ok" else "; a checkpoint of ViT-B needs 1.3 GB: set Global.output_dir to another disk"
    yield Finding(level, "disk", f"{free / _GIB:.1f} GiB free in {Path.cwd()}{advice}")
    if not os.access(Path.cwd(), os.W_OK):
        yield Finding("problem", "disk", f"{Path.cwd()} is not writable; set Global.output_dir to another path")


def _available_memory() -> Optional[int]:
    """Return the available memory in bytes; None on systems other than Linux."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)


def _extras() -> Iterator[Finding]:
    for name, purpose in _EXTRAS.items():
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - a broken package fails in any way
            missing = isinstance(error, ModuleNotFoundError)
            yield Finding("note", name, f"{'not installed' if missing else f'broken: {error}'}; needed for {purpose}")
