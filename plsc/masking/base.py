"""Base class of mask generators."""

from typing import Tuple

import numpy as np

from plsc.config import contract
from plsc.config.registry import MASK_GENERATORS


class MaskGenerator:
    """Draws masks that all hide the same number of patches. A class with these members need not derive from it.

    Attributes:
        grid: Rows and columns of patches.
        num_masked: Number of masked patches in every mask.
    """

    _required = ("grid", "num_masked", "__call__")

    grid: Tuple[int, int]
    num_masked: int

    def __call__(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a mask, bool (rows, columns), True = masked."""
        raise NotImplementedError


def check_mask_generator(masks: object) -> None:
    """Raise ValueError if a mask generator lacks a member."""
    contract.provides(masks, MaskGenerator)


MASK_GENERATORS.require(check_mask_generator)
