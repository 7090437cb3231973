"""Confusion of classes and calibration of predictions."""

from typing import Tuple

import numpy as np


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Images by class (rows) and predicted class (columns), int64 (C, C)."""
    counts = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def class_accuracy(matrix: np.ndarray) -> np.ndarray:
    """Accuracy of each class in percent, float64 (C,); NaN for a class without images."""
    counts = matrix.sum(axis=1).astype(np.float64)
    return 100.0 * np.diag(matrix) / np.where(counts > 0, counts, np.nan)


def calibration_bins(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> np.ndarray:
    """Predictions in bins of equal width of their confidence.

    Args:
        confidence: Probability of the predicted class, float (N,) in [0, 1].
        correct: True for correct predictions, bool (N,).
        bins: Number of bins; one holds confidences in (i / bins, (i + 1) / bins].

    Returns:
        Number of images, mean confidence and accuracy of each bin, float64 (bins, 3); zeros in an empty one.
    """
    place = np.clip(np.ceil(confidence.astype(np.float64) * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins).astype(np.float64)
    sums = [np.bincount(place, weights=values, minlength=bins) for values in (confidence, correct)]
    return np.stack([count, *(total / np.maximum(count, 1.0) for total in sums)], axis=1)


def calibration_error(bins: np.ndarray) -> float:
    """Expected calibration error in percent: mean distance of confidence and accuracy, weighted by images.

    Guo et al., arXiv 1706.04599, equation 3, for the bins of `calibration_bins`.
    """
    count, confidence, accuracy = bins.T
    return float(100.0 * (count * np.abs(confidence - accuracy)).sum() / max(count.sum(), 1.0))


def principal_components(features: np.ndarray, count: int = 2) -> Tuple[np.ndarray, np.ndarray]:
    """Features (N, D) along the directions of largest variance.

    Returns:
        Coordinates float32 (N, count), each direction signed so that its largest entry is positive; and the fraction of
        the variance in each.
    """
    centred = features.astype(np.float64) - features.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    count = min(count, len(values))
    vectors = vectors[:, ::-1][:, :count]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(count)])
    shares = values[::-1][:count] / max(values.sum(), 1e-30)
    return (centred @ vectors).astype(np.float32), shares
