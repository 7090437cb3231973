"""Weights from one project's file to another's, both ways."""

import os
import pickle
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

import numpy as np

from plsc import storage
from plsc.checkpoint.formats import PREFIX, Arrays, Weights, mapping, model_section, read_weights
from plsc.checkpoint.store import check_finite
from plsc.checkpoint.torch_file import write_torch_file
from plsc.models.names import classifier_official_name, is_transposed, official_name, plsc_name
from plsc.nn.pos_embed import sincos_2d
from plsc.storage import CheckpointError

TIMM = "timm-vit"
_MOST_PATCHES = 2**20
FORMATS = ("plsc", "official", "own", "safetensors", TIMM)


def convert(source: Path, target: Path, to: str, force: bool = False) -> str:
    """Writes the weights of `source` as `target` in another format; nothing is left behind if it fails.

    Args:
        source: Anything `read_weights` reads.
        target: A file, or for `own` a directory that `Init.checkpoint` takes.
        to: One of FORMATS: PLSC's `.pd`, the authors' `.pth`, a checkpoint of ours, our names as safetensors, or the
            encoder (and head) as timm's VisionTransformer names them (`.safetensors`, otherwise torch's format).
        force: Replace `target` if it exists.

    Returns:
        What was written, in a sentence.

    Raises:
        CheckpointError: If the source cannot be read, or the target format cannot hold it.
        FileExistsError: If the target exists.
    """
    if target.exists() and not force:
        raise FileExistsError(f"{target} exists; choose another name or give --force")
    weights = read_weights(source)
    check_finite(weights.arrays, str(source))
    return write_weights(weights, target, to)


def write_weights(weights: Weights, target: Path, to: str) -> str:
    """`convert` for weights in memory; replaces `target` if it exists."""
    temporary = target.with_name(f".{target.name}.tmp")
    _remove(temporary)
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        count = _WRITERS[to](weights, temporary, target)
        _remove(target)
        os.replace(temporary, target)
    finally:
        _remove(temporary)
    return f"{target}: {count} tensors as {to}"


def _write_own(weights: Weights, path: Path, target: Path) -> int:
    state = {"encoder": weights.encoder, "pooling": weights.pooling, "classes": weights.classes}
    parts = {"model": weights.arrays, **({"fixed": weights.fixed} if weights.fixed else {})}
    storage.write(path, 0, parts, state, weights.config or "{}\n")
    return len(weights.arrays)


def _write_safetensors(weights: Weights, path: Path, target: Path) -> int:
    fixed = {f"fixed.{name}": value for name, value in weights.fixed.items()}
    return _save_safetensors({**weights.arrays, **fixed}, path, {"pooling": weights.pooling or ""})


def _write_plsc(weights: Weights, path: Path, target: Path) -> int:
    state = _foreign(weights, plsc_name, transposed=False)
    with open(path, "wb") as file:
        pickle.dump({"model": state}, file, protocol=4)
    return len(state)


def _write_official(weights: Weights, path: Path, target: Path) -> int:
    state = _foreign(weights, official_name, transposed=True)
    write_torch_file(path, state)
    return len(state)


def _write_timm(weights: Weights, path: Path, target: Path) -> int:
    state = _timm(weights)
    if target.suffix == ".safetensors":
        return _save_safetensors(state, path, {})
    write_torch_file(path, state)
    return len(state)


_WRITERS: Dict[str, Callable[[Weights, Path, Path], int]] = {
    "own": _write_own,
    "safetensors": _write_safetensors,
    "plsc": _write_plsc,
    "official": _write_official,
    TIMM: _write_timm,
}


def _foreign(weights: Weights, pretraining: Callable[[str], str], transposed: bool) -> Arrays:
    """All arrays under the names of a reference."""
    own = _plain(weights)
    rename = pretraining
    if "mask_token" not in own:
        attentive = any(name.startswith("head.blocks.") or name == "head.query_token" for name in own)
        normed = "head.batch_norm.running_mean" in own and not attentive

        def rename(name: str) -> str:
            return classifier_official_name(name, weights.pooling == "mean", attentive, normed)

    own = {name: value for name, value in own.items() if not name.startswith("teacher.")}  # neither reference saves it
    return {
        rename(name): np.ascontiguousarray(value.T) if transposed and is_transposed(name) else value
        for name, value in own.items()
    }


def _timm(weights: Weights) -> Arrays:
    """Encoder and linear head under timm's names."""
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
    """The head's batch norm, which timm does not have, made a part of the linear layer after it.

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
    """The arrays without `model.`, with the encoder's position table."""
    own = {name[len(PREFIX) :]: value for name, value in weights.arrays.items() if name.startswith(PREFIX)}
    if "encoder.cls_token" not in own:
        raise CheckpointError("only models with an encoder can be converted; this checkpoint holds none")
    own.update(weights.fixed)
    table = _computed_table(weights.config, own["encoder.cls_token"].shape[-1])
    if "encoder.pos_embed" not in own and table is not None:
        own["encoder.pos_embed"] = table
    return own


def _computed_table(config: str, dim: int) -> Optional[np.ndarray]:
    """The sin-cos table that the encoder of a config computes; None if it has another or there is no config."""
    encoder = mapping(model_section(config), "encoder")
    if not encoder or not str(encoder.get("pos_embed", "sincos")).startswith("sincos"):
        return None
    image, patch = _side_lengths(encoder, "image_size", 224), _side_lengths(encoder, "patch_size", 16)
    grid = (image[0] // patch[0], image[1] // patch[1])
    if grid[0] * grid[1] > _MOST_PATCHES:
        raise CheckpointError(f"Model.encoder of the checkpoint's config has {grid[0]} x {grid[1]} patches, too many")
    return sincos_2d(grid, dim, official_order=encoder.get("pos_embed") == "sincos_official")


def _side_lengths(encoder: Mapping[str, Any], key: str, default: int) -> Tuple[int, int]:
    given = encoder.get(key, default)
    lengths = list(given) if isinstance(given, (list, tuple)) else [given, given]
    if len(lengths) != 2 or not all(isinstance(length, int) and length > 0 for length in lengths):
        raise CheckpointError(f"Model.encoder.{key} of the checkpoint's config is no size: {given!r:.60}")
    return lengths[0], lengths[1]


def _save_safetensors(arrays: Arrays, path: Path, metadata: Dict[str, str]) -> int:
    storage.write_arrays(path, arrays, metadata)
    return len(arrays)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()
