"""Conversion of weights between the file formats of projects, in both directions."""

import os
import pickle
from pathlib import Path
from typing import Callable, Dict, Optional

import numpy as np

from plsc.checkpoint import files as checkpoint_files
from plsc.checkpoint import heads, replace
from plsc.checkpoint.arrays import CheckpointError, write_arrays
from plsc.checkpoint.formats import (
    PREFIX,
    UNUSED,
    Arrays,
    Weights,
    read_weights,
)  # fmt: skip
from plsc.checkpoint.model_config import grid_of_encoder, mapping, model_section
from plsc.checkpoint.names import (  # fmt: skip
    classifier_official_name,
    classifier_plsc_name,
    is_transposed,
    official_name,
    plsc_name,
)
from plsc.checkpoint.torch_file import write_torch_file
from plsc.checkpoint.weights import check_finite
from plsc.nn.pos_embed import likely_grid, relative_position_index, sincos_2d

TIMM = "timm-vit"
FORMATS = ("plsc", "official", "own", "safetensors", TIMM)


def convert(source: Path, target: Path, to: str, force: bool = False) -> str:
    """Write the weights of `source` as `target` in another format; a failure leaves no files behind.

    Args:
        source: Any path that `read_weights` takes.
        target: A file, or for `own` a directory that `Init.checkpoint` takes.
        to: One of FORMATS: PLSC's `.pd`, the authors' `.pth`, a checkpoint of ours, our names as safetensors, or the
            encoder (and head) with the names of timm's VisionTransformer (`.safetensors`, otherwise torch's format).
        force: Replace `target` if it exists; see plsc.checkpoint.replace for its rules.

    Returns:
        Sentences about what was written, left out or assumed.

    Raises:
        CheckpointError: If the source cannot be read, or the target format cannot hold it.
        FileExistsError: If the target exists and may not be replaced.
    """
    _check(target, source, force)
    weights = read_weights(source)
    check_finite(weights.arrays, str(source))
    with replace.staging(target.parent) as folder:
        count = write_weights(weights, folder / target.name, to)
        _check(target, source, force)
        replace.put(folder / target.name, target, folder / f"{target.name}.old"[-200:])
    return "\n  ".join([f"{target}: {count} tensors as {to}", *weights.notes])


def _check(target: Path, source: Path, force: bool) -> None:
    if target.name in ("", ".."):
        raise FileExistsError(f"{target} is a folder that exists; name the file or folder to write")
    if os.path.lexists(target):
        if not force:
            raise FileExistsError(f"{target} exists; choose another name or give --force")
        replace.check_replaceable(target, source)


def write_weights(weights: Weights, target: Path, to: str) -> int:
    """Write weights in memory to a target that does not exist; return the number of tensors."""
    return _WRITERS[to](weights, target)


def _write_own(weights: Weights, path: Path) -> int:
    state = {"encoder": weights.encoder, "pooling": weights.pooling, "grid": weights.grid, "classes": weights.classes}
    state["heads"] = heads.record(weights.heads)
    parts = {"model": weights.arrays, **({"fixed": weights.fixed} if weights.fixed else {})}
    checkpoint_files.write(path, 0, parts, state, weights.config or "{}\n")
    return len(weights.arrays)


def _write_safetensors(weights: Weights, path: Path) -> int:
    fixed = {f"fixed.{name}": value for name, value in weights.fixed.items()}
    grid = {} if weights.grid is None else {"grid": "{}x{}".format(*weights.grid)}
    return _save_safetensors({**weights.arrays, **fixed}, path, {"pooling": weights.pooling or "", **grid})


def _write_plsc(weights: Weights, path: Path) -> int:
    own = _plain(weights)
    if "mask_token" in own:
        state = {plsc_name(name): value for name, value in own.items()}
    else:
        own.pop(_TRACKED, None)
        mean, batch_norm = weights.pooling == "mean", _RUNNING_MEAN in own
        state = {classifier_plsc_name(name, mean, batch_norm): value for name, value in own.items()}
    state = _with_indices(state, weights)
    with open(path, "wb") as file:
        pickle.dump({"model": state}, file, protocol=4)
    return len(state)


def _write_official(weights: Weights, path: Path) -> int:
    own = _plain(weights)
    unused: Arrays = {}
    if "mask_token" in own:
        state = {official_name(name): _official_array(name, value) for name, value in own.items()}
    else:
        unused = {name: own.pop(name) for name in _ONLY_PLSC if name in own}
        own = _with_unused(own)
        attentive = "head.query_token" in own
        options = (weights.pooling == "mean", attentive, _RUNNING_MEAN in own and not attentive)
        state = {classifier_official_name(name, *options): _official_array(name, value) for name, value in own.items()}
    state = _with_indices(state, weights)
    write_torch_file(path, state, **({UNUSED: unused} if unused else {}))
    return len(state)


def _write_timm(weights: Weights, path: Path) -> int:
    state = _timm(weights)
    if path.suffix == ".safetensors":
        return _save_safetensors(state, path, {})
    write_torch_file(path, state)
    return len(state)


