"""Measures of features without labels, which detect collapse."""

import numpy as np


def rankme(features: np.ndarray, epsilon: float = 1e-7) -> float:
    """Effective rank of features: exp of the entropy of their singular values.

    Garrido et al., arXiv 2210.02885, equation 3. Between 1 (all features on one line) and min(N, D): compare only
    values for the same N.

    Args:
        features: Float (N, D).
        epsilon: Added to each normalized singular value.
    """
    values = np.linalg.svd(features.astype(np.float64), compute_uv=False)
    total = values.sum()
    if total == 0:
        return 1.0
    shares = values / total + epsilon
    return float(np.exp(-(shares * np.log(shares)).sum()))


def feature_deviation(features: np.ndarray) -> float:
    """Mean deviation over images of the channels of normalized features, times sqrt(D).

    Chen and He, arXiv 2011.10566, section 4.1: about 1 for features spread evenly on the sphere, 0 if all are
    equal. A large common part also makes it small, although it is harmless.

    Args:
        features: Float (N, D).
    """
    lengths = np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return float((features / lengths).std(axis=0).mean() * np.sqrt(features.shape[1]))
