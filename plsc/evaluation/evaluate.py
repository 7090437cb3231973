"""Evaluation: metrics of a task over a whole dataset, every image counted once."""

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Union

import numpy as np
import paddle

from plsc import distributed
from plsc.data.batch_transforms import BatchTransform
from plsc.data.loader import DataLoader
from plsc.data.pipeline import file_of
from plsc.evaluation.metrics import Metric
from plsc.nn.precision import Precision
from plsc.nn.utils import inference
from plsc.tasks.base import Batch, Task

_FEW = 2
_SHOWN = 5  # images in a message


def evaluate(
    task: Task,
    loader: Union[DataLoader, Sequence[Batch]],
    batch_transforms: Sequence[Callable[[Batch, np.random.Generator], Batch]],
    metrics: Sequence[Metric],
    precision: Precision,
    on_batch: Optional[Callable[[], None]] = None,
) -> Dict[str, float]:
    """Run `task` over `loader` in inference mode; afterwards every layer has the mode that it had before.

    Args:
        task: Its `predict` is measured; without metrics, the scalars of its `forward` are averaged over the images.
        loader: Yields each image of the dataset once, over all processes together. A list of batches is also allowed.
        batch_transforms: Transforms of `DataLoader.Eval`.
        metrics: Metrics; they are reset before and summed over the processes after the evaluation.
        precision: Autocast of the forward pass.
        on_batch: Called after each batch that every process has, by all together; may raise to end the evaluation.

    Returns:
        Values by name, with `bad_images` if some images could not be read and were left out.

    Raises:
        FloatingPointError: If outputs for some images are not finite; the images are named. All processes raise it.
    """
    reader = loader if isinstance(loader, DataLoader) else None
    finite = _FiniteOutputs()
    tracked = list(metrics) or [_Scalars()]
    rng = np.random.default_rng(0)
    for metric in tracked:
        metric.reset()
    if reader is not None:
        reader.bad_images.forget()
    shared = len(loader) if reader is None else reader.batches_of_all
    with inference(task), paddle.no_grad():
        paddle.seed(0)
        for number, batch in enumerate(loader):
            if batch:  # empty if all its images were bad and are left out
                _measure(batch, task, batch_transforms, rng, tracked, precision, finite)
            if on_batch is not None and number < shared:
                on_batch()
    left_out = 0 if reader is None else reader.bad_images.count()
    if reader is not None and left_out and left_out == len(reader.dataset):
        raise reader.bad_images.none_left(reader.bad_images.found)
    finite.check(None if reader is None else reader.dataset)
    results = _merged(_reduced(metric) for metric in tracked)
    return {**results, **({"bad_images": float(left_out)} if left_out else {})}


def _measure(
    batch: Batch,
    task: Task,
    transforms: Sequence[Any],
    rng: np.random.Generator,
    tracked: Any,
    precision: Precision,
    finite: "_FiniteOutputs",
) -> None:
    for transform in transforms:
        batch = transform(batch, rng)
    scalars = isinstance(tracked[0], _Scalars)
    if scalars:
        batch = task.prepare(batch)
    with precision.autocast():
        prediction = task(batch) if scalars else task.predict(batch)
    finite.add(prediction, batch)
    for metric in tracked:
        metric.update(prediction, batch)


@dataclass(frozen=True)
class Evaluator:
    """An evaluation that can be repeated; the arguments are those of `evaluate`."""

    task: Task
    loader: DataLoader
    batch_transforms: Sequence[BatchTransform]
    metrics: Sequence[Metric]
    precision: Precision

    def __call__(self, on_batch: Optional[Callable[[], None]] = None) -> Dict[str, float]:
        """Values by name."""
        return evaluate(self.task, self.loader, self.batch_transforms, self.metrics, self.precision, on_batch)

    def rehearse(self) -> Dict[str, float]:
        """Evaluate the first images, to find mistakes before hours of training; the values have no meaning."""
        return evaluate(self.task, [self.loader.first(_FEW)], self.batch_transforms, self.metrics, self.precision)


def _merged(results: Iterable[Dict[str, float]]) -> Dict[str, float]:
    merged: Dict[str, float] = {}
    for found in results:
        repeated = [name for name in found if name in merged]
        if repeated:
            raise ValueError(f"Metric: two of them measure {repeated[0]}; remove one, or give it another name")
        merged.update(found)
    return merged


def _reduced(metric: Any) -> Dict[str, float]:
    metric.load_sums(distributed.sum_over_processes(metric.sums()))
    return metric.compute()


class _FiniteOutputs:
    """Collects for every image if its outputs are finite, without waiting for the device."""

    def __init__(self) -> None:
        self.rows: List[paddle.Tensor] = []  # bool (B,)
        self.index: List[Optional[paddle.Tensor]] = []

    def add(self, outputs: Any, batch: Batch) -> None:
        """Add the outputs of a batch: one tensor (B, ...), or scalars by name, which count for all its images."""
        size = batch["image"].shape[0]
        for value in outputs.values() if isinstance(outputs, dict) else [outputs]:
            if not isinstance(value, paddle.Tensor) or not value.is_floating_point():
                continue
            finite = paddle.isfinite(value.astype("float32"))
            of_images = value.ndim > 0 and value.shape[0] == size
            self.rows.append(finite.reshape([size, -1]).all(axis=1) if of_images else finite.all().expand([size]))
            self.index.append(batch.get("index"))

    def check(self, dataset: Any) -> None:
        """Raise FloatingPointError in all processes if outputs are not finite in one of them."""
        names: List[str] = []
        for finite, index in zip(self.rows, self.index):
            for place in np.flatnonzero(~finite.numpy()):
                number = int(index[int(place)]) if index is not None else int(place)
                names.append((file_of(dataset, number) if dataset is not None else None) or f"image {number}")
        if not distributed.any_process(bool(names)):
            return
        everyone = distributed.gather_objects(list(dict.fromkeys(names)))
        names = [name for theirs in everyone for name in theirs]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise FloatingPointError(
            f"the network's outputs for {len(names)} images are not finite: {', '.join(names[:_SHOWN])}{more}; the "
            "weights have diverged, or values are too large for the precision: set AMP.level to O0"
        )


class _Scalars:
    """Scalars of the task, averaged over images."""

    def reset(self) -> None:
        self.names: Sequence[str] = ()
        self.totals: Any = None
        self.count = 0

    def update(self, outputs: Dict[str, paddle.Tensor], batch: Batch) -> None:
        size = batch["image"].shape[0]
        self.names = list(outputs)
        values = paddle.stack([outputs[name].astype("float32").reshape([]) for name in self.names]) * float(size)
        self.totals = values if self.totals is None else self.totals + values
        self.count += size

    def sums(self) -> np.ndarray:
        totals = self.totals.numpy().astype("float64") if self.totals is not None else np.zeros(0)
        return np.append(totals, float(self.count))

    def load_sums(self, sums: np.ndarray) -> None:
        self._mean = sums[:-1] / max(sums[-1], 1.0)

    def compute(self) -> Dict[str, float]:
        return dict(zip(self.names, map(float, self._mean)))
