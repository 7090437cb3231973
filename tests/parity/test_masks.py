"""Mask statistics of the reference: exact counts, marginals within sampling error."""

import numpy as np
import pytest

from plsc.masking import BlockMask, RandomMask
from tests.parity import fixtures

DRAWS = 6000


def generator(args):
    if args["type"] == "random":
        return RandomMask(tuple(args["input_size"]), ratio=args["ratio_masking_patches"])
    return BlockMask(
        tuple(args["input_size"]),
        args["num_masking_patches"],
        min_block=args["min_num_patches"],
        max_block=args.get("max_num_patches"),
    )


@pytest.mark.parametrize(
    "case", fixtures.recorded("mask_stats.json", lambda cases: ((f"{i}", case) for i, case in enumerate(cases)))
)
def test_counts_and_marginals(case):
    masks = generator(case["args"])
    drawn = np.stack([masks(np.random.default_rng(seed)) for seed in range(DRAWS)])
    counts = {str(n): int((drawn.sum(axis=(1, 2)) == n).sum()) for n in np.unique(drawn.sum(axis=(1, 2)))}
    assert set(counts) == set(case["stats"]["counts_per_draw"])
    reference = np.array(case["stats"]["marginal_frequency"])
    deviation = np.sqrt(reference * (1 - reference) * (1 / DRAWS + 1 / case["stats"]["draws"]))
    assert (np.abs(drawn.mean(axis=0) - reference) <= 5 * deviation).all()
