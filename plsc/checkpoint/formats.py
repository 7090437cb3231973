"""Weights from any known kind of file, under our names; the kind is recognized by the names in it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

import numpy as np

from plsc.checkpoint import heads
from plsc.checkpoint.arrays import CheckpointError, read_safetensors
from plsc.checkpoint.files import POINTERS
from plsc.checkpoint.heads import Heads
from plsc.checkpoint.model_config import Grid, grid_of_encoder, model_section
from plsc.checkpoint.names import classifier_name, is_transposed, pretraining_name, unused_name
from plsc.checkpoint.reader import Checkpoint
from plsc.nn.pos_embed import index_grid, sincos_grid
from plsc.safe_pickle import Unknown, UnsafeFileError, read_state_file

Arrays = Dict[str, np.ndarray]
OWN, PRETRAINING, CLASSIFIER, TIMM = "own", "pre-training model", "classifier", "timm ViT"
PREFIX = "model."
UNUSED = "unused"  # entry of the files that `convert` writes for the authors' code: tensors that only PLSC stores
_FIXED = "fixed."
_HOLDERS = ("model", "state_dict", "module")
_QKV, _PATCHES = "blocks.0.attn.qkv.weight", "patch_embed.proj.weight"
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
        fixed: Other tensors of the file, by our names without `model.`: position tables that are computed here, and
            tensors that the references store without using them.
        config: The resolved config of one of our own checkpoints, as YAML.
        pooling: Pooling of a classifier, `mean` or another; the references' name of its last norm depends on it.
        heads: Attention heads of the checkpoint, see `plsc.checkpoint.heads`.
        grid: Rows and columns of the patches that the positions belong to; None if unknown.
        notes: Sentences about tensors that were left out, and assumptions.
        classes: Names of its classes, in the order of the head's outputs; None if unknown.
    """

    arrays: Arrays
    encoder: str
    fixed: Arrays = field(default_factory=dict)
    config: str = ""
    pooling: Optional[str] = None
    heads: Heads = field(default_factory=dict)
    grid: Optional[Grid] = None
    notes: List[str] = field(default_factory=list)
    classes: Optional[List[str]] = None


Source = Union[Path, Checkpoint]  # a file of another project, or one of our own checkpoints


def open_source(path: Union[str, Path]) -> Source:
    """Open a checkpoint of ours, or return the path of a file of another project.

    Raises:
        CheckpointError: If the path names neither, or the checkpoint is damaged.
    """
    path = Path(path)
    return path if path.is_file() and path.name not in POINTERS else Checkpoint.open(path)


def read_weights(source: Union[str, Source]) -> Weights:
    """Read the weights of a checkpoint, without optimizer state and moving average.

    Args:
        source: An opened checkpoint; or the path of a run directory, a checkpoint directory, `latest` or `best`, or a
            file of another project: PLSC's `.pd` (`{model, ...}` or the model alone), the authors' `.pth` (both formats
            of torch), `.safetensors`. A pre-training model without a teacher, which neither reference saves, gets a
            copy of its encoder.

    Raises:
        CheckpointError: If the source has no weights of a known kind.
    """
    source = source if isinstance(source, Checkpoint) else open_source(source)
    if isinstance(source, Checkpoint):
        return _read_own(source)
    content, metadata = _read_file(source), _safetensors_metadata(source)
    weights = rename(content, str(source), metadata.get("pooling"))
    weights.grid = weights.grid or _as_grid(metadata.get("grid", "").split("x"))
    return weights


def _read_own(checkpoint: Checkpoint) -> Weights:
    model, fixed, config = checkpoint.model(), checkpoint.fixed(), checkpoint.config_text
    _refuse_empty({**model, **fixed}, str(checkpoint))
    return Weights(
        model,
        checkpoint.encoder,
        fixed,
        config,
        pooling=checkpoint.state.get("pooling") or _pooling(config),
        heads={**heads.of_tables(model, checkpoint.encoder), **heads.of_checkpoint(checkpoint)},
        grid=_as_grid(checkpoint.state.get("grid")) or _grid_of_config(config),
        classes=checkpoint.classes,
    )


