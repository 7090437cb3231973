"""The protocols choose on training images and look at the test images once."""

import numpy as np
import pytest

from plsc.evaluation.frozen import protocols
from plsc.evaluation.frozen.features import Features
from plsc.evaluation.frozen.protocols import Settings, evaluate_frozen, table

FEW = Settings(epochs=24)


def toy(count=90, seed=0, tokens=True, classes=3):
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 2, (classes, 8))
    labels = np.arange(count) % classes
    rng = np.random.default_rng(seed)
    values = (centres[labels][:, None] + rng.normal(size=(count, 2, 8))).astype(np.float32)
    all_tokens = np.repeat(values[:, -1:], 3, axis=1)
    return Features(labels, values, values + 0.1, all_tokens if tokens else all_tokens[:, :0])


def test_every_protocol_learns_and_says_what_it_chose():
    results = evaluate_frozen(toy(count=900), toy(seed=1), protocols.PROTOCOLS, FEW)
    for name in ("knn", "ridge", "linear", "attentive", "ep"):
        found = results[name]
        assert found["top1"] > 60 and found["chosen"] in found["tried"]
        assert found["validation"] == max(found["tried"].values())
    assert list(results["layers"]["tried"]) == [f"{k} of block {i}" for i in (1, 2) for k in ("cls", "mean")]
    text = table(results)
    assert "attentive" in text and "cls of block 2" in text


def test_the_test_images_do_not_decide(monkeypatch):
    """Whatever the test labels are, the same is chosen; and only the choice is ever predicted for them."""
    test = toy(seed=1)
    wrong = Features((test.labels + 1) % 3, test.cls, test.mean, test.tokens)
    first, second = (evaluate_frozen(toy(), t, ("knn", "linear"), FEW) for t in (test, wrong))
    for name in ("knn", "linear"):
        assert first[name]["tried"] == second[name]["tried"] and first[name]["chosen"] == second[name]["chosen"]
    sizes = []
    original = protocols.knn.knn_predict
    monkeypatch.setattr(protocols.knn, "knn_predict", lambda *a: sizes.append(len(a[2])) or original(*a))
    evaluate_frozen(toy(), toy(count=33, seed=1), ("knn",), FEW)
    assert sizes.count(33) == 1 and sizes.count(18) == 8


def test_without_test_images_only_the_validation_part_counts():
    results = evaluate_frozen(toy(), None, ("knn",), FEW)
    assert "top1" not in results["knn"] and results["knn"]["validation"] > 60
    assert " -  " in table(results)


def test_the_same_seed_gives_the_same_numbers():
    first, second = (evaluate_frozen(toy(), toy(seed=1), ("linear", "attentive"), FEW) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("train", "test", "protocols", "message"),
    [
        (toy(), toy(), ["kmeans"], "unknown protocol 'kmeans'; known are: knn, ridge, linear"),
        (toy(classes=2), toy(), ["knn"], "the test images have classes up to 2, the training images up to 1"),
        (toy(count=6), toy(), ["knn"], "no class has enough of the 6 training images to leave 20%"),
        (toy(tokens=False), toy(), ["ep"], "need all tokens"),
    ],
)
def test_what_cannot_be_done_is_refused(train, test, protocols, message):
    with pytest.raises(ValueError, match=message):
        evaluate_frozen(train, test, protocols, FEW)
