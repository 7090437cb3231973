"""Ridge classifier: regularized least squares on class indicators, in closed form."""

from typing import Sequence

import numpy as np


def fit_ridge(features: np.ndarray, labels: np.ndarray, penalties: Sequence[float], classes: int) -> np.ndarray:
    """Fit ridge regressions of class indicators on features, one per penalty, with one eigendecomposition.

    Minimizes |x W + b - y|^2 / N + penalty |W|^2 for centered x (N, D) and indicators y (N, C); the bias is not
    penalized. Deterministic; the cost is O(N D^2 + D^3).

    Args:
        features: Features, float (N, D); standardize them, so that one penalty fits all of them.
        labels: Classes, int64 (N,).
        penalties: Penalties, each above 0.
        classes: Number of classes C.

    Returns:
        Weights with the bias as last row for `linear.predict_linear`, float32 (len(penalties), D + 1, C).

    Raises:
        ValueError: If a penalty is not positive.
    """
    if min(penalties) <= 0:
        raise ValueError(f"ridge: penalties must be above 0, got {list(penalties)}")
    x, y = features.astype(np.float64), np.eye(classes)[labels]
    centre, mean = x.mean(axis=0), y.mean(axis=0)
    x = x - centre
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    target = vectors.T @ (x.T @ (y - mean)) / len(x)  # (D, C)
    found = []
    for penalty in penalties:
        weights = vectors @ (target / (np.maximum(values, 0.0) + penalty)[:, None])
        found.append(np.concatenate([weights, (mean - centre @ weights)[None]]))
    return np.stack(found).astype(np.float32)
