"""Which parameters are decayed, and which learn more slowly: pure functions over names, shapes and depths."""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Callable, Dict, Iterable, List, Optional, Sequence, Tuple


@dataclass
class ParameterGroup:
    """Parameters that are updated alike.

    Args:
        name: For logs: `decay`, `no_decay`, `layer_3_decay`.
        weight_decay: Decay coefficient.
        lr_scale: Factor of the learning rate.
        decayed: Whether weight decay applies, also where it is 0 at present.
        parameters: Their names.
    """

    name: str
    weight_decay: float
    lr_scale: float
    decayed: bool
    parameters: List[str] = field(default_factory=list)


def is_decayed(name: str, shape: Sequence[int], no_weight_decay: Sequence[str] = ()) -> bool:
    """Whether weight decay applies: not to biases, to vectors, and to what the patterns name.

    CAE, `optim_factory.get_parameter_groups`. In fine-tuning it leaves out class token and position embedding too:
    `no_weight_decay: ["*.cls_token", "*.pos_embed"]`; in pre-training it does not.
    """
    is_bias = name == "bias" or name.endswith(".bias")  # a table of relative position biases is none
    return len(shape) > 1 and not is_bias and not any(fnmatchcase(name, pattern) for pattern in no_weight_decay)


def layer_scale(index: int, num_layers: int, layer_decay: float) -> float:
    """Factor of the learning rate at depth `index`; the last depth learns at 1 (CAE, `LayerDecayValueAssigner`)."""
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
    """Divides parameters into groups.

    Args:
        parameters: Names and shapes, in order.
        weight_decay: Of the decayed ones.
        no_weight_decay: Patterns of names that are not decayed besides biases and vectors.
        layer_decay: Factor of the learning rate from one depth to the one before it; None: the same rate everywhere.
        layer_index: Depth of a name; needed with `layer_decay`.
        num_layers: Number of depths; needed with `layer_decay`.
        lr_scale: A further factor of the learning rate of a name; None: 1 everywhere.

    Raises:
        ValueError: If `layer_decay` is given for a model that does not order its parameters, or is not in (0, 1].
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