def rename(state: Mapping[str, Any], source: str, pooling: Optional[str] = None) -> Weights:
    """Rename a state dict of any known project to our names.

    Args:
        state: Arrays by name, or a dict that holds them as `model` or `state_dict`.
        source: Name of the source in messages.
        pooling: Pooling of a classifier with our names.

    Raises:
        CheckpointError: If the names are not those of a known project.
    """
    notes: List[str] = []
    arrays, kind = _unwrap(state, source, pooling is not None, notes)
    _refuse_empty(arrays, source)
    if kind == OWN:
        fixed = {name[len(_FIXED) :]: value for name, value in arrays.items() if name.startswith(_FIXED)}
        model = {name: value for name, value in arrays.items() if not name.startswith(_FIXED)}
        return Weights(model, "model.encoder", fixed, pooling=pooling, heads=heads.of_tables(model))
    if kind == TIMM:
        arrays = _from_timm(arrays, notes)
    own, unknown = _translate(arrays, kind, _is_torch(arrays))
    if unknown:
        raise CheckpointError(f"{source}: a {kind}, but it has unknown tensors: {', '.join(unknown[:8])}")
    if kind == PRETRAINING and not any(name.startswith("teacher.") for name in own):
        copies = {f"teacher.{name[8:]}": value for name, value in own.items() if name.startswith("encoder.")}
        own.update(copies)
    grid = _grid_of_arrays(arrays, own) or _as_grid(_entry(state, "args", "window_size"))
    fixed = {name: own.pop(name) for name in list(own) if name.endswith("pos_embed") and sincos_grid(own[name])}
    if "encoder.pos_embed" in fixed:
        fixed.pop("teacher.pos_embed", None)
    fixed.update(_unused(arrays, source) if kind == CLASSIFIER else {})
    stored = _entry(state, UNUSED)
    fixed.update(_tensors(stored, source) if isinstance(stored, dict) else {})
    pooling = "mean" if "fc_norm.weight" in arrays else "cls"
    model = {PREFIX + name: value for name, value in own.items()}
    told = {**heads.of_arguments(state.get("args")), **heads.of_tables(model)}
    return Weights(model, "model.encoder", fixed, pooling=pooling, heads=told, grid=grid, notes=notes)


def recognise(names: Mapping[str, Any]) -> Optional[str]:
    """Recognize the project whose names a state dict has; None if it is unknown."""
    if any(name.startswith(("pretext_neck.", "regressor_and_decoder.")) for name in names):
        return PRETRAINING
    if {_QKV, _PATCHES} <= set(names):
        return TIMM if "blocks.0.attn.qkv.bias" in names else CLASSIFIER
    within = any(name.startswith(PREFIX) for name in names) and PREFIX + _QKV not in names
    return OWN if within else None


def _read_file(path: Path) -> Mapping[str, Any]:
    with open(path, "rb") as file:
        start = file.read(9)
    header = int.from_bytes(start[:8], "little")  # of safetensors: the length of the JSON that follows
    if path.suffix == ".safetensors" or (start[8:] == b"{" and header <= path.stat().st_size):
        return read_safetensors(path)
    try:
        content = read_state_file(path)
    except UnsafeFileError as error:
        raise CheckpointError(str(error)) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__} instead of weights; known are {_KNOWN}")
    return content


def _safetensors_metadata(path: Path) -> Dict[str, str]:
    if path.suffix != ".safetensors":
        return {}
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        return file.metadata() or {}


def _pooling(config: str) -> Optional[str]:
    return str(model_section(config).get("pooling", "mean")) if config else None


def _grid_of_config(config: str) -> Optional[Grid]:
    try:
        return grid_of_encoder(config) if config else None
    except CheckpointError:  # an encoder of another kind; a square grid is assumed then
        return None


def _as_grid(value: Any) -> Optional[Grid]:
    """Rows and columns from a value of a file; None if it is not two positive integers."""
    try:
        rows, columns = (int(length) for length in value)
    except (TypeError, ValueError):
        return None
    return (rows, columns) if rows > 0 and columns > 0 else None


def _grid_of_arrays(arrays: Arrays, own: Arrays) -> Optional[Grid]:
    """Grid of a file of another project, from an index of relative positions or a square fixed table."""
    for name, value in arrays.items():
        if name.endswith("relative_position_index"):
            return index_grid(value)
    grid = sincos_grid(own["encoder.pos_embed"]) if "encoder.pos_embed" in own else None
    return grid if grid is not None and grid[0] == grid[1] else None


def _entry(state: Mapping[str, Any], *keys: str) -> Any:
    """Value below these keys of a file's content; None if it is missing."""
    found: Any = state
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _unwrap(state: Mapping[str, Any], source: str, own: bool, notes: List[str]) -> Tuple[Arrays, str]:
    """Find the weights in the content of a file, remove prefixes of other tools, and recognize the kind.

    Args:
        state: Content of the file, or of one of its entries.
        source: Name of the source in messages.
        own: True if the names are known to be ours.
        notes: Sentences about the choices made are appended.

    Returns:
        Arrays by name, and the kind.

    Raises:
        CheckpointError: If there are no weights of a known kind, or several sets of them.
    """
    for key in _HOLDERS:
        if isinstance(state.get(key), dict):
            return _unwrap(state[key], source, own, notes)
    arrays = _tensors(state, source)
    prefixes = [] if own or recognise(arrays) in (OWN, PRETRAINING) else _prefixes(arrays)
    if len(prefixes) == 1 and prefixes[0]:
        below = {name[len(prefixes[0]) :]: value for name, value in arrays.items() if name.startswith(prefixes[0])}
        left = [name for name in arrays if not name.startswith(prefixes[0])]
        notes.append(f"its names begin with {prefixes[0]!r}, which was taken off")
        if left:
            notes.append(f"{len(left)} of its tensors are not below {prefixes[0]!r} and were left out: {left[0]}, ...")
        arrays = below
    kind = OWN if own else recognise(arrays)
    if kind is not None and len(prefixes) < 2:
        return arrays, kind
    entries = [key for key, value in state.items() if isinstance(value, dict) and _prefixes(value)]
    if len(entries) == 1 and not prefixes:
        notes.append(f"the weights were taken from its entry {entries[0]!r}")
        return _unwrap(state[entries[0]], source, own, notes)
    raise CheckpointError(f"{source}: {_unreadable(state, arrays, entries or prefixes)}")


