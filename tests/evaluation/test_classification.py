import numpy as np
import pytest

from plsc.evaluation.classification import (
    calibration_bins,
    calibration_error,
    class_accuracy,
    confusion_matrix,
    principal_components,
)


def test_confusions_and_class_accuracy():
    matrix = confusion_matrix(np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0]), 3)
    assert matrix.tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    accuracy = class_accuracy(matrix)
    assert accuracy[:2] == pytest.approx([50.0, 200 / 3]) and np.isnan(accuracy[2])


def test_calibration_by_hand():
    bins = calibration_bins(np.array([0.1, 0.5, 0.9, 1.0]), np.array([False, True, True, False]), bins=2)
    assert bins == pytest.approx(np.array([[2, 0.3, 0.5], [2, 0.95, 0.5]]))
    assert calibration_error(bins) == pytest.approx(100 * (2 * 0.2 + 2 * 0.45) / 4)


def test_a_calibrated_network_has_no_error():
    assert calibration_error(calibration_bins(np.full(4, 0.75), np.array([True, True, True, False]))) == 0.0


def test_principal_components_find_the_long_axis():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 3)) * [5.0, 0.1, 1.0] + 7.0
    points, shares = principal_components(x)
    assert np.abs(np.corrcoef(points[:, 0], x[:, 0])[0, 1]) > 0.999
    assert shares[0] > 0.9 and shares.sum() <= 1.0
