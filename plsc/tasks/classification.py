"""Supervised training: fine-tuning, probing a frozen encoder, training from scratch."""

from typing import Any, Dict

import paddle
from paddle import nn

from plsc.config.registry import TASKS
from plsc.nn.network import Network
from plsc.tasks.base import Batch, Task


@TASKS.register()
class Classification(Task):
    """Classifies images.

    Args:
        model: Takes images (B, 3, H, W), returns logits (B, C).
        loss: Takes logits and labels, int64 (B,) or soft (B, C), returns a scalar.
    """

    required_keys = ("image", "label")

    def __init__(self, model: nn.Layer, loss: Any) -> None:
        super().__init__(model)
        self.loss = loss
        if isinstance(model, Network):
            self.num_classes, self.head_names = model.num_classes, model.head_names

    def forward(self, batch: Batch) -> Dict[str, paddle.Tensor]:
        return {"loss": self.loss(self.model(batch["image"]), batch["label"])}

    def predict(self, batch: Batch) -> paddle.Tensor:
        return self.model(batch["image"])
