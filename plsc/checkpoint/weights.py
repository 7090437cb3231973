"""Weights between tensors and a checkpoint's arrays."""

from typing import Dict, List, Mapping

import numpy as np
import paddle
from paddle import nn

from plsc.checkpoint import heads
from plsc.checkpoint.arrays import CheckpointError
from plsc.checkpoint.reader import Arrays, Checkpoint
from plsc.config.tree import ConfigError
from plsc.optim.ema import UPDATES


def snapshot(tensors: Mapping[str, paddle.Tensor]) -> Dict[str, np.ndarray]:
    """Copy tensors to host memory; bfloat16 becomes float32, which holds its values exactly."""
    return {
        name: np.array((value.astype("float32") if value.dtype == paddle.bfloat16 else value).numpy())
        for name, value in tensors.items()
    }


def assign(tensor: paddle.Tensor, array: np.ndarray) -> None:
    """Copy an array of the same shape into a tensor, in the tensor's dtype."""
    tensor.set_value(paddle.to_tensor(array, dtype=tensor.dtype))


def check_finite(arrays: Mapping[str, np.ndarray], source: str) -> None:
    """Check that all weights are finite.

    Args:
        arrays: Weights by name.
        source: Name of the checkpoint in the error.

    Raises:
        CheckpointError: If a value is not finite; with the first such tensor and the number of them.
    """
    broken = [name for name, array in arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    if broken:
        first = arrays[broken[0]]
        count = int(first.size - np.isfinite(first).sum())
        more = f" and {len(broken) - 1} more of its {len(arrays)} tensors" if len(broken) > 1 else ""
        raise CheckpointError(
            f"{source} holds weights that are not finite: {count} of {first.size} values of {broken[0]}{more}; use a "
            "checkpoint from before the training diverged"
        )


def weights_of(checkpoint: Checkpoint, ema: bool = False) -> Arrays:
    """Read the weights of a checkpoint, or their moving average.

    Args:
        checkpoint: Only the file of the part that is returned is read.
        ema: Read the moving average.

    Raises:
        CheckpointError: If the checkpoint has no weights.
        ConfigError: If it has no moving average.
    """
    if not ema:
        return checkpoint.model()
    if not checkpoint.has("ema"):
        raise ConfigError(f"{checkpoint} holds no moving average of the weights; leave --ema out to use its weights")
    return {name: array for name, array in checkpoint.ema().items() if name != UPDATES}


def restore_layer(layer: nn.Layer, checkpoint: Checkpoint, arrays: Mapping[str, np.ndarray]) -> None:
    """Copy the weights of a checkpoint into a layer of the same structure.

    Args:
        layer: Usually a task.
        checkpoint: Tells the attention heads, and is named in errors.
        arrays: Its weights by name, see `weights_of`.

    Raises:
        CheckpointError: If names, shapes or attention heads differ; they are listed, and nothing is changed.
    """
    own = layer.state_dict()
    problems: List[str] = [f"{name} is missing in the checkpoint" for name in own if name not in arrays]
    problems += [f"{name} is not in this model" for name in arrays if name not in own]
    problems += [
        f"{name} is {list(arrays[name].shape)} in the checkpoint and {list(value.shape)} in this model"
        for name, value in own.items()
        if name in arrays and list(arrays[name].shape) != list(value.shape)
    ]
    problems += heads.mismatches(layer, heads.of_checkpoint(checkpoint))
    if problems:
        shown = "\n  ".join(problems[:20]) + (f"\n  and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise CheckpointError(
            f"{checkpoint.path} is of another model, so the run cannot continue from it:\n  {shown}\n"
            "use the config it was saved with, or another Global.output_dir"
        )
    for name, value in own.items():
        assign(value, arrays[name])
