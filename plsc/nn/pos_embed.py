"""Position tables: two-dimensional sin-cos, relative positions, and both resampled to another grid. Pure numpy."""

from typing import Tuple

import numpy as np

_TEMPERATURE = 10000.0
_CLS_ROWS = 3  # of a relative position table: class token to patch, patch to class token, class token to itself


def sincos_2d(
    grid: Tuple[int, int], dim: int, cls_rows: int = 1, official_order: bool = False
) -> np.ndarray:
    """Fixed position embedding: the first half of the channels encodes the row, the second half the column.

    Each half holds sines, then cosines (MAE has the halves the other way round). CAE,
    `modeling_cae_helper.build_2d_sincos_position_embedding`.

    Args:
        grid: Rows and columns.
        dim: Channels D, a multiple of 4.
        cls_rows: Rows of zeros before the grid, for class tokens.
        official_order: Number the positions of a grid that is not square as the authors' code does, column by
            column; on square grids it makes no difference.

    Returns:
        float32 (1, cls_rows + rows * columns, D), as the reference even in a double model.

    Raises:
        ValueError: If D is not a multiple of 4.
    """
    if dim < 4 or dim % 4:
        raise ValueError(f"sin-cos positions need a width that is a multiple of 4, got {dim}; use pos_embed: learned")
    rows, columns = grid
    frequency = np.arange(dim // 4, dtype=np.float32) / np.float32(dim // 4)
    frequency = np.float32(1.0) / np.power(np.float32(_TEMPERATURE), frequency)
    first, second = np.divmod(np.arange(rows * columns), rows if official_order else columns)
    angles = [position.astype(np.float32)[:, None] * frequency for position in (first, second)]  # (N, D / 4)
    table = np.concatenate([wave(angle) for angle in angles for wave in (np.sin, np.cos)], axis=1)
    return np.concatenate([np.zeros((cls_rows, dim), np.float32), table])[None]


def relative_position_index(grid: Tuple[int, int]) -> np.ndarray:
    """Which row of a relative position table belongs to each pair of tokens; the class token comes first (BEiT).

    Returns:
        int64 (1 + N, 1 + N), values in [0, (2 rows - 1) (2 columns - 1) + 3).
    """
    rows, columns = grid
    row, column = np.divmod(np.arange(rows * columns), columns)
    row_offset = row[:, None] - row + rows - 1
    column_offset = column[:, None] - column + columns - 1
    patch_rows = (2 * rows - 1) * (2 * columns - 1)
    index = np.empty((rows * columns + 1,) * 2, dtype=np.int64)
    index[1:, 1:] = row_offset * (2 * columns - 1) + column_offset
    index[0, :] = patch_rows
    index[:, 0] = patch_rows + 1
    index[0, 0] = patch_rows + 2
    return index


def resample_pos_embed(
    table: np.ndarray, source: Tuple[int, int], target: Tuple[int, int], cls_rows: int = 1
) -> np.ndarray:
    """Resamples a position embedding to another grid by cubic convolution; class rows are copied.

    The same as PyTorch's bicubic interpolation (a = -0.75, pixel centres, no antialiasing), which CAE uses.

    Args:
        table: (1, cls_rows + rows * columns, D).
        source: Grid of `table`.
        target: Grid wanted.
        cls_rows: Rows of the table that belong to class tokens.

    Returns:
        (1, cls_rows + target rows * target columns, D), in the dtype of `table`.

    Raises:
        ValueError: If the table has not the rows of the source grid.
    """
    if table.ndim != 3 or table.shape[1] != cls_rows + source[0] * source[1]:
        raise ValueError(
            f"a position table of grid {source} with {cls_rows} class rows has shape "
            f"(1, {cls_rows + source[0] * source[1]}, D), got {table.shape}"
        )
    patches = table[0, cls_rows:].reshape(source[0], source[1], -1).astype(np.float64)
    by_row, by_column = (_bicubic_matrix(*sizes) for sizes in zip(source, target))
    patches = np.einsum("ih,hwd,jw->ijd", by_row, patches, by_column).reshape(1, -1, table.shape[2])
    return np.concatenate([table[:, :cls_rows], patches.astype(table.dtype)], axis=1)


def resample_relative_position_table(
    table: np.ndarray, source: Tuple[int, int], target: Tuple[int, int]
) -> np.ndarray:
    """Resamples a relative position table to another grid; the three rows of the class token are copied.

    BEiT's rule, which CAE uses: offsets of the source grid are laid out in geometric progression over those of the
    target, dense in the middle, and a cubic spline through them is read at the target's whole offsets.

    Args:
        table: ((2 rows - 1) (2 columns - 1) + 3, heads).
        source: Grid of `table`.
        target: Grid wanted.

    Returns:
        The table of the target grid, in the dtype of `table`.

    Raises:
        ValueError: If the table has not the rows of the source grid.
    """
    sizes, wanted = ([2 * length - 1 for length in grid] for grid in (source, target))
    if table.ndim != 2 or table.shape[0] != sizes[0] * sizes[1] + _CLS_ROWS:
        raise ValueError(
            f"a relative position table of grid {source} has {sizes[0] * sizes[1] + _CLS_ROWS} rows, got {table.shape}"
        )
    patches = table[:-_CLS_ROWS].reshape(sizes[0], sizes[1], -1).astype(np.float64)
    by_row, by_column = (_offset_matrix(*pair) for pair in zip(sizes, wanted))
    patches = np.einsum("ih,hwd,jw->ijd", by_row, patches, by_column).reshape(-1, table.shape[1])
    return np.concatenate([patches.astype(table.dtype), table[-_CLS_ROWS:]])


def _bicubic_matrix(source: int, target: int) -> np.ndarray:
    """(target, source) weights of cubic convolution along one axis."""
    if source == target:
        return np.eye(source)
    centre = (np.arange(target) + 0.5) * source / target - 0.5
    left = np.floor(centre).astype(int)
    matrix = np.zeros((target, source))
    for tap in range(-1, 3):
        weight = _cubic_kernel(np.abs(centre - left - tap))
        np.add.at(matrix, (np.arange(target), np.clip(left + tap, 0, source - 1)), weight)
    return matrix


def _cubic_kernel(distance: np.ndarray, a: float = -0.75) -> np.ndarray:
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, far)


