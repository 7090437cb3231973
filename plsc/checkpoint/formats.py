"""Weights from any file we can read, under our names; what kind of file it is shows in its keys."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Union

import numpy as np

from plsc import storage
from plsc.checkpoint import store
from plsc.models.names import classifier_name, is_transposed, pretraining_name
from plsc.nn.pos_embed import sincos_2d
from plsc.safe_pickle import UnsafeFileError, read_state_file
from plsc.storage import CheckpointError
from plsc.yaml_tree import ConfigError, parse

Arrays = Dict[str, np.ndarray]
OWN, PRETRAINING, CLASSIFIER, TIMM = "own", "pre-training model", "classifier", "timm ViT"
PREFIX = "model."
_FIXED = "fixed."
_PRETRAINING_PARTS = (
    "encoder", "teacher", "regressor", "decoder", "head", "mask_token", "encoder_to_decoder", "encoder_to_decoder_norm",
)  # fmt: skip
_KNOWN = "plsc's own, PLSC's .pd, the authors' .pth, a timm ViT, and .safetensors with the names of any of these"


@dataclass
class Weights:
    """Weights of a checkpoint.

    Args:
        arrays: By our names.
        encoder: Prefix of the encoder among them.
        fixed: What the file holds besides: position tables that are computed here.
        config: The resolved config of one of our own checkpoints, as YAML.
        pooling: Of a classifier, `mean` or another, which decides what the references call its last norm.
        classes: Names of its classes, in the order of the head's outputs; None if unknown.
    """

    arrays: Arrays
    encoder: str
    fixed: Arrays = field(default_factory=dict)
    config: str = ""
    pooling: Optional[str] = None
    classes: Optional[List[str]] = None


def read_weights(path: Union[str, Path]) -> Weights:
    """The weights of a checkpoint.

    Args:
        path: A run directory, a checkpoint directory, `latest` or `best`, or a file of another project: PLSC's `.pd`
            (`{model, ...}` or the model alone), the authors' `.pth` (both formats of torch), `.safetensors`. A
            pre-training model without a teacher, which neither reference saves, gets a copy of its encoder.

    Raises:
        CheckpointError: If the path holds nothing we can read.
    """
    path = Path(path)
    if path.is_file() and path.name not in storage.POINTERS:
        return rename(_read_file(path), str(path), _safetensors_metadata(path).get("pooling"))
    directory = storage.resolve(path)
    checkpoint = store.load(directory)
    fixed = storage.read_arrays(directory, "fixed") or {}
    config = checkpoint.config_text
    pooling = checkpoint.state.get("pooling") or _pooling(config)
    encoder, classes = checkpoint.state.get("encoder", "model.encoder"), store.saved_classes(checkpoint.state)
    return Weights(checkpoint.model, encoder, fixed, config, pooling, classes)


def rename(state: Mapping[str, Any], source: str, pooling: Optional[str] = None) -> Weights:
    """A state dict of any known project under our names.

    Args:
        state: Arrays by name, or a dict that holds them as `model` or `state_dict`.
        source: What to call it in messages.
        pooling: Of a classifier with our names.

    Raises:
        CheckpointError: If the names are of no known project.
    """
    arrays = _unwrap(state)
    kind = recognise(arrays)
    if kind is None:
        raise CheckpointError(
            f"{source}: its names are of no format known here ({', '.join(list(arrays)[:4])}, ...); known are {_KNOWN}"
        )
    if kind == OWN:
        fixed = {name[len(_FIXED) :]: value for name, value in arrays.items() if name.startswith(_FIXED)}
        model = {name: value for name, value in arrays.items() if not name.startswith(_FIXED)}
        return Weights(model, "model.encoder", fixed, pooling=pooling)
    if kind == TIMM:
        arrays = _from_timm(arrays)
    transposed = _is_torch(arrays)
    own, unknown = _translate(arrays, kind, transposed)
    if unknown:
        raise CheckpointError(f"{source}: a {kind}, but nothing here is called {', '.join(unknown[:8])}")
    if kind == PRETRAINING and not any(name.startswith("teacher.") for name in own):
        copies = {f"teacher.{name[8:]}": value for name, value in own.items() if name.startswith("encoder.")}
        own.update(copies)
    fixed = {name: own.pop(name) for name in list(own) if name.endswith("pos_embed") and _is_sincos(own[name])}
    if "encoder.pos_embed" in fixed:
        fixed.pop("teacher.pos_embed", None)
    pooling = "mean" if "fc_norm.weight" in arrays else "cls"
    return Weights({PREFIX + name: value for name, value in own.items()}, "model.encoder", fixed, pooling=pooling)


def recognise(names: Mapping[str, Any]) -> Optional[str]:
    """Which project's spelling a state dict has; None if it is unknown."""
    if any(name.startswith(PREFIX) for name in names):
        return OWN
    if any(name.startswith(("pretext_neck.", "regressor_and_decoder.")) for name in names):
        return PRETRAINING
    if not {"blocks.0.attn.qkv.weight", "patch_embed.proj.weight"} <= set(names):
        return None
    return TIMM if "blocks.0.attn.qkv.bias" in names else CLASSIFIER


