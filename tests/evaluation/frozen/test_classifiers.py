"""k-NN, linear and attentive classifiers on features whose classes are known."""

import numpy as np
import paddle
import pytest

from plsc.evaluation.frozen.attentive import predict_attentive, train_attentive
from plsc.evaluation.frozen.features import standardised
from plsc.evaluation.frozen.knn import knn_predict
from plsc.evaluation.frozen.linear import predict_linear, train_linear
from plsc.models.heads import AttentiveHead


def blobs(count=120, width=8, classes=3, seed=0, apart=3.0):
    rng = np.random.default_rng(0)
    centres = rng.normal(0, apart, (classes, width))
    labels = np.arange(count) % classes
    noise = np.random.default_rng(seed).normal(size=(count, width))
    return (centres[labels] + noise).astype(np.float32), labels


def test_nearest_neighbors_by_hand():
    train = np.array([[1.0, 0], [0.9, 0.1], [0, 1], [0.1, 0.9], [0.2, 0.8]])
    labels = np.array([0, 0, 1, 1, 1])
    assert knn_predict(train, labels, np.array([[2.0, 0.1], [0, 7]]), k=1).tolist() == [0, 1]
    # with k = 5, the two near images outweigh the three far ones only at a low temperature
    near = np.array([[1.0, 0.6]])
    assert knn_predict(train, labels, near, k=5, temperature=0.02).tolist() == [0]
    assert knn_predict(train, labels, near, k=5, temperature=10.0).tolist() == [1]


def test_neighbors_do_not_depend_on_the_length_of_features():
    train, labels = blobs()
    test, _ = blobs(seed=1)
    scaled = test * np.random.default_rng(2).uniform(0.1, 10, (len(test), 1))
    np.testing.assert_array_equal(knn_predict(train, labels, test, 5), knn_predict(train, labels, scaled, 5))


@pytest.mark.parametrize("k", [0, 121])
def test_k_out_of_range(k):
    with pytest.raises(ValueError, match=f"k must be between 1 and the 120 training images, got {k}"):
        knn_predict(*blobs(), blobs()[0], k)


def test_temperature_out_of_range():
    with pytest.raises(ValueError, match="temperature must be above 0"):
        knn_predict(*blobs(), blobs()[0], 3, temperature=0)


def test_learning_rates_train_independent_classifiers():
    x, labels = blobs()
    test, wanted = blobs(seed=1)
    x, test = standardised(x, test)
    weights = train_linear(x, labels, [1e-6, 0.1], 3, epochs=20, batch_size=32)
    alone = train_linear(x, labels, [0.1], 3, epochs=20, batch_size=32)
    np.testing.assert_allclose(weights[1], alone[0], atol=1e-5)
    slow, fast = (predict_linear(weights, test) == wanted).mean(axis=1)
    assert fast > 0.95 and np.abs(weights[0]).max() < 1e-2 and slow <= fast


def test_a_linear_classifier_is_logistic_regression():
    """At convergence the gradient vanishes: predicted and true class means of the features agree."""
    x, labels = blobs(apart=0.7)
    (x,) = standardised(x)
    weights = train_linear(x, labels, [0.5], 3, epochs=400, batch_size=120)[0]
    logits = x @ weights[:-1] + weights[-1]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(x.T @ (shares - np.eye(3)[labels]) / len(x), 0, atol=2e-3)


def test_an_attentive_head_finds_the_informative_token():
    rng = np.random.default_rng(0)
    labels = np.arange(96) % 2
    tokens = rng.normal(size=(96, 5, 8)).astype(np.float32)
    place = rng.integers(0, 5, 96)
    tokens[np.arange(96), place] = 0.3 * rng.normal(size=(96, 8)) + 6 * np.eye(8)[labels]
    paddle.seed(0)
    head = AttentiveHead(8, 2, num_heads=2)
    train_attentive(head, tokens[:64], labels[:64], 1e-2, epochs=40, batch_size=32)
    assert (predict_attentive(head, tokens[64:]) == labels[64:]).mean() > 0.9


def test_attentive_training_is_a_function_of_its_seed():
    tokens, labels = np.random.default_rng(0).normal(size=(32, 3, 4)).astype(np.float32), np.arange(32) % 2
    found = []
    for seed in (0, 0, 1):
        paddle.seed(0)
        head = AttentiveHead(4, 2, num_heads=1)
        train_attentive(head, tokens, labels, 1e-2, epochs=2, batch_size=8, seed=seed)
        found.append(head.linear.weight.numpy())
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 0
