"""Features of many channels as points on a page."""

from typing import Callable, Dict, Tuple

import numpy as np

from plsc.evaluation.classification import principal_components

_KEPT = 50  # directions of largest variance that neighbourhoods are looked up in
_SEED = 0
Found = Tuple[np.ndarray, str]


def embed(features: np.ndarray, method: str = "tsne") -> Found:
    """Features in two dimensions.

    Args:
        features: float (N, D), N at least 3 and D at least 2.
        method: `pca`: along the two directions of largest variance; `tsne` (van der Maaten and Hinton, 2008) and `umap`
            (McInnes et al., arXiv 1802.03426): so that near neighbours stay near.

    Returns:
        Points, float32 (N, 2), and how to read them, as the end of a sentence.

    Raises:
        ValueError: If the method is unknown.
        ImportError: If what it needs is not installed.
    """
    if method not in METHODS:
        raise ValueError(f"unknown embedding {method!r}; known are: {', '.join(METHODS)}")
    points, words = METHODS[method](features)
    return points.astype(np.float32), words


def _pca(features: np.ndarray) -> Found:
    points, shares = principal_components(features)
    return points, f"along the two directions of largest variance ({shares[0]:.0%} and {shares[1]:.0%} of it)"


def _tsne(features: np.ndarray) -> Found:
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise ImportError("t-SNE needs scikit-learn; pip install scikit-learn") from None
    perplexity = min(30.0, (len(features) - 1) / 3)
    found = TSNE(2, perplexity=perplexity, init="pca", random_state=_SEED).fit_transform(_reduced(features))
    return found, f"by t-SNE (perplexity {perplexity:.3g}): neighbours are near, long distances mean little"


def _umap(features: np.ndarray) -> Found:
    try:
        from umap import UMAP
    except ImportError:
        raise ImportError("UMAP needs umap-learn; pip install umap-learn") from None
    neighbours = min(15, len(features) - 1)
    found = UMAP(n_neighbors=neighbours, random_state=_SEED, n_jobs=1).fit_transform(_reduced(features))
    return found, f"by UMAP ({neighbours} neighbours): neighbours are near, long distances mean little"


def _reduced(features: np.ndarray) -> np.ndarray:
    return principal_components(features, min(_KEPT, *features.shape))[0]


METHODS: Dict[str, Callable[[np.ndarray], Found]] = {"pca": _pca, "tsne": _tsne, "umap": _umap}
