"""Position tables: fixed sin-cos ones, relative ones, and how both are carried over to another grid. Pure numpy."""

from typing import Tuple

import numpy as np

Grid = Tuple[int, int]


def sincos_2d(grid: Grid, dim: int, cls_rows: int = 1, official_order: bool = False) -> np.ndarray:
    """Two-dimensional sin-cos positions: the first half of the channels encodes the row, the second the column.

    CAE, `build_2d_sincos_position_embedding`; the halves are the other way round than in MAE.

    Args:
        grid: (H, W) patches.
        dim: Width D, divisible by 4.
        cls_rows: Rows of zeros before the patches, for cls tokens.
        official_order: On grids that are not square, number the patches as the official code does, which is not
            row-major there. For checkpoints trained that way.

    Returns:
        float32 (cls_rows + H * W, D).

    Raises:
        ValueError: If `dim` is not divisible by 4.
    """
    if dim % 4:
        raise ValueError(f"a sin-cos table needs a width divisible by 4, got {dim}")
    height, width = grid
    row, column = np.divmod(np.arange(height * width, dtype=np.int64), height if official_order else width)
    omega = 1.0 / 10000 ** (np.arange(dim // 4, dtype=np.float32) / np.float32(dim / 4))
    halves = []
    for position in (row, column):
        angle = position.astype(np.float32)[:, None] * omega.astype(np.float32)
        halves += [np.sin(angle), np.cos(angle)]
    table = np.concatenate(halves, axis=1).astype(np.float32)
    return np.concatenate([np.zeros((cls_rows, dim), np.float32), table])


def relative_position_index(grid: Grid) -> np.ndarray:
    """Which row of a relative-position table each pair of tokens (cls first) reads.

    The table has (2H - 1)(2W - 1) rows for offsets between patches, then three: cls to patch, patch to cls, cls to
    cls (BEiT, CAE: `gen_relative_position_index`).

    Returns:
        int64 (1 + H * W, 1 + H * W).
    """
    height, width = grid
    rows, columns = np.divmod(np.arange(height * width), width)
    offset = (rows[:, None] - rows[None] + height - 1) * (2 * width - 1) + columns[:, None] - columns[None] + width - 1
    count = (2 * height - 1) * (2 * width - 1)
    index = np.zeros((height * width + 1,) * 2, dtype=np.int64)
    index[1:, 1:] = offset
    index[0, :], index[:, 0], index[0, 0] = count, count + 1, count + 2
    return index


def relative_position_rows(grid: Grid) -> int:
    """Rows of a relative-position table with its three for cls."""
    return (2 * grid[0] - 1) * (2 * grid[1] - 1) + 3


def resample_pos_embed(table: np.ndarray, old: Grid, new: Grid, cls_rows: int = 1) -> np.ndarray:
    """Carries learned positions over to another grid by bicubic interpolation, as torch does it (a = -0.75).

    Args:
        table: (cls_rows + H * W, D) of the old grid.

    Returns:
        The same dtype, (cls_rows + H' * W', D).
    """
    special, patches = table[:cls_rows], table[cls_rows:].reshape(*old, -1).astype(np.float64)
    patches = np.einsum("ih,hwd->iwd", _cubic_matrix(old[0], new[0]), patches)
    patches = np.einsum("jw,iwd->ijd", _cubic_matrix(old[1], new[1]), patches)
    return np.concatenate([special, patches.reshape(-1, table.shape[1]).astype(table.dtype)])


def _cubic_matrix(old: int, new: int, a: float = -0.75) -> np.ndarray:
    """Weights (new, old) of cubic convolution between pixel centres; borders are repeated."""
    matrix = np.zeros((new, old))
    for target in range(new):
        centre = (target + 0.5) * old / new - 0.5
        first = int(np.floor(centre)) - 1
        for source in range(first, first + 4):
            x = abs(centre - source)
            if x <= 1:
                weight = (a + 2) * x**3 - (a + 3) * x**2 + 1
            else:
                weight = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
            matrix[target, min(max(source, 0), old - 1)] += weight
    return matrix


def resample_relative_positions(table: np.ndarray, old: Grid, new: Grid) -> np.ndarray:
    """Carries a relative-position table over to another grid, as BEiT and CAE do.

    The offsets of the old grid are spread geometrically over the range of the new one, denser near zero, and a
    bicubic spline through them is read at the new offsets. The three rows for cls are kept.

    Args:
        table: (rows of the old grid, heads).

    Returns:
        The same dtype, (rows of the new grid, heads).
    """
    if old == new:
        return table
    sizes, targets = [2 * side - 1 for side in old], [2 * side - 1 for side in new]
    rows, columns = (_spline_matrix(_spread(s, t), _offsets(t)) for s, t in zip(sizes, targets))
    values = table[:-3].reshape(*sizes, -1).astype(np.float64)
    values = np.einsum("ih,jw,hwd->ijd", rows, columns, values)
    return np.concatenate([values.reshape(-1, table.shape[1]).astype(table.dtype), table[-3:]])


def _offsets(size: int) -> np.ndarray:
    return np.arange(size) - size // 2.0


def _spread(size: int, target: int) -> np.ndarray:
    """Where `size` old offsets lie among `target` new ones: a geometric progression outwards whose ends match."""
    if size == target:
        return _offsets(size)
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        ratio = (low + high) / 2.0
        reach = (1.0 - ratio ** (size // 2)) / (1.0 - ratio)
        low, high = (low, ratio) if reach > target // 2 else (ratio, high)
    steps = np.cumsum([ratio**power for power in range(size // 2)])
    return np.concatenate([-steps[::-1], [0.0], steps])


def _spline_matrix(knots: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Weights (points, knots) of the cubic spline with not-a-knot ends through values at `knots`; constant beyond."""
    if len(knots) < 4:
        raise ValueError(f"a relative-position table of {len(knots)} offsets a side is too small to resample")
    powers = _truncated_powers(knots, knots)
    return _truncated_powers(knots, points.clip(knots[0], knots[-1])) @ np.linalg.inv(powers)


def _truncated_powers(knots: np.ndarray, points: np.ndarray) -> np.ndarray:
    """A basis of those splines: cubics, and one cubic that begins at each inner knot but the second and last but one."""
    scale = np.abs(knots).max()
    x, inner = points[:, None] / scale, knots[2:-2][None] / scale
    return np.concatenate([x ** np.arange(4), np.maximum(x - inner, 0) ** 3], axis=1)
