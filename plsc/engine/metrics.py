"""Metrics of an evaluation. Each is a few sums on the device, so that batches of any size and ranks can be added up."""

from typing import Any, Dict, Mapping, Sequence

import numpy as np
import paddle
from paddle.nn import functional as F

from plsc.registry import METRICS


class Metric:
    """Sums over images, divided by their number at the end.

    Subclasses say what is added for a batch: `terms(prediction, batch)` gives one number for each of `names`, summed
    over the images.
    """

    names: Sequence[str] = ()

    def reset(self) -> None:
        """Forgets everything."""
        self._sums: Any = None
        self._count = 0

    def update(self, prediction: paddle.Tensor, batch: Mapping[str, paddle.Tensor]) -> None:
        """Adds a batch, without waiting for the device."""
        sums = self.terms(prediction, batch)
        self._sums = sums if self._sums is None else self._sums + sums
        self._count += prediction.shape[0]

    def terms(self, prediction: paddle.Tensor, batch: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
        """One sum over the images of the batch for each name, shape (len(names),)."""
        raise NotImplementedError

    def sums(self) -> np.ndarray:
        """The sums and the number of images, float64 (len(names) + 1,); of several ranks they add up."""
        sums = np.zeros(len(self.names)) if self._sums is None else self._sums.numpy().astype("float64")
        return np.append(sums, float(self._count))

    def load_sums(self, sums: np.ndarray) -> None:
        """Takes the sums of all ranks."""
        self._totals = sums

    def compute(self) -> Dict[str, float]:
        """Means over the images by name.

        Raises:
            ValueError: If there was no image.
        """
        if self._totals[-1] == 0:
            raise ValueError("there is nothing to evaluate: DataLoader.Eval gave no image")
        return {name: float(total / self._totals[-1]) for name, total in zip(self.names, self._totals)}


@METRICS.register()
class Accuracy(Metric):
    """Share of images, in percent, whose label is among the k highest logits: `top1`, `top5`.

    Args:
        topk: The k; one above the number of classes counts as all of them.
    """

    def __init__(self, topk: Sequence[int] = (1, 5)) -> None:
        if not topk or min(topk) < 1:
            raise ValueError(f"topk needs numbers of at least 1, got {list(topk)}")
        self.topk = list(topk)
        self.names = [f"top{k}" for k in self.topk]
        self.reset()

    def terms(self, prediction: paddle.Tensor, batch: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
        most = min(max(self.topk), prediction.shape[1])
        _, best = prediction.topk(most, axis=1)  # (B, k)
        hits = (best == _labels(prediction, batch).unsqueeze(1)).astype("float32")
        return paddle.stack([hits[:, :k].sum() for k in self.topk]) * 100.0


@METRICS.register()
class CrossEntropyMetric(Metric):
    """Mean cross-entropy of the logits with the labels, in nats: `loss`."""

    names = ("loss",)

    def __init__(self) -> None:
        self.reset()

    def terms(self, prediction: paddle.Tensor, batch: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
        labels = _labels(prediction, batch)
        return F.cross_entropy(prediction.astype("float32"), labels, reduction="sum").reshape([1])


def _labels(prediction: paddle.Tensor, batch: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
    if "label" not in batch:
        raise ValueError("the evaluation set has no labels; use a folder with one sub-folder per class")
    return batch["label"]
