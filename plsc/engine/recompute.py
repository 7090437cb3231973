"""Layers that keep their input only and compute the rest again in the backward pass: less memory, a third more work."""

from fnmatch import fnmatchcase
from typing import Any, Callable, List, Sequence

import paddle
from paddle import nn

from plsc import distributed


def apply_recompute(task: nn.Layer, patterns: Sequence[str]) -> List[str]:
    """Makes the layers whose names match recompute their activations; the numbers stay the same, bit for bit.

    Args:
        task: Its layers are named as in a checkpoint; `model.` at the front may be left out.
        patterns: Such as `encoder.blocks.*`. Of nested layers that match, the outermost is taken.

    Returns:
        Names of the layers.

    Raises:
        ValueError: If a pattern matches no layer; with what there is.
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
    """A `*` stands for one part of the name, so that `blocks.*` means the blocks and not what is in them."""
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
