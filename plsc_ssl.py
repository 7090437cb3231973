"""Console scripts of the distribution plsc-ssl.

This module is not in the package `plsc`, so that it can report another project's package that is imported as `plsc`.
"""

import os
import sys
from typing import List, Optional


def main(argv: Optional[List[str]] = None) -> int:
    """Run `plsc <verb> ...`; return the exit code, 2 if the imported package `plsc` is another project's."""
    import plsc

    folders = [os.path.realpath(folder) for folder in plsc.__path__]
    try:
        from plsc import distribution
        from plsc.cli import main as run
    except ImportError as error:
        if not (error.name or "").startswith("plsc"):
            raise
        return _report(folders)
    ours = os.path.dirname(os.path.realpath(distribution.__file__))
    if ours not in folders:  # found by the finder of an editable installation, below another package
        return _report(folders)
    return run(argv)


def _report(folders: List[str]) -> int:
    print(
        f"error: another package is imported as plsc, from {', '.join(folders)}: run pip uninstall plsc, then "
        "pip install -e . in the checkout of plsc",
        file=sys.stderr,
    )
    return 2


def train() -> int:
    """Run `plsc-train`."""
    return main(["train", *sys.argv[1:]])


def evaluate() -> int:
    """Run `plsc-eval`."""
    return main(["eval", *sys.argv[1:]])
