"""Parameter groups by weight decay and learning-rate factor, from names, shapes and depths."""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Callable, Dict, Iterable, List, Optional, Sequence, Tuple


@dataclass
class ParameterGroup:
    """Parameters with the same weight decay and learning-rate factor.

    Args:
        name: Name for logs: `decay`, `no_decay`, `layer_3_decay`.
        weight_decay: Weight decay coefficient.
        lr_scale: Factor of the learning rate.
        decayed: True if weight decay applies, even if the coefficient is currently 0.
        parameters: Parameter names.
    """

    name: str
    weight_decay: float
    lr_scale: float
    decayed: bool
    parameters: List[str] = field(default_factory=list)


def is_decayed(name: str, shape: Sequence[int], no_weight_decay: Sequence[str] = ()) -> bool:
    """Return True if weight decay applies: not to biases, vectors and names that match a pattern.

    CAE, `optim_factory.get_parameter_groups`. The reference's fine-tuning also excludes class token and position
    embedding, `no_weight_decay: ["*.cls_token", "*.pos_embed"]`; its pre-training does not.
    """
    is_bias = name == "bias" or name.endswith(".bias")  # a relative position bias table is not a bias
    return len(shape) > 1 and not is_bias and not any(fnmatchcase(name, pattern) for pattern in no_weight_decay)


def layer_scale(index: int, num_layers: int, layer_decay: float) -> float:
    """Learning-rate factor at depth `index`; 1 at the last depth (CAE, `LayerDecayValueAssigner`)."""
    assert 0 <= index < num_layers, f"depth {index} of {num_layers}"
    return layer_decay ** (num_layers - 1 - index)


def group_parameters(
    parameters: Iterable[Tuple[str, Sequence[int]]],
    weight_decay: float,
    no_weight_decay: Sequence[str] = (),
    layer_decay: Optional[float] = None,
    layer_index: Optional[Callable[[str], int]] = None,
    num_layers: Optional[int] = None,
    lr_scale: Optional[Callable[[str], float]] = None,
) -> List[ParameterGroup]:
    """Divide parameters into groups.

    Args:
        parameters: Names and shapes, in order.
        weight_decay: Coefficient of the decayed groups.
        no_weight_decay: Patterns of further names that are not decayed, besides biases and vectors.
        layer_decay: Factor of the learning rate from one depth to the previous one; None: the same rate everywhere.
        layer_index: Maps a name to its depth; required with `layer_decay`.
        num_layers: Number of depths; required with `layer_decay`.
        lr_scale: Maps a name to a further factor of the learning rate; None: 1.

    Raises:
        ValueError: If `layer_decay` is not in (0, 1], or `layer_index` or `num_layers` is missing.
    """
    if layer_decay is not None:
        if not 0 < layer_decay <= 1:
            raise ValueError(f"layer_decay must be in (0, 1] (or null), got {layer_decay}")
        if layer_index is None or num_layers is None:
            raise ValueError("layer_decay needs a model with layer_index(name) and num_layers; set layer_decay to null")
    groups: Dict[Tuple[int, bool, float], ParameterGroup] = {}
    for name, shape in parameters:
        depth = layer_index(name) if layer_decay is not None and layer_index is not None else -1
        decayed = is_decayed(name, shape, no_weight_decay)
        factor = 1.0 if lr_scale is None else lr_scale(name)
        if (depth, decayed, factor) not in groups:
            scale = factor * (
                1.0 if layer_decay is None or num_layers is None else layer_scale(depth, num_layers, layer_decay)
            )
            kind = "decay" if decayed else "no_decay"
            label = kind if layer_decay is None else f"layer_{depth}_{kind}"
            label += "" if factor == 1.0 else f"_x{factor:g}"
            groups[depth, decayed, factor] = ParameterGroup(label, weight_decay if decayed else 0.0, scale, decayed)
        groups[depth, decayed, factor].parameters.append(name)
    return list(groups.values())
