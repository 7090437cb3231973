"""Base class of the networks of tasks."""

from typing import Any, Optional, Sequence, Tuple

from paddle import nn

from plsc.config import contract

_CLAIMS: Tuple[str, ...] = ("encoder", "image_size", "num_classes", "head_names", "vocab_size", "num_layers")
_CLAIMS += ("layer_index", "lr_scale", "update_teacher", "reset_teacher")


class Network(nn.Layer):
    """A network with an encoder; everything else has a default.

    A task may also have a model that is a plain layer. It is then its own encoder, and the defaults below apply.

    Attributes:
        encoder: The part that is kept after training: `Init`, probes and export transfer it.
        image_size: Height and width in pixels of the images that it takes; None: any.
        num_classes: Number of classes C of its logits; None: its output is not logits of classes.
        head_names: Names of its classifiers, if its output is their logits (B, heads, C); None: one output.
        vocab_size: Width of its prediction for a masked patch: number of tokens, or values of a patch; None: unknown.
        num_layers: Number of depths that `layer_index` distinguishes; None: its parameters have no order.
    """

    _required: Tuple[str, ...] = ("encoder",)

    encoder: Any
    image_size: Optional[Tuple[int, int]] = None
    num_classes: Optional[int] = None
    head_names: Optional[Sequence[str]] = None
    vocab_size: Optional[int] = None
    num_layers: Optional[int] = None

    def layer_index(self, name: str) -> int:
        """Depth of the parameter `name`, from 0 at the input to `num_layers` - 1; for layer-wise learning rates.

        Raises:
            ValueError: If the parameters have no order; the default.
        """
        raise ValueError(
            f"{type(self).__name__} has no layer_index(name), so layer_decay cannot be used; set it to null"
        )

    def lr_scale(self, name: str) -> float:
        """Factor of the learning rate of the parameter `name`; 1 by default."""
        return 1.0

    def update_teacher(self) -> None:
        """Move the teacher towards the encoder; called once per optimizer step. Does nothing without a teacher."""

    def reset_teacher(self) -> None:
        """Make the teacher a copy of the encoder. Does nothing without a teacher."""


def check_network(model: Any) -> None:
    """Raise ValueError for a model whose members would be ignored or are missing.

    A plain layer that has a member of `Network` is refused, because this member would have no effect.
    """
    if isinstance(model, Network):
        return contract.provides(model, Network)
    if not isinstance(model, nn.Layer):
        raise ValueError(f"{type(model).__name__} is not a paddle.nn.Layer, which the model of a task must be")
    claimed = [name for name in _CLAIMS if hasattr(model, name)]
    if claimed:
        raise ValueError(
            f"{type(model).__name__} has {', '.join(claimed)}, but is not a Network: derive it from "
            "plsc.nn.network.Network; see docs/adding_a_method.md"
        )
    return None