_WRITERS: Dict[str, Callable[[Weights, Path], int]] = {
    "own": _write_own,
    "safetensors": _write_safetensors,
    "plsc": _write_plsc,
    "official": _write_official,
    TIMM: _write_timm,
}


_RUNNING_MEAN, _TRACKED = "head.batch_norm.running_mean", "head.batch_norm.num_batches_tracked"
_ONLY_PLSC = ("head.batch_norm.weight", "head.batch_norm.bias")


def _official_array(name: str, value: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(value.T) if is_transposed(name) else value


def _with_unused(own: Arrays) -> Arrays:
    """Add the tensors that the authors' classifier stores without using them, so that a strict load succeeds."""
    extra: Arrays = {}
    if _RUNNING_MEAN in own:
        extra[_TRACKED] = np.zeros((), np.int64)
    for name, value in own.items():
        if name.startswith("head.blocks.") and ".norm1_q." in name:
            start = np.ones_like if name.endswith("weight") else np.zeros_like
            extra[name.replace("norm1_q", "norm2_cross")] = start(value)
    return {**extra, **own}


def _with_indices(state: Arrays, weights: Weights) -> Arrays:
    """Add the index that the references store beside each table of relative position biases.

    Raises:
        CheckpointError: If the grid of the tables is unknown.
    """
    for name, value in list(state.items()):
        if name.endswith("relative_position_bias_table"):
            grid, note = likely_grid(len(value), weights.grid, relative=True)
            if grid is None:
                raise CheckpointError(f"{name} has {len(value)} rows, {note}; the target stores an index of that grid")
            if note and note not in weights.notes:
                weights.notes.append(note)
            state[name.replace("bias_table", "index")] = relative_position_index(grid)
    return state


def _timm(weights: Weights) -> Arrays:
    """Rename encoder and linear head to timm's names."""
    renamed: Arrays = {}
    own = _with_folded_norm(_plain(weights), weights.config)
    for name, value in own.items():
        if not name.startswith("encoder.") and not name.startswith("head.linear."):
            continue
        if "relative_position_bias" in name:
            raise CheckpointError(f"{name}: timm's VisionTransformer has no relative position bias")
        value = np.ascontiguousarray(value.T) if is_transposed(name) else value
        name = name.replace("encoder.", "", 1).replace("head.linear.", "head.")
        name = name.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")
        if name.startswith("norm.") and weights.pooling == "mean":
            name = f"fc_{name}"
        if name.endswith("attn.q_bias"):
            values = own[f"encoder.{name.replace('q_bias', 'v_bias')}"]
            renamed[name.replace("q_bias", "qkv.bias")] = np.concatenate([value, np.zeros_like(value), values])
        elif not name.endswith("attn.v_bias"):
            renamed[name] = value
    return renamed


def _with_folded_norm(own: Arrays, config: str) -> Arrays:
    """Fold the head's batch norm, which timm does not have, into the linear layer after it.

    Raises:
        CheckpointError: If the head is attentive.
    """
    attentive = next((name for name in own if name.startswith(("head.blocks.", "head.query_token"))), None)
    if attentive is not None:
        raise CheckpointError(f"{attentive}: timm's VisionTransformer has no attentive head; convert its encoder's run")
    if "head.batch_norm.running_var" not in own:
        return own
    eps = mapping(model_section(config), "head").get("batch_norm_eps", 1e-6)
    mean, variance = (own[f"head.batch_norm.running_{name}"].astype(np.float64) for name in ("mean", "var"))
    weight = own["head.linear.weight"] / np.sqrt(variance + eps)[:, None]  # (D, C)
    folded = {"weight": weight, "bias": own["head.linear.bias"] - mean @ weight}
    return {**own, **{f"head.linear.{name}": value.astype(np.float32) for name, value in folded.items()}}


def _plain(weights: Weights) -> Arrays:
    """Remove the prefix `model.` from the names, and add the encoder's position table."""
    own = {name[len(PREFIX) :]: value for name, value in weights.arrays.items() if name.startswith(PREFIX)}
    if "encoder.cls_token" not in own:
        raise CheckpointError("only models with an encoder can be converted; this checkpoint has no encoder")
    own.update(weights.fixed)
    table = _computed_table(weights.config, own["encoder.cls_token"].shape[-1])
    if "encoder.pos_embed" not in own and table is not None:
        own["encoder.pos_embed"] = table
    return {name: value for name, value in own.items() if not name.startswith("teacher.")}  # neither reference saves it


def _computed_table(config: str, dim: int) -> Optional[np.ndarray]:
    """Sin-cos table that the encoder of a config computes; None with another table or without a config."""
    encoder = mapping(model_section(config), "encoder")
    if not encoder or not str(encoder.get("pos_embed", "sincos")).startswith("sincos"):
        return None
    grid = grid_of_encoder(config)
    return None if grid is None else sincos_2d(grid, dim, official_order=encoder.get("pos_embed") == "sincos_official")


def _save_safetensors(arrays: Arrays, path: Path, metadata: Dict[str, str]) -> int:
    write_arrays(path, arrays, metadata)
    return len(arrays)
