"""Console scripts of the distribution plsc-ssl.

This module is not in the package `plsc`, so that it can report another project's package that is imported as `plsc`.
"""

import sys
from typing import List, Optional


def main(argv: Optional[List[str]] = None) -> int:
    """Run `plsc <verb> ...`; return the exit code, 2 if the imported package `plsc` is another project's."""
    import plsc

    try:
        from plsc import distribution  # noqa: F401 - only this project's package has it
        from plsc.cli import main as run
    except ImportError as error:
        if not (error.name or "").startswith("plsc"):
            raise
        where = ", ".join(plsc.__path__)
        print(
            f"error: another package is imported as plsc, from {where}: run pip uninstall plsc, then "
            "pip install -e . in the checkout of plsc",
            file=sys.stderr,
        )
        return 2
    return run(argv)


def train() -> int:
    """Run `plsc-train`."""
    return main(["train", *sys.argv[1:]])


def evaluate() -> int:
    """Run `plsc-eval`."""
    return main(["eval", *sys.argv[1:]])
