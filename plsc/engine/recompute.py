"""Activation recomputation: layers keep only their inputs and compute the rest again in the backward pass.

This saves memory and costs about a third more computation.
"""

from fnmatch import fnmatchcase
from typing import Any, Callable, List, Sequence

import paddle
from paddle import nn

from plsc import distributed


def apply_recompute(task: nn.Layer, patterns: Sequence[str]) -> List[str]:
    """Make the layers whose names match recompute their activations; the results stay the same, bit for bit.

    Args:
        task: The task; its layers are named as in a checkpoint, with or without `model.` at the front.
        patterns: Patterns of layer names, such as `encoder.blocks.*`. Of nested matches, the outermost is used.

    Returns:
        Names of the layers that recompute.

    Raises:
        ValueError: If a pattern matches no layer; the message lists repeated layers.
    """
    names = [name for name, _ in task.named_sublayers()]
    for pattern in patterns:
        if not any(matches(name, pattern) for name in names):
            repeated = sorted({name.rsplit(".", 1)[0] + ".*" for name in names if name.rsplit(".", 1)[-1] == "0"})
            raise ValueError(
                f"DistributedStrategy.recompute: {pattern!r} matches no layer; repeated layers are "
                f"{', '.join(repeated) or 'none'}"
            )
    chosen: List[str] = []
    for name, layer in task.named_sublayers():
        inside = any(name.startswith(f"{outer}.") for outer in chosen)
        if not inside and any(matches(name, pattern) for pattern in patterns):
            layer.forward = _recomputing(layer, layer.forward)
            chosen.append(name)
    return chosen


def matches(name: str, pattern: str) -> bool:
    """Return whether a name matches; `*` stands for one part of it: `blocks.*` matches the blocks, not their layers."""
    for whole in (pattern, f"model.{pattern}"):
        parts, wanted = name.split("."), whole.split(".")
        if len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted)):
            return True
    return False


def _recomputing(layer: nn.Layer, forward: Callable[..., Any]) -> Callable[..., Any]:
    def call(*inputs: Any) -> Any:
        learns = paddle.is_grad_enabled() and any(isinstance(i, paddle.Tensor) and not i.stop_gradient for i in inputs)
        if not (layer.training and learns):
            return forward(*inputs)
        return distributed.recompute(forward, *inputs)

    return call
