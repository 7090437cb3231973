import numpy as np
import pytest

from plsc.evaluation.embedding import embed


def clusters(dim=60):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, dim)) * 5
    labels = np.arange(90) % 3
    return (centres[labels] + rng.normal(size=(90, dim))).astype(np.float32), labels


@pytest.mark.parametrize("method", ["pca", "tsne", "umap"])
def test_separable_classes_stay_separate(method):
    if method == "umap":
        pytest.importorskip("umap", reason="umap-learn is not installed")
    features, labels = clusters()
    points, words = embed(features, method)
    assert points.shape == (90, 2) and points.dtype == np.float32 and words
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e9 * np.eye(90)
    assert (labels[distances.argmin(axis=1)] == labels).all()
    np.testing.assert_array_equal(points, embed(features, method)[0])  # deterministic


def test_three_points_are_enough():
    features = np.array([[0, 0, 1], [0, 1, 0], [5, 5, 5]], dtype=np.float32)
    assert embed(features, "tsne")[0].shape == (3, 2)


def test_an_unknown_method_is_an_error():
    with pytest.raises(ValueError, match="unknown embedding 'tnse'; known are: pca, tsne, umap"):
        embed(np.eye(3), "tnse")