def _unreadable(state: Mapping[str, Any], arrays: Arrays, sets: List[str]) -> str:
    """Reason why no weights can be taken from the content of a file."""
    if len(sets) > 1:
        entry = sets[-1]
        return (
            f"it holds {len(sets)} networks, {' and '.join(map(repr, sets))}, of which only one can be taken (in a "
            "file of DINO the teacher is the one to evaluate); save it as a separate file, for example with "
            f"torch.save({{'model': content[{entry!r}]}}, 'weights.pth')"
        )
    entries = [f"{key} ({type(value).__name__})" for key, value in list(state.items())[:8]]
    shown = ", ".join(list(arrays)[:4] or entries)
    return f"its names are of an unknown format ({shown}, ...); known are {_KNOWN}"


def _prefixes(names: Mapping[str, Any]) -> List[str]:
    """Prefixes below which there are the names of a vision transformer."""
    found = [name[: -len(_QKV)] for name in names if isinstance(name, str) and name.endswith(_QKV)]
    return [prefix for prefix in found if prefix + _PATCHES in names]


def _tensors(state: Mapping[str, Any], source: str) -> Arrays:
    """Arrays of a state dict, without the prefixes that DataParallel and torch.compile add to names.

    Raises:
        CheckpointError: If one of its tensors is an object of a class that is not read.
    """
    found: Arrays = {}
    for name, value in state.items():
        if isinstance(name, str) and isinstance(value, Unknown) and "." in name and not name.endswith("_extra_state"):
            raise CheckpointError(
                f"{source}: {name} is an object of {value.name}, which is not supported; save it as a plain tensor"
            )
        if isinstance(name, str) and isinstance(value, np.ndarray):
            name = name.replace("_orig_mod.", "")
            found[name[7:] if name.startswith("module.") else name] = value
    return found


def _refuse_empty(arrays: Arrays, source: str) -> None:
    """Raise CheckpointError if an array has no elements, as its shape could be arbitrarily large then."""
    for name, value in arrays.items():
        if not value.size:
            raise CheckpointError(f"{source}: {name} has no elements (its shape is {list(value.shape)})")


def _unused(arrays: Arrays, source: str) -> Arrays:
    """Tensors that the references' classifiers store without using them, by our names.

    Raises:
        CheckpointError: If they are used: a batch norm with a scale or shift.
    """
    named = {unused_name(name): value for name, value in arrays.items()}
    found = {name: value for name, value in named.items() if name is not None}
    for key, neutral in (("weight", 1), ("bias", 0)):
        value = found.get(f"head.batch_norm.{key}")
        if value is not None and (value != neutral).any():
            raise CheckpointError(f"{source}: its head's batch norm has a learned {key}; the batch norm here has none")
    return found


def _is_torch(arrays: Arrays) -> bool:
    """Return True if linear weights are (out, in), from the shape of the matrix for queries, keys and values."""
    name = next((name for name in arrays if name.endswith("attn.qkv.weight")), None)
    if name is None or arrays[name].ndim != 2:
        raise CheckpointError("it has no matrix ...attn.qkv.weight, so it is not a vision transformer of a known kind")
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


def _from_timm(arrays: Arrays, notes: List[str]) -> Arrays:
    """Rename the tensors of a timm VisionTransformer to the authors' classifier names.

    The bias of the keys is left out: it adds the same value to all attention logits of a query, so the softmax does not
    change, unless the keys are normalized.
    """
    renamed: Arrays = {}
    dropped, decoder = 0, [name for name in arrays if name.startswith(("decoder_", "mask_token"))]
    for name, value in arrays.items():
        if name in decoder:
            continue
        if name.endswith("attn.qkv.bias"):
            query, key, values = np.array_split(value, 3)
            if key.any() and name.replace("qkv.bias", "k_norm.weight") in arrays:
                raise CheckpointError(f"{name}: the keys have a bias and a normalization; the attention here does not")
            dropped += bool(key.any())
            renamed[name.replace("qkv.bias", "q_bias")] = query
            renamed[name.replace("qkv.bias", "v_bias")] = values
        else:
            renamed[name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2")] = value
    if dropped:
        notes.append(f"the keys' bias of {dropped} blocks was left out, which does not change their output")
    if decoder:
        notes.append(f"{len(decoder)} tensors that only pre-training uses were left out: {decoder[0]}, ...")
    return renamed
