"""Numbers of attention heads recorded in a checkpoint, compared with those of a model.

No weight of an attention layer depends on the number of its heads, so weights fit a model with other heads, which then
computes other features. The number is taken from the config of our own checkpoints, from the arguments that PLSC's and
the authors' programs save beside the weights, or from tables of relative position biases, which have a column per head.
"""

import inspect
import re
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np
from paddle import nn

from plsc.checkpoint.model_config import mapping
from plsc.checkpoint.reader import Checkpoint
from plsc.config.tree import ConfigError, parse
from plsc.models.heads import AttentiveHead, ProjectionFreeAttention
from plsc.models.vit import ViT
from plsc.nn.attention import Attention, CrossAttention

Heads = Dict[str, Tuple[int, str]]  # prefix of names -> number of heads, and its source
_MODELS = ((r"^cae_(small|base)", 12), (r"^cae_large", 16), (r"^beit_base", 12), (r"^beit_large", 16))
_ATTENTIONS = (Attention, CrossAttention, ProjectionFreeAttention)
_KEYS = {"head": "head.num_heads", "regressor": "decoder_num_heads", "decoder": "decoder_num_heads"}


def of_checkpoint(checkpoint: Checkpoint) -> Heads:
    """Heads of one of our own checkpoints, from its config or, if it was converted, from its state."""
    return {**of_record(checkpoint.state.get("heads")), **of_config(checkpoint.config_text, checkpoint.encoder)}


def record(told: Heads) -> Dict[str, int]:
    """Plain data about the heads of a source, kept in the state of a converted checkpoint."""
    return {prefix: heads for prefix, (heads, _) in told.items()}


def of_record(recorded: Any) -> Heads:
    """Heads from the data that `record` returned."""
    known = recorded.items() if isinstance(recorded, Mapping) else ()
    return {prefix: (heads, "its record of the source") for prefix, heads in known if isinstance(heads, int)}


def of_config(config: str, encoder: str = "model.encoder") -> Heads:
    """Heads from the config of one of our own checkpoints.

    Args:
        config: YAML; empty without a config.
        encoder: Prefix of the encoder's names.
    """
    try:
        model = mapping(parse(config, "the config.yaml of the checkpoint"), "Model") if config else {}
    except ConfigError:
        return {}
    found: Heads = {}
    if mapping(model, "encoder").get("name") != ViT.__name__:
        return found
    heads = _told(model["encoder"], ViT)
    if heads is not None:
        found[encoder] = (heads, "Model.encoder.num_heads of its config")
    decoder = model.get("decoder_num_heads", heads)
    if model.get("name") == "CAE" and isinstance(decoder, int):
        for part in ("regressor", "decoder"):
            found[f"model.{part}"] = (decoder, "Model.decoder_num_heads of its config")
    if mapping(model, "head").get("name") == AttentiveHead.__name__:
        head = _told(model["head"], AttentiveHead)
        if head is not None:
            found["model.head"] = (head, "Model.head.num_heads of its config")
    return found


def of_arguments(arguments: Any) -> Heads:
    """Heads from the arguments in a file of PLSC or the authors: name of the model, `decoder_num_heads`."""
    found: Heads = {}
    if not isinstance(arguments, Mapping):
        return found
    name = arguments.get("model")
    heads = next((heads for pattern, heads in _MODELS if isinstance(name, str) and re.match(pattern, name)), None)
    if heads is not None:
        for part in ("encoder", "teacher", "head"):
            found[f"model.{part}"] = (heads, f"its model, {name:.60}")
    decoder = arguments.get("decoder_num_heads")
    if isinstance(decoder, int):
        for part in ("regressor", "decoder"):
            found[f"model.{part}"] = (decoder, "decoder_num_heads of its arguments")
    return found


def of_tables(arrays: Mapping[str, np.ndarray], encoder: str = "model.encoder") -> Heads:
    """Heads from the tables of relative position biases in the encoder."""
    for name, value in arrays.items():
        if name.startswith(f"{encoder}.") and name.endswith("relative_position_bias.table") and value.ndim == 2:
            return {encoder: (int(value.shape[1]), f"the columns of {name}")}
    return {}


def mismatches(layer: nn.Layer, told: Heads, take: str = "", into: str = "") -> List[str]:
    """List parts of a model whose attention has other heads than the checkpoint, one sentence each.

    Args:
        layer: A task.
        told: Heads of the checkpoint by prefix of its names.
        take: Prefix of the part that is taken from the checkpoint.
        into: Prefix of the part of `layer` that it is loaded into.
    """
    found: Dict[str, str] = {}
    for name, attention in layer.named_sublayers():
        source = _source(name, take, into)
        prefix = None if source is None else next((p for p in told if source.startswith(f"{p}.")), None)
        if prefix is None or not isinstance(attention, _ATTENTIONS) or prefix in found:
            continue
        heads, reason = told[prefix]
        if attention.num_heads != heads:
            key = _KEYS.get(prefix.split(".")[-1], "encoder.num_heads")
            found[prefix] = (
                f"{name} has {attention.num_heads} attention heads in the model, {prefix} has {heads} in the "
                f"checkpoint (from {reason}); set Model.{key} to {heads}"
            )
    return list(found.values())


def assumed(layer: nn.Layer, told: Heads, take: str = "", into: str = "") -> str:
    """Describe the heads of the model that are assumed because the checkpoint has no record of them.

    Args:
        layer: A task.
        told: Heads of the checkpoint by prefix of its names.
        take: Prefix of the part that is taken from the checkpoint.
        into: Prefix of the part of `layer` that it is loaded into.

    Returns:
        A sentence; empty if nothing is assumed.
    """
    for name, attention in layer.named_sublayers():
        source = _source(name, take, into)
        if source is None or not isinstance(attention, _ATTENTIONS) or any(source.startswith(f"{p}.") for p in told):
            continue
        text = f"the model's {attention.num_heads} attention heads are assumed; the checkpoint has no record of its own"
        usual = 0 if isinstance(attention, ProjectionFreeAttention) else attention.proj.weight.shape[0] // 64
        differs = usual not in (0, attention.num_heads)
        return text + (f" (most published models of this width have {usual})" if differs else "")
    return ""


def _source(name: str, take: str, into: str) -> Optional[str]:
    """Name in the checkpoint of the layer `name` of the model; None if it is not below `into`."""
    if into and not name.startswith(f"{into}."):
        return None
    rest = name[len(into) + 1 :] if into else name
    return f"{take}.{rest}" if take else rest


def _told(node: Mapping[str, Any], component: Any) -> Optional[int]:
    heads = node.get("num_heads", inspect.signature(component).parameters["num_heads"].default)
    return heads if isinstance(heads, int) else None
