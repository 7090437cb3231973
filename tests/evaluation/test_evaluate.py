import numpy as np
import paddle
import pytest
from paddle import nn

from plsc.config.settings import AMP
from plsc.data.bad_images import BadImages
from plsc.data.loader import DataLoader
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


class Batches(DataLoader):
    """A loader over given batches, of which every process has the first `shared`."""

    def __init__(self, batches, shared):
        self.batches, self.shared = batches, shared
        self.dataset, self.bad_images = [], BadImages()

    batches_of_all = property(lambda self: self.shared)

    def __iter__(self):
        return iter(self.batches)


def batches(images, labels, sizes):
    found, start = [], 0
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


def test_every_layer_keeps_its_mode_even_after_an_interruption(data):
    def stop():
        raise KeyboardInterrupt

    for modes in ((True, True), (True, False), (False, False)):
        task = Fixed()
        task.training, task.model[1].training = modes
        evaluate(task, batches(*data, [50, 53]), [], [Accuracy()], Precision(AMP()))
        assert (task.training, task.model[1].training) == modes
        with pytest.raises(KeyboardInterrupt):
            evaluate(task, batches(*data, [50, 53]), [], [Accuracy()], Precision(AMP()), stop)
        assert (task.training, task.model[1].training) == modes


def test_processes_synchronize_only_after_common_batches(data):
    calls = []

    loader = Batches(batches(*data, [50, 50, 3]), shared=2)  # another process has no third batch
    evaluate(Fixed(), loader, [], [Accuracy()], Precision(AMP()), lambda: calls.append(1))
    assert len(calls) == 2


def test_an_empty_set_and_missing_labels_are_errors(data):
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluate(Fixed(), [], [], [Accuracy()], Precision(AMP()))
    unlabelled = [{"image": paddle.to_tensor(data[0])}]
    with pytest.raises(ValueError, match="no labels"):
        evaluate(Fixed(), unlabelled, [], [Accuracy()], Precision(AMP()))
