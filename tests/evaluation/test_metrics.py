from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from plsc.config import registry
from plsc.evaluation.classification import calibration_bins, calibration_error, class_accuracy, confusion_matrix
from plsc.evaluation.metrics import Accuracy, BestHead, Calibration, ClassAccuracy, CrossEntropyMetric

LOGITS = np.array([[0.1, 0.9, 0.0], [0.8, 0.1, 0.3], [0.2, 0.3, 0.5], [0.6, 0.5, 0.4], [0.0, 0.2, 0.1]], "float32")
LABELS = np.array([1, 2, 2, 2, 0])  # ranks of the right class: 1, 2, 1, 3, 3


def batch(labels):
    return {"label": paddle.to_tensor(labels)}


def measure(metric, sizes=(5,)):
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        metric.update(paddle.to_tensor(LOGITS[part]), batch(LABELS[part]))
        start += size
    return metric


def cross_entropy():
    exponents = np.exp(LOGITS.astype("float64"))
    return -np.log(exponents[np.arange(5), LABELS] / exponents.sum(axis=1)).mean()


@pytest.mark.parametrize("sizes", [(5,), (2, 2, 1), (4, 1)])
def test_a_last_batch_of_another_size_counts_by_its_images(sizes):
    assert measure(Accuracy([1, 2]), sizes).compute() == pytest.approx({"top1": 40.0, "top2": 60.0})
    assert measure(CrossEntropyMetric(), sizes).compute() == pytest.approx({"loss": cross_entropy()}, rel=1e-6)


def test_top5_of_three_classes_is_all_of_them():
    metric = measure(registry.METRICS.build({"name": "Accuracy"}))
    assert metric.compute() == pytest.approx({"top1": 40.0, "top5": 100.0})


@pytest.mark.parametrize("build", [lambda: Accuracy([1]), CrossEntropyMetric])
def test_sums_of_ranks_add_up(build):
    first, second, idle = build(), build(), build()
    first.update(paddle.to_tensor(LOGITS[:3]), batch(LABELS[:3]))
    second.update(paddle.to_tensor(LOGITS[3:]), batch(LABELS[3:]))
    total = first.sums() + second.sums() + idle.sums()
    assert total.dtype == np.float64
    idle.load_sums(total)
    assert idle.compute() == pytest.approx(measure(build()).compute())


def test_reset_forgets_the_sums_of_all_ranks_too():
    metric = measure(Accuracy([1]))
    metric.load_sums(metric.sums())
    metric.reset()
    metric.update(paddle.to_tensor(LOGITS[:1]), batch(LABELS[:1]))
    assert metric.compute() == {"top1": 100.0}


def test_counts_stay_exact_over_many_images():
    metric = Accuracy([1])
    for _ in range(3):
        metric.update(paddle.to_tensor(LOGITS), batch(LABELS))
        metric._sums = metric._sums * 1e8  # float32 would lose the images of the next batch
    assert metric.sums()[0] == 200.0 * (1e24 + 1e16 + 1e8)


def test_labels_may_be_narrow_and_in_a_column():
    metric = Accuracy([1])
    metric.update(paddle.to_tensor(LOGITS), batch(LABELS.astype("int32")[:, None]))
    assert metric.compute() == pytest.approx({"top1": 40.0})


def test_float64_logits_are_compared_in_float64():
    metric = CrossEntropyMetric()
    metric.update(paddle.to_tensor(LOGITS.astype("float64")), batch(LABELS))
    assert metric.compute()["loss"] == pytest.approx(cross_entropy(), rel=1e-14)


def test_nothing_to_evaluate():
    with pytest.raises(ValueError, match="DataLoader.Eval gave no image"):
        Accuracy().compute()


def test_labels_that_do_not_fit():
    with pytest.raises(ValueError, match="has no labels; use a folder with one sub-folder per class"):
        Accuracy().update(paddle.to_tensor(LOGITS), {})
    with pytest.raises(ValueError, match=r"numbers, got soft labels \[5, 3\]; leave mixup out of DataLoader.Eval"):
        CrossEntropyMetric().update(paddle.to_tensor(LOGITS), batch(LOGITS))


@pytest.mark.parametrize("topk", [[], [0], [1, -2]])
def test_topk_out_of_range(topk):
    with pytest.raises(ValueError, match="topk needs numbers of at least 1, got"):
        Accuracy(topk)


def test_calibration_and_class_accuracy_agree_with_numpy():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 4)).astype("float32") * 2, rng.integers(0, 4, 50)
    ece, by_class = Calibration(bins=5), ClassAccuracy(num_classes=4)
    for part in (slice(0, 20), slice(20, 50)):
        batch = {"label": paddle.to_tensor(labels[part])}
        for metric in (ece, by_class):
            metric.update(paddle.to_tensor(logits[part]), batch)
    probabilities = np.exp(logits.astype("float64")) / np.exp(logits.astype("float64")).sum(axis=1, keepdims=True)
    right = probabilities.argmax(axis=1) == labels
    bins = calibration_bins(probabilities.max(axis=1), right, 5)
    assert np.allclose(ece.bins(), bins)
    assert ece.compute()["ece"] == pytest.approx(calibration_error(bins))
    matrix = confusion_matrix(labels, logits.argmax(axis=1), 4)
    assert (by_class.matrix() == matrix).all()
    assert by_class.compute()["class_accuracy"] == pytest.approx(class_accuracy(matrix).mean())


def test_sums_of_two_processes_add_up():
    metrics = [ClassAccuracy(num_classes=2), ClassAccuracy(num_classes=2), ClassAccuracy(num_classes=2)]
    logits = paddle.to_tensor([[1.0, 0.0], [0.0, 1.0]])
    for metric in metrics[:2]:  # the third has no image
        metric.update(logits, {"label": paddle.to_tensor([0, 0])})
    metrics[0].load_sums(sum(metric.sums() for metric in metrics))
    assert metrics[0].matrix().tolist() == [[2, 2], [0, 0]]


def test_mistakes_of_detailed_metrics():
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        Calibration(bins=0)
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        ClassAccuracy(num_classes=0)
    with pytest.raises(ValueError, match="ClassAccuracy.num_classes is 3, but the network has 2 outputs; set it to 2"):
        ClassAccuracy(num_classes=3).update(paddle.zeros([1, 2]), {"label": paddle.to_tensor([0])})


def heads_of(*names):
    return SimpleNamespace(head_names=list(names))


def test_the_best_of_several_heads_comes_first():
    metric = BestHead()
    metric.bind(heads_of("a", "b", "c"))
    metric.reset()
    assert metric.sums().tolist() == [0, 0, 0, 0]  # a process without images
    guesses = np.array([[0, 1, 0], [1, 1, 0], [0, 1, 1]])  # (images, heads)
    metric.update(paddle.to_tensor(np.eye(2, dtype="float32")[guesses]), {"label": paddle.to_tensor([1, 1, 1])})
    found = metric.compute()
    assert list(found) == ["top1", "top1 b", "top1 a", "top1 c"]
    assert list(found.values()) == pytest.approx([100, 100, 100 / 3, 100 / 3])


def test_a_network_with_one_head_has_no_best():
    task = SimpleNamespace(head_names=None, model=paddle.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="BestHead measures models with several heads, such as LinearGrid; Linear has"):
        BestHead().bind(task)
