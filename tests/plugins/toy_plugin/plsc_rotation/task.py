"""Predicting rotations: Gidaris et al., arXiv 1803.07728."""

from typing import Dict

import paddle
from paddle import nn
from paddle.nn import functional as F

from plsc.config.registry import TASKS
from plsc.tasks import Batch, Task


@TASKS.register()
class RotationPrediction(Task):
    """Predicts by how many quarter turns an image was rotated.

    Args:
        model: Takes images (B, 3, H, W), returns logits (B, 4).
        label_smoothing: In [0, 1).
    """

    def __init__(self, model: nn.Layer, label_smoothing: float = 0.0) -> None:
        super().__init__(model)
        self.label_smoothing = label_smoothing

    def prepare(self, batch: Batch) -> Batch:
        """Every image in all four rotations, (B, 3, H, W) -> (4B, 3, H, W), and the quarter turns, (4B,)."""
        image = batch["image"]
        turned = paddle.concat([paddle.rot90(image, turns, axes=[2, 3]) for turns in range(4)])
        return {"image": turned, "turns": paddle.arange(4).repeat_interleave(image.shape[0])}

    def forward(self, batch: Batch) -> Dict[str, paddle.Tensor]:
        logits = self.model(batch["image"])
        targets = F.label_smooth(F.one_hot(batch["turns"], 4), epsilon=self.label_smoothing)
        accuracy = (logits.argmax(axis=1) == batch["turns"]).astype("float32").mean()
        return {"loss": F.cross_entropy(logits, targets, soft_label=True), "accuracy": accuracy}
