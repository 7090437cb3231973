"""Masks of single patches."""

from typing import Optional, Tuple, Union

import numpy as np

from plsc.config.registry import MASK_GENERATORS
from plsc.masking.base import MaskGenerator
from plsc.masking.grid import check_num_masked, to_grid


@MASK_GENERATORS.register()
class RandomMask(MaskGenerator):
    """Uniform random masking of single patches.

    Args:
        grid: Patch grid: one number for a square, or (H, W).
        num_masked: Number of masked patches, in [1, H * W).
        ratio: Fraction of masked patches, rounded down as in the reference; set either this or `num_masked`.

    Raises:
        ValueError: If not exactly one of `num_masked` and `ratio` is given, or it is out of range.
    """

    def __init__(
        self, grid: Union[int, Tuple[int, int]], num_masked: Optional[int] = None, ratio: Optional[float] = None
    ) -> None:
        self.grid = to_grid(grid)
        if (num_masked is None) == (ratio is None):
            raise ValueError("give either num_masked or ratio, and set the other to null")
        if ratio is not None:
            if not 0 < ratio < 1:
                raise ValueError(f"ratio must be between 0 and 1, got {ratio}")
            num_masked = int(ratio * self.grid[0] * self.grid[1])
        self.num_masked = check_num_masked(num_masked or 0, self.grid)

    def __call__(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a mask, bool (H, W), True = masked."""
        mask = np.zeros(self.grid[0] * self.grid[1], dtype=bool)
        mask[rng.choice(mask.size, self.num_masked, replace=False)] = True
        return mask.reshape(self.grid)
