"""plsc: self-supervised vision on PaddlePaddle, driven by YAML.

    model = plsc.load("output/quickstart/finetune")
    features = model.features("digit.png")

`load` and `train` are in `plsc.api`, which is imported when one of them is used: `import plsc` alone is cheap.
"""

import importlib
from typing import TYPE_CHECKING, Any

from plsc.version import __version__

if TYPE_CHECKING:
    from plsc.api import load, train

__all__ = ["__version__", "load", "train"]


def __getattr__(name: str) -> Any:
    if name in ("load", "train"):
        return getattr(importlib.import_module("plsc.api"), name)
    raise AttributeError(f"module 'plsc' has no attribute {name!r}")
