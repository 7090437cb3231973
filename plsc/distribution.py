"""Name of the distribution, how to install it, and a check that no other project's `plsc` is in its place.

The public package index has another project's distribution `plsc`, which installs a package of the same import name.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import metadata
from typing import List, Optional

NAME = "plsc-ssl"
_FOREIGN = "plsc"
_OWNED = "plsc/__init__.py"


def install(*extras: str) -> str:
    """Command that installs the package with one of `extras`, for messages.

    Examples:
        `install("fast")` is "pip install -e '.[fast]' in the checkout of plsc"; `install("cpu", "gpu")` names both.
    """
    commands = " or ".join(f"pip install -e '.[{extra}]'" for extra in extras) or "pip install -e ."
    return f"{commands} in the checkout of plsc"


def conflict(path: Optional[List[str]] = None) -> Optional[str]:
    """Message about an installed distribution `plsc` of another project; None if there is none.

    An editable installation of this package under an older name does not record the package's files: no conflict.

    Args:
        path: Folders to search instead of `sys.path`.
    """
    found = metadata.distributions(name=_FOREIGN) if path is None else metadata.distributions(name=_FOREIGN, path=path)
    for other in found:
        record = other.read_text("RECORD") or ""
        if any(line.startswith(f"{_OWNED},") for line in record.splitlines()):
            return (
                f"another project's distribution {_FOREIGN} {other.version} is installed in {other.locate_file('')}, "
                f"and its package has the same import name: run pip uninstall {_FOREIGN}, then {install()}"
            )
    return None


@lru_cache(maxsize=None)
def check() -> None:
    """Refuse to start beside another project's `plsc`.

    Raises:
        ImportError: If its distribution is installed; the message says how to remove it.
    """
    problem = conflict()
    if problem is not None:
        raise ImportError(problem)
