"""plsc: self-supervised vision on PaddlePaddle, driven by YAML.

    model = plsc.load("output/quickstart/finetune")
    features = model.features("digit.png")

Public names, each imported when it is used; `import plsc` alone imports neither Paddle nor NumPy:

- `load`, `train`: a trained network for inference, and a training run.
- `Predictor`: features and classes of images, returned by `load`. `Run`: config and metrics of a run, returned by
  `train`.
- `Task`, `Encoder`, `Target`, `MaskGenerator`, `Dataset`, `BatchTransform`, `Callback`: base classes of components, see
  docs/adding_a_method.md.
- `TASKS`, `MODELS`, `TOKENIZERS`, `LOSSES`, `MASK_GENERATORS`, `DATASETS`, `TRANSFORMS`, `BATCH_TRANSFORMS`,
  `OPTIMIZERS`, `LR_SCHEDULERS`, `METRICS`, `CALLBACKS`: registries of components, one per config section.
- `PlscError`: base class of all errors that plsc defines. `ConfigError`, `CheckpointError`, `OutputError`,
  `ImageError`, `JobError` derive from it.
- `__version__`.
"""

import importlib
from typing import TYPE_CHECKING, Any, List

from plsc.errors import JobError, PlscError
from plsc.version import __version__

if TYPE_CHECKING:
    from plsc.api import load, train
    from plsc.checkpoint.arrays import CheckpointError
    from plsc.config.registry import (
        BATCH_TRANSFORMS,
        CALLBACKS,
        DATASETS,
        LOSSES,
        LR_SCHEDULERS,
        MASK_GENERATORS,
        METRICS,
        MODELS,
        OPTIMIZERS,
        TASKS,
        TOKENIZERS,
        TRANSFORMS,
    )
    from plsc.config.tree import ConfigError
    from plsc.data.base import Dataset
    from plsc.data.batch_transforms import BatchTransform
    from plsc.data.images import ImageError
    from plsc.engine.callback import Callback
    from plsc.inference.predictor import Predictor
    from plsc.masking.base import MaskGenerator
    from plsc.models.encoder import Encoder
    from plsc.runs.directory import OutputError
    from plsc.runs.reader import Run
    from plsc.tasks.base import Task
    from plsc.tokenizers.base import Target

__all__ = [
    "BATCH_TRANSFORMS", "CALLBACKS", "DATASETS", "LOSSES", "LR_SCHEDULERS", "MASK_GENERATORS", "METRICS", "MODELS",
    "OPTIMIZERS", "TASKS", "TOKENIZERS", "TRANSFORMS", "BatchTransform", "Callback", "CheckpointError", "ConfigError",
    "Dataset", "Encoder", "ImageError", "JobError", "MaskGenerator", "OutputError", "PlscError", "Predictor", "Run",
    "Target", "Task", "__version__", "load", "train",
]  # fmt: skip

# Module of each name that is imported when it is used; the same names as under TYPE_CHECKING.
_MODULES = {
    "plsc.api": ("load", "train"),
    "plsc.checkpoint.arrays": ("CheckpointError",),
    "plsc.config.registry": (
        "BATCH_TRANSFORMS", "CALLBACKS", "DATASETS", "LOSSES", "LR_SCHEDULERS", "MASK_GENERATORS", "METRICS", "MODELS",
        "OPTIMIZERS", "TASKS", "TOKENIZERS", "TRANSFORMS",
    ),
    "plsc.config.tree": ("ConfigError",),
    "plsc.data.base": ("Dataset",),
    "plsc.data.batch_transforms": ("BatchTransform",),
    "plsc.data.images": ("ImageError",),
    "plsc.engine.callback": ("Callback",),
    "plsc.inference.predictor": ("Predictor",),
    "plsc.masking.base": ("MaskGenerator",),
    "plsc.models.encoder": ("Encoder",),
    "plsc.runs.directory": ("OutputError",),
    "plsc.runs.reader": ("Run",),
    "plsc.tasks.base": ("Task",),
    "plsc.tokenizers.base": ("Target",),
}  # fmt: skip
_LAZY = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'plsc' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})
