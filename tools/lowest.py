#!/usr/bin/env python
"""Print the lower bounds in setup.py as pip constraints, one `name==version` per line; used by `make test-lowest`."""

import ast
import re
from pathlib import Path

SETUP = Path(__file__).resolve().parent.parent / "setup.py"
# Dependencies of Paddle 2.6.2 that it does not declare, or declares without an upper bound.
BESIDE = ["protobuf==3.20.2"]


def requirements(text):
    """Return all requirements in the text of a setup.py, in the order of the file."""
    (call,) = [node for node in ast.walk(ast.parse(text)) if getattr(getattr(node, "func", None), "id", "") == "setup"]
    said = {keyword.arg: keyword.value for keyword in call.keywords}
    extras = ast.literal_eval(said["extras_require"])
    return [*ast.literal_eval(said["install_requires"]), *(one for extra in extras.values() for one in extra)]


def lowest(requirement):
    """Return `name==version` for the lower bound of a requirement, or None without a lower bound."""
    found = re.fullmatch(r"([A-Za-z0-9_.-]+)>=([0-9.]+)(,.*)?", requirement)
    return f"{found[1]}=={found[2]}" if found else None


def main():
    bounds = [lowest(requirement) for requirement in requirements(SETUP.read_text(encoding="utf-8"))]
    print("\n".join(dict.fromkeys([*filter(None, bounds), *BESIDE])))


if __name__ == "__main__":
    main()
