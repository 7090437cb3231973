"""Base class of tasks. A task is a training method: a batch goes in, a loss comes out.

A method is one subclass of `Task`, with its networks and losses beside it. For each optimizer step the engine calls, in
this order: `prepare` and `forward` for every micro-batch, `before_step`, the optimizer, `on_step_end`.
"""

from typing import Any, Dict, Optional, Sequence, Tuple

import paddle
from paddle import nn

from plsc.config import contract
from plsc.config.registry import TASKS
from plsc.nn.network import Network, check_network

Batch = Dict[str, paddle.Tensor]


class Task(nn.Layer):
    """A training task: networks, losses, and the calls around an optimizer step.

    Args:
        model: The network that is trained. Its names in a checkpoint begin with `model.`.

    Attributes:
        model: The network.
        required_keys: Entries that every batch must have.
        num_classes: Number of classes of the logits that `predict` returns; None: it does not return logits.
        head_names: Names of the classifiers, if `predict` returns the logits of several, (B, heads, C); else None.

    Raises:
        ValueError: If the model is not a layer, or lacks a member of its base class.
    """

    _required: Tuple[str, ...] = ("forward",)

    model: nn.Layer
    required_keys: Tuple[str, ...] = ("image",)
    num_classes: Optional[int] = None
    head_names: Optional[Sequence[str]] = None

    def __init__(self, model: nn.Layer) -> None:
        super().__init__()
        check_network(model)
        self.model = model

    @property
    def encoder(self) -> nn.Layer:
        """The part that `Init`, probes and export transfer: `model.encoder`, or a model that is a plain layer."""
        return self.model.encoder if isinstance(self.model, Network) else self.model

    @property
    def image_size(self) -> Optional[Tuple[int, int]]:
        """Height and width in pixels of the images that the encoder, or else the model, takes; None if unknown."""
        sizes = [part.image_size for part in (self.encoder, self.model) if isinstance(part, Network)]
        return next((size for size in sizes if size is not None), None)

    def prepare(self, batch: Batch) -> Batch:
        """Add to a batch everything that needs no gradient, such as targets; called under no_grad, without autocast."""
        return batch

    def forward(self, batch: Batch) -> Dict[str, paddle.Tensor]:
        """Compute the loss of a prepared batch.

        Returns:
            Scalars: `loss`, which is minimized, and others, which are logged.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define forward(batch)")

    def predict(self, batch: Batch) -> paddle.Tensor:
        """Compute what the metrics of an evaluation compare with `batch["label"]`, such as logits (B, C)."""
        raise NotImplementedError(f"{type(self).__name__} predicts nothing; remove the section Metric")

    def on_weights_loaded(self, names: Sequence[str]) -> None:
        """Called after `Init` has filled the parameters `names`; for what depends on them, such as a teacher."""

    def before_step(self, progress: float) -> None:
        """Called once per optimizer step, between the last backward pass and the update of the optimizer.

        Args:
            progress: Fraction of the run that is done, in [0, 1).
        """

    def on_step_end(self, progress: float) -> None:
        """Called once per optimizer step, after the update of the optimizer.

        Args:
            progress: Fraction of the run that is done, in (0, 1].
        """

    def pictures(self, batch: Batch) -> Dict[str, paddle.Tensor]:
        """Tensors of a prepared batch to draw, by caption; empty by default.

        Returns:
            Images, float or uint8 (B, 3, H, W), all in the range of the first; and masks, bool (B, rows, columns),
            True = masked, which are drawn as the first image with gray patches.
        """
        return {}

    @property
    def num_layers(self) -> Optional[int]:
        """Number of depths that `layer_index` distinguishes; None if the model has no order."""
        return self.model.num_layers if isinstance(self.model, Network) else None

    def layer_index(self, name: str) -> int:
        """Depth of the parameter `name`, from 0 at the input; for layer-wise learning rates.

        Raises:
            ValueError: If the model does not order its parameters.
        """
        return _network(self.model).layer_index(_without_model(name))

    def lr_scale(self, name: str) -> float:
        """Factor of the learning rate of the parameter `name`: 1, unless the model has another."""
        return self.model.lr_scale(_without_model(name)) if isinstance(self.model, Network) else 1.0


def check_task(task: Any) -> None:
    """Raise ValueError for a component that is not a complete `Task`."""
    contract.derived(task, Task)


TASKS.require(check_task)


def _network(model: nn.Layer) -> Network:
    if not isinstance(model, Network):
        raise ValueError(
            f"{type(model).__name__} has no layer_index(name), so layer_decay cannot be used; set it to null"
        )
    return model


def _without_model(name: str) -> str:
    return name[len("model.") :] if name.startswith("model.") else name
