import math

import numpy as np
import pytest

from plsc.masking import BlockMask, RandomMask


@pytest.mark.parametrize(
    "masks",
    [
        BlockMask(14, 75), BlockMask((14, 14), 98), BlockMask((6, 20), 50, min_block=4), BlockMask(4, 15, min_block=1),
        RandomMask(8, 40), RandomMask((3, 5), ratio=0.5),
    ],
)  # fmt: skip
def test_every_mask_has_the_same_number_of_patches(masks):
    drawn = [masks(np.random.default_rng(seed)) for seed in range(50)]
    assert all(mask.shape == masks.grid and mask.dtype == bool and mask.sum() == masks.num_masked for mask in drawn)
    assert len({mask.tobytes() for mask in drawn}) > 5


@pytest.mark.parametrize("masks", [BlockMask(14, 75), RandomMask(14, 75)])
def test_a_mask_is_a_function_of_its_generator(masks):
    first, again, other = (masks(np.random.default_rng([seed, 1])) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_block_masks_are_clustered():
    def neighbours(mask):
        return (mask[1:] & mask[:-1]).sum() + (mask[:, 1:] & mask[:, :-1]).sum()

    rng = np.random.default_rng(0)
    block = np.mean([neighbours(BlockMask(14, 75)(rng)) for _ in range(50)])
    single = np.mean([neighbours(RandomMask(14, 75)(rng)) for _ in range(50)])
    assert block > 1.5 * single


def test_a_ratio_is_rounded_down():
    assert RandomMask(14, ratio=0.4).num_masked == 78


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BlockMask(4, 16), "num_masked must be between 1 and 15 for a grid of 4 x 4"),
        (lambda: RandomMask(4, 0), "num_masked must be between 1 and 15"),
        (lambda: BlockMask(14, 10, min_block=16), r"min_block must be in \[1, num_masked=10\], got 16"),
        (lambda: BlockMask(14, 75, max_block=4), "max_block must be at least min_block=16"),
        (
            lambda: BlockMask(14, 75, min_aspect=0),
            r"needs 0 < min_aspect <= max_aspect \(null: 1 / min_aspect\), got 0 and None",
        ),
        (lambda: BlockMask(14, 75, min_aspect=1e-4), r"max_aspect must be in \[1 / 1000, 1000\], got 0.0001 and None"),
        (lambda: BlockMask(14, 75, max_aspect=math.inf), r"max_aspect must be in \[1 / 1000, 1000\], got 0.3 and inf"),
        (lambda: RandomMask(4), "either num_masked or ratio"),
        (lambda: RandomMask(4, 3, 0.5), "either num_masked or ratio"),
        (lambda: RandomMask(4, ratio=1.5), "ratio must be between 0 and 1"),
        (lambda: RandomMask(0, 1), "sides of the grid must be positive"),
    ],
)
def test_invalid_masks_are_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
