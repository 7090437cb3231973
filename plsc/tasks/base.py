"""What the engine knows of a method: a batch goes in, a loss comes out.

A method is one subclass of `Task` with its networks and losses beside it. The engine calls, for each optimizer step
and in this order: `prepare` and `forward` for every micro-batch, `before_step`, the optimizer, `on_step_end`.
"""

from typing import Any, Dict, Optional, Sequence, Tuple

import paddle
from paddle import nn

Batch = Dict[str, paddle.Tensor]


class Task(nn.Layer):
    """A training task: networks, losses, and what happens around an optimizer step.

    Args:
        model: The network that is trained. Its names in a checkpoint begin with `model.`.
    """

    required_keys: Tuple[str, ...] = ("image",)  # what every batch must hold

    def __init__(self, model: nn.Layer) -> None:
        super().__init__()
        self.model = model

    @property
    def encoder(self) -> nn.Layer:
        """The part that is worth keeping: what `Init` and the export transfer. By default `model.encoder`."""
        return getattr(self.model, "encoder", self.model)

    @property
    def num_classes(self) -> Optional[int]:
        """Number of classes of `predict`; None: no classes."""
        return None

    def prepare(self, batch: Batch) -> Batch:
        """Adds to a batch what needs no gradient, such as targets; called under no_grad and outside autocast."""
        return batch

    def forward(self, batch: Batch) -> Dict[str, paddle.Tensor]:
        """Computes the loss of a prepared batch.

        Returns:
            Scalars: `loss`, which is minimised, and whatever else is worth logging.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define forward(batch)")

    def predict(self, batch: Batch) -> paddle.Tensor:
        """Computes what the metrics of an evaluation compare with `batch["label"]`, such as logits (B, C)."""
        raise NotImplementedError(f"{type(self).__name__} predicts nothing; remove the section Metric")

    def on_weights_loaded(self, names: Sequence[str]) -> None:
        """Called after `Init` has filled the parameters `names`; for what has to follow them, such as a teacher."""

    def before_step(self, progress: float) -> None:
        """Called once per optimizer step, between the last backward pass and the optimizer's update.

        Args:
            progress: Share of the run that is done, in [0, 1).
        """

    def on_step_end(self, progress: float) -> None:
        """Called once per optimizer step, after the optimizer's update.

        Args:
            progress: Share of the run that is done, in (0, 1].
        """

    def pictures(self, batch: Batch) -> Dict[str, Any]:
        """Pictures of a prepared batch for people to look at: uint8 arrays (B, H, W, 3) by caption; none by default."""
        return {}

    @property
    def num_layers(self) -> Optional[int]:
        """How many depths `layer_index` tells apart; None if the model does not say."""
        return getattr(self.model, "num_layers", None)

    def layer_index(self, name: str) -> int:
        """The depth, from 0 at the input, that the parameter `name` belongs to; for layer-wise learning rates.

        Raises:
            ValueError: If the model does not order its parameters.
        """
        if not hasattr(self.model, "layer_index"):
            raise ValueError(
                f"{type(self.model).__name__} has no layer_index(name), so layer_decay cannot be used; set it to null"
            )
        return self.model.layer_index(_without_model(name))

    def lr_scale(self, name: str) -> float:
        """Factor of the learning rate of the parameter `name`: 1, unless the model says otherwise."""
        return self.model.lr_scale(_without_model(name)) if hasattr(self.model, "lr_scale") else 1.0


def _without_model(name: str) -> str:
    return name[len("model.") :] if name.startswith("model.") else name
