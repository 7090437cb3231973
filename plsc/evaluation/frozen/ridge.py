"""Linear classification in closed form: least squares on class indicators, with a penalty on the weights."""

from typing import Sequence

import numpy as np


def fit_ridge(features: np.ndarray, labels: np.ndarray, penalties: Sequence[float], classes: int) -> np.ndarray:
    """Ridge regressions of class indicators on features, one for each penalty; one decomposition serves all.

    Minimises |x W + b - y|^2 / N + penalty |W|^2 for centred x (N, D) and indicators y (N, C); the bias is not
    penalised. Nothing is iterated or drawn, so the result is a function of the data, at the cost of O(N D^2 + D^3).

    Args:
        features: Float (N, D), best standardised, so that one penalty fits all of them.
        labels: int64 (N,).
        penalties: Each above 0.
        classes: Number of classes C.

    Returns:
        Weights with the bias as last row, as `linear.predict_linear` takes them, float32 (len(penalties), D + 1, C).

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
