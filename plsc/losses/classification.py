"""Cross-entropy for classification."""

from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional as F

from plsc.config.registry import LOSSES
from plsc.losses.precision import at_least_float32


@LOSSES.register()
class CrossEntropy(nn.Layer):
    """Cross-entropy with hard or soft labels, averaged over the batch.

    Args:
        label_smoothing: Fraction of the label spread evenly over all classes, in [0, 1); applies to soft labels, too.

    Raises:
        ValueError: If `label_smoothing` is outside [0, 1).
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        self.label_smoothing = label_smoothing

    def forward(self, logits: paddle.Tensor, label: paddle.Tensor) -> paddle.Tensor:
        """Compute the loss.

        Args:
            logits: (B, C).
            label: Classes, int64 (B,), or probabilities, float (B, C).

        Returns:
            Scalar, float32 under every AMP level.

        Raises:
            ValueError: If the shapes do not fit.
        """
        soft = label.ndim == 2
        if list(label.shape) != (list(logits.shape) if soft else list(logits.shape[:1])):
            raise ValueError(
                f"labels of shape {list(label.shape)} do not fit logits of shape {list(logits.shape)}; "
                "expected classes (B,) or probabilities (B, C)"
            )
        logits = at_least_float32(logits)
        label = label.astype(logits.dtype) if soft else label
        loss = F.cross_entropy(logits, label, soft_label=soft)
        if self.label_smoothing:
            to_even = (paddle.logsumexp(logits, axis=-1) - logits.mean(axis=-1)).mean()
            loss = (1.0 - self.label_smoothing) * loss + self.label_smoothing * to_even
        return loss


@LOSSES.register()
class SumOverHeads(nn.Layer):
    """Sum of the losses of several classifiers of the same images, so that each is trained independently.

    Args:
        loss: Loss of one classifier, averaged over the batch; by default cross-entropy.
    """

    def __init__(self, loss: Any = None) -> None:
        super().__init__()
        self.loss = CrossEntropy() if loss is None else loss

    def forward(self, logits: paddle.Tensor, label: paddle.Tensor) -> paddle.Tensor:
        """Compute the loss.

        Args:
            logits: (B, heads, C).
            label: Classes, int64 (B,), or probabilities, float (B, C).

        Returns:
            Scalar, float32 under every AMP level.

        Raises:
            ValueError: If the logits do not have three axes.
        """
        if logits.ndim != 3:
            raise ValueError(
                f"SumOverHeads takes logits (images, heads, classes), as LinearGrid gives, got {list(logits.shape)}; "
                "for a single head use its loss directly"
            )
        return paddle.add_n([self.loss(logits[:, head], label) for head in range(logits.shape[1])])
