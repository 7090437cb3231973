"""Metrics of an evaluation: sums on the device, which can be added over batches of any size and over processes."""

from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np
import paddle
from paddle.nn import functional as F

from plsc import checks
from plsc.config import contract
from plsc.config.registry import METRICS
from plsc.evaluation.classification import calibration_error, class_accuracy


class Metric:
    """Sums over images, divided by the number of images at the end.

    A subclass defines `terms`, the sums over the images of a batch.

    Attributes:
        names: Names of the values that it measures.
        num_classes: Number of classes of the network, for a metric that has it as an argument; else None.
    """

    _required: Tuple[str, ...] = ("terms",)

    names: Sequence[str] = ()
    num_classes: Optional[int] = None

    def bind(self, task: Any) -> None:
        """Called once, before all other methods, with the task that is measured; for metrics that depend on it."""

    @property
    def size(self) -> int:
        """Number of sums."""
        return len(self.names)

    def reset(self) -> None:
        """Set all sums to zero."""
        self._sums: Any = None
        self._count = 0
        self._totals: Optional[np.ndarray] = None

    def update(self, prediction: paddle.Tensor, batch: Mapping[str, paddle.Tensor]) -> None:
        """Add a batch of any size, without waiting for the device."""
        sums = self.terms(prediction, batch).astype("float64")  # float32 counts no further than 16.7 million
        self._sums = sums if self._sums is None else self._sums + sums
        self._count += prediction.shape[0]

    def terms(self, prediction: paddle.Tensor, batch: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
        """Compute the sums over the images of a batch, shape (size,); by default one for each name."""
        raise NotImplementedError

    def sums(self) -> np.ndarray:
        """The sums and the number of images, float64 (size + 1,), which can be added over processes."""
        sums = np.zeros(self.size) if self._sums is None else self._sums.numpy()
        return np.append(sums, float(self._count))

    def load_sums(self, sums: np.ndarray) -> None:
        """Use the sums of all processes in `compute`, until the next reset."""
        self._totals = sums

    def compute(self) -> Dict[str, float]:
        """Means over the images by name.

        Raises:
            ValueError: If no image was added.
        """
        totals, count = self.totals()
        return {name: float(total / count) for name, total in zip(self.names, totals)}

    def totals(self) -> Tuple[np.ndarray, float]:
        """The sums, float64 (size,), and the number of images.

        Raises:
            ValueError: If no image was added.
        """
        found = self.sums() if self._totals is None else self._totals
        if found[-1] == 0:
            raise ValueError("there is nothing to evaluate: DataLoader.Eval gave no image; check its dataset")
        return found[:-1], float(found[-1])


def check_metric(metric: Any) -> None:
    """Raise ValueError for a component that is not a complete `Metric`."""
    contract.derived(metric, Metric)


METRICS.require(check_metric)


@METRICS.register()
class Accuracy(Metric):
    """Percentage of images whose label is among the k highest logits: `top1`, `top5`.

    Args:
        topk: The values of k; one above the number of classes counts as all classes.
    """

    def __init__(self, topk: Sequence[int] = (1, 5)) -> None:
        if not topk or min(topk) < 1:
            raise ValueError(f"topk needs numbers of at least 1, got {list(topk)}")
        if len(set(topk)) < len(topk):
            raise ValueError(f"topk has a number twice, got {list(topk)}")
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


@METRICS.register()
class Calibration(Metric):
    """Expected calibration error in percent, the mean distance of confidence and accuracy: `ece`.

    Guo et al., arXiv 1706.04599.

    Args:
        bins: Number of bins of the confidence.
    """

    names = ("ece",)

    def __init__(self, bins: int = 15) -> None:
        checks.at_least(1, bins=bins)
        self.number = bins
        self.reset()

    @property
    def size(self) -> int:
        return 3 * self.number

    def terms(self, prediction: paddle.Tensor, batch: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
        probabilities = F.softmax(prediction.astype("float64"), axis=-1)
        confidence, chosen = probabilities.max(axis=1), probabilities.argmax(axis=1)
        place = (paddle.ceil(paddle.nan_to_num(confidence) * self.number) - 1).clip(0, self.number - 1).astype("int64")
        member = F.one_hot(place, self.number).astype("float64")  # (B, bins)
        right = (chosen == _labels(batch)).astype("float64")
        return paddle.concat([member.sum(axis=0), *(paddle.matmul(x, member) for x in (confidence, right))])

    def bins(self) -> np.ndarray:
        """Images, mean confidence and accuracy of each bin, float64 (bins, 3); see plsc.evaluation.classification."""
        count, confidence, right = self.totals()[0].reshape(3, -1)
        at_least_one = np.maximum(count, 1.0)
        return np.stack([count, confidence / at_least_one, right / at_least_one], axis=1)

    def compute(self) -> Dict[str, float]:
        return {"ece": calibration_error(self.bins())}


@METRICS.register()
class ClassAccuracy(Metric):
    """Mean accuracy of the classes in percent, whatever their numbers of images: `class_accuracy`.

    Args:
        num_classes: Number of outputs of the network.
    """

    num_classes: int
    names = ("class_accuracy",)

    def __init__(self, num_classes: int) -> None:
        checks.at_least(1, num_classes=num_classes)
        self.num_classes = num_classes
        self.reset()

    @property
    def size(self) -> int:
        return self.num_classes**2

    def terms(self, prediction: paddle.Tensor, batch: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
        if prediction.shape[1] != self.num_classes:
            raise ValueError(
                f"Metric: ClassAccuracy.num_classes is {self.num_classes}, but the network has {prediction.shape[1]} "
                f"outputs; set it to {prediction.shape[1]}"
            )
        pairs = _labels(batch) * self.num_classes + prediction.argmax(axis=1)
        return paddle.bincount(pairs, minlength=self.size)

    def matrix(self) -> np.ndarray:
        """Images by class (rows) and predicted class (columns), int64 (C, C)."""
        return self.totals()[0].reshape(self.num_classes, -1).round().astype(np.int64)

    def compute(self) -> Dict[str, float]:
        return {"class_accuracy": float(np.nanmean(class_accuracy(self.matrix())))}


def _labels(batch: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
    """Class numbers, int64 (B,).

    Raises:
        ValueError: If the batch has no labels, or has soft labels.
    """
    if "label" not in batch:
        raise ValueError("the evaluation set has no labels; use a folder with one sub-folder per class")
    label = batch["label"]
    if label.is_floating_point():
        raise ValueError(
            f"metrics need class numbers, got soft labels {list(label.shape)}; leave mixup out of DataLoader.Eval"
        )
    return label.astype("int64").flatten()


@METRICS.register()
class BestHead(Metric):
    """Accuracy in percent of the best of several classifiers, `top1`, and of each, `top1 <head>`, the best first.

    The best is chosen on the evaluated images, so its accuracy is slightly higher than on other images.
    """

    def __init__(self) -> None:
        self.reset()

    def bind(self, task: Any) -> None:
        """Take the names of the heads from the task.

        Raises:
            ValueError: If it has only one.
        """
        names = task.head_names
        if names is None:
            raise ValueError(
                f"Metric: BestHead measures models with several heads, such as LinearGrid; {type(task.model).__name__} "
                "has one, use Accuracy"
            )
        self.names = [f"top1 {name}" for name in names]

    def terms(self, prediction: paddle.Tensor, batch: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
        hits = prediction.argmax(axis=-1) == _labels(batch).unsqueeze(1)  # (B, heads)
        return 100.0 * hits.astype("float32").sum(axis=0)

    def compute(self) -> Dict[str, float]:
        found = sorted(super().compute().items(), key=lambda item: -item[1])
        return {"top1": found[0][1], **dict(found)}