def _read_file(path: Path) -> Mapping[str, Any]:
    with open(path, "rb") as file:
        start = file.read(9)
    header = int.from_bytes(start[:8], "little")  # of safetensors: the length of the JSON that follows
    if path.suffix == ".safetensors" or (start[8:] == b"{" and header <= path.stat().st_size):
        return storage.read_safetensors(path)
    try:
        content = read_state_file(path)
    except UnsafeFileError as error:
        raise CheckpointError(str(error)) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no weights but a {type(content).__name__}; known are {_KNOWN}")
    return content


def _safetensors_metadata(path: Path) -> Dict[str, str]:
    if path.suffix != ".safetensors":
        return {}
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        return file.metadata() or {}


def _pooling(config: str) -> Optional[str]:
    return str(model_section(config).get("pooling", "mean")) if config else None


def model_section(config: str) -> Mapping[str, Any]:
    """The section `Model` of a checkpoint's config; empty if it has none.

    Raises:
        CheckpointError: If the config is not plain YAML.
    """
    try:
        tree = parse(config, "the config.yaml of the checkpoint")
    except ConfigError as error:
        raise CheckpointError(str(error)) from None
    return mapping(tree, "Model")


def mapping(tree: Any, key: str) -> Mapping[str, Any]:
    """The mapping below a key; empty if there is none."""
    found = tree.get(key) if isinstance(tree, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _unwrap(state: Mapping[str, Any]) -> Arrays:
    for key in ("model", "state_dict", "module"):
        if isinstance(state.get(key), dict):
            return _unwrap(state[key])
    found = {name: value for name, value in state.items() if isinstance(name, str) and isinstance(value, np.ndarray)}
    return {name[7:] if name.startswith("module.") else name: value for name, value in found.items()}


def _is_torch(arrays: Arrays) -> bool:
    """Whether Linear weights are (out, in): shows in the matrix that makes queries, keys and values."""
    name = next((name for name in arrays if name.endswith("attn.qkv.weight")), None)
    if name is None or arrays[name].ndim != 2:
        raise CheckpointError("it holds no matrix ...attn.qkv.weight, so it is no vision transformer of a known kind")
    return arrays[name].shape[0] > arrays[name].shape[1]


def _translate(arrays: Arrays, kind: str, transposed: bool) -> tuple:
    own: Arrays = {}
    unknown: List[str] = []
    for name, value in arrays.items():
        target = pretraining_name(name) if kind == PRETRAINING else classifier_name(name)
        if target is None:
            continue
        if target.split(".")[0] not in (_PRETRAINING_PARTS if kind == PRETRAINING else ("encoder", "head")):
            unknown.append(name)
        own[target] = np.ascontiguousarray(value.T) if transposed and is_transposed(target) else value
    return own, unknown


def _from_timm(arrays: Arrays) -> Arrays:
    """A timm VisionTransformer under the authors' classifier names; the bias of the keys has no place here."""
    renamed: Arrays = {}
    for name, value in arrays.items():
        if name.endswith("attn.qkv.bias"):
            query, key, values = np.array_split(value, 3)
            if key.any():
                raise CheckpointError(f"{name}: the keys have a bias, which this architecture does not have")
            renamed[name.replace("qkv.bias", "q_bias")] = query
            renamed[name.replace("qkv.bias", "v_bias")] = values
        else:
            renamed[name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2")] = value
    return renamed


def _is_sincos(table: np.ndarray) -> bool:
    """Whether a position table is the fixed one of a square grid."""
    if table.ndim != 3 or min(table.shape[1:]) < 1 or table.shape[2] % 4:
        return False
    side = math.isqrt(table.shape[1] - 1)
    return side * side == table.shape[1] - 1 and np.allclose(table, sincos_2d((side, side), table.shape[2]), atol=1e-5)
