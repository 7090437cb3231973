import numpy as np
import paddle
import pytest
from paddle import nn

from plsc.config.settings import AMP
from plsc.evaluation.evaluate import evaluate
from plsc.evaluation.metrics import Accuracy, CrossEntropyMetric
from plsc.nn.precision import Precision
from plsc.tasks.base import Task


class Fixed(Task):
    """Task that returns the images as logits."""

    def __init__(self):
        super().__init__(nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5)))

    def predict(self, batch):
        assert not self.training and not self.model[1].training
        return batch["image"]

    def forward(self, batch):
        return {"loss": batch["image"].mean(), "other": batch["image"].max()}


class Batches(list):
    """A loader of one process."""

    @property
    def batches_of_all(self):
        return len(self)


def batches(images, labels, sizes):
    found, start = Batches(), 0
    for size in sizes:
        part = slice(start, start + size)
        found.append({"image": paddle.to_tensor(images[part]), "label": paddle.to_tensor(labels[part])})
        start += size
    return found


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(103, 7)).astype("float32"), rng.integers(0, 7, 103)


@pytest.mark.parametrize("sizes", [[103], [50, 50, 3], [1] * 103])
def test_every_image_counts_once_whatever_the_batches(data, sizes):
    images, labels = data
    metrics = [Accuracy(topk=[1, 5]), CrossEntropyMetric()]
    results = evaluate(Fixed(), batches(images, labels, sizes), [], metrics, Precision(AMP()))
    order = np.argsort(-images, axis=1)
    assert results["top1"] == pytest.approx(100 * np.mean(order[:, 0] == labels), abs=1e-4)
    assert results["top5"] == pytest.approx(100 * np.mean((order[:, :5] == labels[:, None]).any(axis=1)), abs=1e-4)
    exact = images.astype("float64")
    log_p = exact - np.log(np.exp(exact).sum(axis=1, keepdims=True))
    assert results["loss"] == pytest.approx(-log_p[np.arange(103), labels].mean(), abs=1e-5)


def test_without_metrics_the_scalars_of_the_task_are_averaged_over_images(data):
    images, labels = data
    results = evaluate(Fixed(), batches(images, labels, [100, 3]), [], [], Precision(AMP()))
    assert results["loss"] == pytest.approx(images.mean(), abs=1e-5)


def test_the_task_trains_on_afterwards_and_an_interruption_leaves_it_so(data):
    task = Fixed()

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(task, batches(*data, [50, 53]), [], [Accuracy()], Precision(AMP()), stop)
    assert task.training and task.model[1].training


def test_processes_synchronize_only_after_common_batches(data):
    calls = []

    class Uneven(Batches):
        batches_of_all = 2  # another process has no third batch, and would not answer

    loader = Uneven(batches(*data, [50, 50, 3]))
    evaluate(Fixed(), loader, [], [Accuracy()], Precision(AMP()), lambda: calls.append(1))
    assert len(calls) == 2


def test_an_empty_set_and_missing_labels_are_errors(data):
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluate(Fixed(), [], [], [Accuracy()], Precision(AMP()))
    unlabelled = [{"image": paddle.to_tensor(data[0])}]
    with pytest.raises(ValueError, match="no labels"):
        evaluate(Fixed(), unlabelled, [], [Accuracy()], Precision(AMP()))
