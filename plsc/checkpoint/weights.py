"""Our own checkpoints: tensors to files and back."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

import numpy as np
import paddle
from paddle import nn

from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint import heads
from plsc.checkpoint.files import CheckpointError, find_latest_whole, keep_last, point, resolve
from plsc.optim.ema import UPDATES

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "assign",
    "check_finite",
    "find_latest_whole",
    "keep_last",
    "load",
    "point",
    "resolve",
    "restore_layer",
    "save",
    "saved_classes",
    "snapshot",
]


@dataclass
class Checkpoint:
    """What a checkpoint holds.

    Args:
        path: Its directory.
        model: Arrays by structured name, `model.encoder.cls_token`.
        optimizer: Arrays by structured name and kind, `model.encoder.cls_token/moment1`.
        ema: The averaged weights, if they were kept.
        state: Content of state.json.
        config_text: The resolved config of the run, YAML.
    """

    path: Path
    model: Dict[str, np.ndarray]
    optimizer: Dict[str, np.ndarray] = field(default_factory=dict)
    ema: Optional[Dict[str, np.ndarray]] = None
    state: Dict[str, Any] = field(default_factory=dict)
    config_text: str = ""


def snapshot(tensors: Mapping[str, paddle.Tensor]) -> Dict[str, np.ndarray]:
    """Host copies of tensors, which later steps do not change; bfloat16 as float32, which holds it exactly."""
    return {
        name: np.array((value.astype("float32") if value.dtype == paddle.bfloat16 else value).numpy())
        for name, value in tensors.items()
    }


def assign(tensor: paddle.Tensor, array: np.ndarray) -> None:
    """Puts an array of the same shape into a tensor, in the tensor's dtype."""
    tensor.set_value(paddle.to_tensor(array, dtype=tensor.dtype))


def check_finite(arrays: Mapping[str, np.ndarray], source: str) -> None:
    """Refuses weights with which no output means anything.

    Raises:
        CheckpointError: If a value is not finite; the tensors are listed.
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


def saved_classes(state: Mapping[str, Any]) -> Optional[List[str]]:
    """Names of the classes in a checkpoint's state, in the order of the model's outputs; None if it has none."""
    names = state.get("classes")
    return [str(name) for name in names] if isinstance(names, list) and names else None


def save(
    directory: Path,
    step: int,
    *,
    model: Mapping[str, paddle.Tensor],
    optimizer: Mapping[str, paddle.Tensor],
    ema: Optional[Mapping[str, paddle.Tensor]] = None,
    state: Mapping[str, Any],
    config_text: str,
) -> Path:
    """Writes the checkpoint of a step; see `storage.write`. Returns its directory."""
    parts = {"model": model, "optimizer": optimizer, **({"ema": ema} if ema is not None else {})}
    arrays = {part: snapshot(tensors) for part, tensors in parts.items()}
    return checkpoint_files.write(Path(directory), step, arrays, state, config_text)


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint directory.

    Raises:
        CheckpointError: If it is damaged or no checkpoint of ours.
    """
    path = Path(path)
    state = checkpoint_files.read_state(path)
    checkpoint_files.check_content(path, state)
    model, optimizer, ema = (checkpoint_files.read_arrays(path, part) for part in ("model", "optimizer", "ema"))
    if model is None:
        raise CheckpointError(f"{path} is no checkpoint of a run: it has no model.safetensors")
    config = path / checkpoint_files.CONFIG
    text = config.read_text(encoding="utf-8") if config.is_file() else ""
    return Checkpoint(path, model, optimizer or {}, ema, state, text)


def restore_layer(layer: nn.Layer, checkpoint: Checkpoint, ema: bool = False) -> None:
    """Puts a checkpoint's weights into a layer of the same structure.

    Args:
        layer: Usually a task.
        checkpoint: Its weights.
        ema: Take the averaged weights.

    Raises:
        CheckpointError: If names, shapes or attention heads differ, and then nothing is changed; they are listed.
    """
    if ema and checkpoint.ema is None:
        raise CheckpointError(f"{checkpoint.path} holds no moving average of the weights; take its own weights")
    arrays = {name: a for name, a in checkpoint.ema.items() if name != UPDATES} if ema else checkpoint.model
    own = layer.state_dict()
    problems: List[str] = [f"{name} is missing in the checkpoint" for name in own if name not in arrays]
    problems += [f"{name} is not in this model" for name in arrays if name not in own]
    problems += [
        f"{name} is {list(arrays[name].shape)} in the checkpoint and {list(value.shape)} in this model"
        for name, value in own.items()
        if name in arrays and list(arrays[name].shape) != list(value.shape)
    ]
    problems += heads.mismatches(layer, heads.of_checkpoint(checkpoint.state, checkpoint.config_text))
    if problems:
        shown = "\n  ".join(problems[:20]) + (f"\n  and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise CheckpointError(
            f"{checkpoint.path} is of another model, so the run cannot continue from it:\n  {shown}\n"
            "use the config it was saved with, or another Global.output_dir"
        )
    for name, value in own.items():
        assign(value, arrays[name])
