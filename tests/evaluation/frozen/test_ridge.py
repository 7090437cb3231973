import numpy as np
import pytest

from plsc.evaluation.frozen.linear import predict_linear
from plsc.evaluation.frozen.ridge import fit_ridge


def data(count=50, width=4, classes=3):
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    return (rng.normal(0, 2, (classes, width))[labels] + rng.normal(size=(count, width)) + 5).astype(np.float32), labels


def test_the_weights_solve_the_normal_equations():
    x, labels = data()
    penalties = [1e-3, 0.5]
    centred, y = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64), np.eye(3)[labels]
    for weights, penalty in zip(fit_ridge(x, labels, penalties, 3), penalties):
        expected = np.linalg.solve(centred.T @ centred + 50 * penalty * np.eye(4), centred.T @ (y - y.mean(axis=0)))
        np.testing.assert_allclose(weights[:-1], expected, atol=1e-5)
        np.testing.assert_allclose((x @ weights[:-1] + weights[-1]).mean(axis=0), y.mean(axis=0), atol=1e-4)


def test_a_high_penalty_predicts_class_frequencies():
    x, labels = data()
    weights = fit_ridge(x, labels, [1e9], 3)[0]
    np.testing.assert_allclose(weights[:-1], 0, atol=1e-6)
    np.testing.assert_allclose(weights[-1], [0.34, 0.34, 0.32], atol=1e-4)


def test_separable_classes_are_separated():
    x, labels = data()
    assert (predict_linear(fit_ridge(x, labels, [1e-3], 3), x)[0] == labels).mean() > 0.9


def test_more_features_than_images():
    x = np.random.default_rng(0).normal(size=(6, 20)).astype(np.float32)
    labels = np.arange(6) % 2
    assert (predict_linear(fit_ridge(x, labels, [1e-4], 2), x)[0] == labels).all()


def test_a_penalty_must_be_positive():
    with pytest.raises(ValueError, match=r"penalties must be above 0, got \[0.1, 0.0\]"):
        fit_ridge(*data(), [0.1, 0.0], 3)
