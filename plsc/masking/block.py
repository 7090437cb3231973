"""Block masks (BEiT, arXiv 2106.08254, algorithm 1), as used by CAE."""

import math
from typing import Optional, Tuple, Union

import numpy as np

from plsc.config.registry import MASK_GENERATORS
from plsc.masking.base import MaskGenerator
from plsc.masking.grid import check_num_masked, to_grid

_TRIES = 1000
_MOST_ASPECT = 1000


@MASK_GENERATORS.register()
class BlockMask(MaskGenerator):
    """Block-wise masking: random rectangles, until exactly `num_masked` patches are masked.

    BEiT, arXiv 2106.08254, algorithm 1; reference: `masking_generator.MaskingGenerator`. The area of a rectangle is
    uniform between `min_block` and the remaining number of patches, its aspect ratio log-uniform. A rectangle that adds
    no patches, or more than remain, is drawn again.

    Args:
        grid: Patch grid: one number for a square, or (H, W).
        num_masked: Number of masked patches, in [1, H * W).
        min_block: Smallest area of a rectangle in patches; smaller ones occur only when fewer patches remain.
        max_block: Largest area; null: the remaining number of patches.
        min_aspect: Smallest height / width.
        max_aspect: Largest height / width; null: 1 / `min_aspect`.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        grid: Union[int, Tuple[int, int]],
        num_masked: int,
        min_block: int = 16,
        max_block: Optional[int] = None,
        min_aspect: float = 0.3,
        max_aspect: Optional[float] = None,
    ) -> None:
        self.grid = to_grid(grid)
        self.num_masked = check_num_masked(num_masked, self.grid)
        if not 1 <= min_block <= num_masked:
            raise ValueError(f"min_block must be in [1, num_masked={num_masked}], got {min_block}")
        if max_block is not None and max_block < min_block:
            raise ValueError(f"max_block must be at least min_block={min_block}, got {max_block}")
        if not 0 < min_aspect <= (1 / min_aspect if max_aspect is None else max_aspect):
            raise ValueError(
                f"needs 0 < min_aspect <= max_aspect (null: 1 / min_aspect), got {min_aspect} and {max_aspect}"
            )
        if min_aspect < 1 / _MOST_ASPECT or (max_aspect or 1) > _MOST_ASPECT:
            raise ValueError(
                f"min_aspect and max_aspect must be in [1 / 1000, 1000], got {min_aspect} and {max_aspect}"
            )
        self.min_block = min_block
        self.max_block = max_block or num_masked
        self.log_aspect = (math.log(min_aspect), math.log(max_aspect or 1 / min_aspect))

    def __call__(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a mask, bool (H, W), True = masked."""
        mask = np.zeros(self.grid, dtype=bool)
        remaining = self.num_masked
        while remaining > 0:
            added = self._add_rectangle(mask, min(remaining, self.max_block), rng)
            if not added:
                break
            remaining -= added
        if remaining > 0:  # no rectangle fits, with unusual settings only: add random single patches
            hidden = rng.choice(np.flatnonzero(~mask), remaining, replace=False)
            mask.reshape(-1)[hidden] = True
        return mask

    def _add_rectangle(self, mask: np.ndarray, most: int, rng: np.random.Generator) -> int:
        """Mask one rectangle that adds 1 to `most` patches; return how many it added, 0 if none was found."""
        height, width = self.grid
        for _ in range(_TRIES):
            area = self.min_block + (most - self.min_block) * rng.random()  # valid even if most < min_block
            aspect = math.exp(rng.uniform(*self.log_aspect))
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if h >= height or w >= width:
                continue
            top, left = rng.integers(0, height - h, endpoint=True), rng.integers(0, width - w, endpoint=True)
            block = mask[top : top + h, left : left + w]
            added = block.size - int(block.sum())
            if 0 < added <= most:
                block[:] = True
                return added
        return 0
