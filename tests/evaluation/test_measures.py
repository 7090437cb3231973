import numpy as np
import pytest

from plsc.evaluation.measures import feature_deviation, rankme


def on_subspace(rank, count=200, width=16):
    """Features with `rank` equal singular values."""
    rng = np.random.default_rng(0)
    left, _ = np.linalg.qr(rng.normal(size=(count, rank)))
    right, _ = np.linalg.qr(rng.normal(size=(width, rank)))
    return left @ right.T


@pytest.mark.parametrize("rank", [1, 3, 16])
def test_rankme_is_the_rank_if_all_directions_weigh_the_same(rank):
    assert rankme(on_subspace(rank)) == pytest.approx(rank, rel=1e-4)


def test_rankme_of_two_directions_by_hand():
    shares = np.array([0.8, 0.2])
    features = np.diag([8.0, 2.0])
    assert rankme(features, epsilon=0) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert rankme(3 * features) == pytest.approx(rankme(features))
    assert rankme(np.zeros((4, 4))) == 1


def test_deviation_is_one_on_the_sphere_and_zero_at_a_point():
    rng = np.random.default_rng(0)
    assert feature_deviation(rng.normal(size=(5000, 32))) == pytest.approx(1, abs=0.02)
    assert feature_deviation(np.ones((10, 1)) * rng.normal(size=32)) == pytest.approx(0, abs=1e-7)
    assert feature_deviation(rng.uniform(1, 9, (10, 1)) * rng.normal(size=32)) == pytest.approx(0, abs=1e-7)
    assert feature_deviation(rng.normal(size=(100, 32)) + 30) < 0.1
