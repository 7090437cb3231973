"""Description of a run's machine and software."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

import numpy as np
import paddle

from plsc import strict_json
from plsc.runs.directory import write_text
from plsc.version import __version__


def write_environment(path: Path, runtime: Mapping[str, str]) -> None:
    """Write `environment(runtime)` as env.json."""
    write_text(path, strict_json.dumps(environment(runtime), indent=2) + "\n")


def environment(runtime: Mapping[str, str]) -> Dict[str, Any]:
    """Return versions, device, threads, command and git commit of this process."""
    return {
        "plsc": __version__,
        "paddle": paddle.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "device": paddle.device.get_device(),
        "cpu_count": os.cpu_count(),
        "git_commit": _git_commit(),
        "command": sys.argv,
        "runtime": dict(runtime),
    }


def _git_commit() -> Optional[str]:
    command = ["git", "-C", str(Path(__file__).resolve().parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