def _offset_matrix(source: int, target: int) -> np.ndarray:
    """(target, source) weights that take a table of `source` offsets along one axis to `target` offsets."""
    if source == target:
        return np.eye(source)
    reach = target // 2
    positions = _geometric_offsets(source // 2, reach)
    return _spline_matrix(positions, np.arange(-reach, reach + 1, dtype=np.float64))


def _geometric_offsets(count: int, reach: int) -> np.ndarray:
    """`2 count + 1` positions around 0 whose gaps grow by a ratio so chosen that the last one is about `reach`."""
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        ratio = (low + high) / 2.0
        if (1 - ratio**count) / (1 - ratio) > reach:
            high = ratio
        else:
            low = ratio
    right = np.cumsum(ratio ** np.arange(count))
    return np.concatenate([-right[::-1], [0.0], right])


def _spline_matrix(knots: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(points, knots) weights of the interpolating cubic spline, constant beyond the outer knots.

    With the "not-a-knot" end conditions it equals scipy's `RectBivariateSpline(kx=3, ky=3, s=0)` along one axis;
    through fewer than five knots that is a single polynomial.
    """
    points = np.clip(points, knots[0], knots[-1])
    count = len(knots)
    if count < 5:
        others = [np.delete(knots, i) for i in range(count)]
        return np.stack([np.prod((points[:, None] - o) / (knots[i] - o), axis=1) for i, o in enumerate(others)], axis=1)
    gaps = np.diff(knots)
    curvature = np.linalg.solve(*_spline_equations(gaps))  # (knots, knots): second derivatives per unit value
    segment = np.clip(np.searchsorted(knots, points, side="right") - 1, 0, count - 2)
    gap = gaps[segment][:, None]
    right = (points - knots[segment])[:, None] / gap  # position within the segment, in [0, 1]
    left = 1.0 - right
    values = np.eye(count)
    bend = (left**3 - left) * curvature[segment] + (right**3 - right) * curvature[segment + 1]
    return left * values[segment] + right * values[segment + 1] + bend * gap**2 / 6.0


def _spline_equations(gaps: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Equations for the second derivatives at the knots: continuous slopes inside, "not-a-knot" at both ends."""
    count = len(gaps) + 1
    system, values = np.zeros((count, count)), np.zeros((count, count))
    for i in range(1, count - 1):
        before, after = gaps[i - 1], gaps[i]
        system[i, i - 1 : i + 2] = before, 2 * (before + after), after
        values[i, i - 1 : i + 2] = 6 / before, -6 / before - 6 / after, 6 / after
    system[0, :3] = gaps[1], -gaps[0] - gaps[1], gaps[0]
    system[-1, -3:] = gaps[-1], -gaps[-2] - gaps[-1], gaps[-2]
    return system, values
