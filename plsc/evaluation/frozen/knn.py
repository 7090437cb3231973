"""Classification by nearest neighbours."""

import numpy as np

_CHUNK = 1024


def knn_predict(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, k: int, temperature: float = 0.07
) -> np.ndarray:
    """Predict classes by a vote of the k nearest training images, weighted by exp(cosine / temperature).

    Wu et al., arXiv 1805.01978, section 3.4; Caron et al., arXiv 2104.14294, appendix F.1.

    Args:
        train: Features (N, D).
        labels: int64 (N,).
        test: Features (M, D).
        k: Number of neighbors; at most N.
        temperature: Above 0.

    Returns:
        int64 (M,).

    Raises:
        ValueError: If `k` or the temperature is out of range.
    """
    if not 1 <= k <= len(train):
        raise ValueError(f"k-NN: k must be from 1 to the {len(train)} training images, got {k}")
    if temperature <= 0:
        raise ValueError(f"k-NN: the temperature must be above 0, got {temperature}")
    train, test = _unit(train), _unit(test)
    classes = int(labels.max()) + 1
    predicted = np.empty(len(test), dtype=np.int64)
    for start in range(0, len(test), _CHUNK):
        similar = test[start : start + _CHUNK] @ train.T  # (m, N)
        nearest = np.argpartition(-similar, k - 1, axis=1)[:, :k]
        weights = np.exp((np.take_along_axis(similar, nearest, axis=1) - 1.0) / temperature)
        votes = np.zeros((len(similar), classes))
        np.add.at(votes, (np.arange(len(similar))[:, None], labels[nearest]), weights)
        predicted[start : start + _CHUNK] = votes.argmax(axis=1)
    return predicted


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
