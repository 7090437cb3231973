"""Metrics of an evaluation. Each is a few sums on the device, so that batches of any size and ranks can be added up."""

from typing import Any, Dict, Mapping, Optional, Sequence

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
        self._totals: Optional[np.ndarray] = None

    def update(self, prediction: paddle.Tensor, batch: Mapping[str, paddle.Tensor]) -> None:
        """Adds a batch of any size, without waiting for the device."""
        sums = self.terms(prediction, batch).astype("float64")  # float32 counts no further than 16.7 million
        self._sums = sums if self._sums is None else self._sums + sums
        self._count += prediction.shape[0]

    def terms(self, prediction: paddle.Tensor, batch: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
        """One sum over the images of the batch for each name, shape (len(names),)."""
        raise NotImplementedError

    def sums(self) -> np.ndarray:
        """The sums and the number of images, float64 (len(names) + 1,); of several ranks they add up."""
        sums = np.zeros(len(self.names)) if self._sums is None else self._sums.numpy()
        return np.append(sums, float(self._count))

    def load_sums(self, sums: np.ndarray) -> None:
        """Takes the sums of all ranks for `compute`, until the next reset."""
        self._totals = sums

    def compute(self) -> Dict[str, float]:
        """Means over the images by name.

        Raises:
            ValueError: If there was no image.
        """
        *totals, count = self.sums() if self._totals is None else self._totals
        if count == 0:
            raise ValueError("there is nothing to evaluate: DataLoader.Eval gave no image; check its dataset")
        return {name: float(total / count) for name, total in zip(self.names, totals)}


@METRICS.register()
class Accuracy(Metric):
    """Share of images, in percent, whose label is among the k highest logits: `top1`, `top5`.

    Args:
        topk: The k; one above the number of classes counts as all of them.
    """

    def __init__(self, topk: Sequence[int] = (1, 5)) -> None:
        if not topk or min(topk) < 1:
            raise ValueError(f"Metric: Accuracy.topk needs numbers of at least 1, got {list(topk)}")
        self.topk = list(topk)
        self.names = [f"top{k}" for k in self.topk]
        self.reset()

    def terms(self, prediction: paddle.Tensor, batch: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
        most = min(max(self.topk), prediction.shape[1])
        _, best = prediction.topk(most, axis=1)  # (B, k)
        hits = (best == _labels(batch).unsqueeze(1)).astype("float32")
        return paddle.stack([hits[:, :k].sum() for k in self.topk]) * 100.0


@METRICS.register()
class CrossEntropyMetric(Metric):
    """Mean cross-entropy of the logits with the labels, in nats: `loss`."""

    names = ("loss",)

    def __init__(self) -> None:
        self.reset()

    def terms(self, prediction: paddle.Tensor, batch: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
        logits = prediction if prediction.dtype == paddle.float64 else prediction.astype("float32")
        return F.cross_entropy(logits, _labels(batch), reduction="sum").reshape([1])


def _labels(batch: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
    """Class numbers, int64 (B,).

    Raises:
        ValueError: If the batch has none, or has a distribution over classes instead.
    """
    if "label" not in batch:
        raise ValueError("the evaluation set has no labels; use a folder with one sub-folder per class")
    label = batch["label"]
    if label.is_floating_point():
        raise ValueError(
            f"metrics need class numbers, got soft labels {list(label.shape)}; leave mixup out of DataLoader.Eval"
        )
    return label.astype("int64").flatten()
