"""Weights from any file we can read, under our names; what kind of file it is shows in its keys."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Union

import numpy as np

from plsc import storage
from plsc.checkpoint import store


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

    Raises:
        CheckpointError: If the path holds nothing we can read.
    """
    checkpoint = store.load(storage.resolve(path))
    return Weights(checkpoint.model, checkpoint.state.get("encoder", "model.encoder"))
