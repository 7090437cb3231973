"""Argument checks shared by mask generators."""

from typing import Tuple, Union


def to_grid(grid: Union[int, Tuple[int, int]]) -> Tuple[int, int]:
    """Return the patch grid (H, W) for one number or a pair.

    Raises:
        ValueError: If a side is not positive.
    """
    height, width = (grid, grid) if isinstance(grid, int) else grid
    if height < 1 or width < 1:
        raise ValueError(f"the sides of the grid must be positive, got {grid}")
    return height, width


def check_num_masked(num_masked: int, grid: Tuple[int, int]) -> int:
    """Return `num_masked` if it is in [1, number of patches).

    Raises:
        ValueError: If it is out of range.
    """
    patches = grid[0] * grid[1]
    if not 0 < num_masked < patches:
        raise ValueError(
            f"num_masked must be between 1 and {patches - 1} for a grid of {grid[0]} x {grid[1]} patches, "
            f"got {num_masked}"
        )
    return num_masked
