"""Position embeddings in NumPy: 2-D sin-cos tables, relative positions, and resampling to another grid."""

import math
from typing import Optional, Tuple

import numpy as np

_TEMPERATURE = 10000.0
_CLS_ROWS = 3  # of a relative position table: class token to patch, patch to class token, class token to itself


def sincos_2d(grid: Tuple[int, int], dim: int, cls_rows: int = 1, official_order: bool = False) -> np.ndarray:
    """Fixed 2-D sin-cos position embedding: the first half of the channels encodes the row, the second the column.

    Each half consists of sines, then cosines; in MAE the halves are exchanged. CAE,
    `modeling_cae_helper.build_2d_sincos_position_embedding`.

    Args:
        grid: Rows and columns.
        dim: Number of channels D, a multiple of 4.
        cls_rows: Number of zero rows before the grid, for class tokens.
        official_order: Number the positions column by column, as the authors' code does; it makes a difference only
            for grids that are not square.

    Returns:
        float32 (1, cls_rows + rows * columns, D); the reference uses float32 even in a float64 model.

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


def sincos_grid(table: np.ndarray) -> Optional[Tuple[int, int]]:
    """Infer the grid of a sin-cos table with one class row, numbered row by row.

    The authors' order of a grid (r, c) gives the table of (c, r); a table alone does not distinguish the two.

    Args:
        table: Float (1, 1 + N, D), of any precision; float32 may hold values that were rounded to 16 bits before.

    Returns:
        Rows and columns; None if it is not a sin-cos table. The cost is linear in the size of the table.
    """
    if table.ndim != 3 or table.shape[0] != 1 or table.shape[1] < 2 or table.shape[2] < 4 or table.shape[2] % 4:
        return None
    count = table.shape[1] - 1
    below_first_row = np.abs(table[0, 1:, 0]) > 0.5  # the sine of the row, 0 in the first and 0.84 in the second
    columns = int(np.argmax(below_first_row)) if below_first_row.any() else count
    if not columns or count % columns:
        return None
    grid = (count // columns, columns)
    exact = sincos_2d(grid, table.shape[2])
    return grid if np.allclose(table, exact, atol=rounding(table), rtol=0) else None


def likely_grid(
    rows: int, known: Optional[Tuple[int, int]] = None, wanted: Optional[Tuple[int, int]] = None, relative: bool = False
) -> Tuple[Optional[Tuple[int, int]], str]:
    """Guess the grid of a stored position table.

    Args:
        rows: Number of rows of the table, including those of class tokens.
        known: Grid stored in the checkpoint, or None.
        wanted: Grid of the model that will use the table.
        relative: The table holds relative position biases; otherwise one row per position.

    Returns:
        The grid and the assumption that was made (empty without one); or None and the reason.
    """

    def count(grid: Tuple[int, int]) -> int:
        return (2 * grid[0] - 1) * (2 * grid[1] - 1) + _CLS_ROWS if relative else grid[0] * grid[1] + 1

    if known is not None and count(known) == rows:
        return known, ""
    side = (math.isqrt(max(rows - _CLS_ROWS, 0)) + 1) // 2 if relative else math.isqrt(max(rows - 1, 0))
    square = (side, side) if side and count((side, side)) == rows else None
    same = wanted if wanted is not None and count(wanted) == rows else None
    if same is not None and square not in (None, same):
        return None, f"which fits both a grid of {side} x {side} and one of {same[0]} x {same[1]}"
    grid = same or square
    if grid is None:
        return None, "which does not fit a square grid, and the file does not store its grid"
    return grid, f"the file does not store its grid of positions; {grid[0]} x {grid[1]} was assumed"


def rounding(table: np.ndarray) -> float:
    """Largest rounding error of a table with values up to 1, from the precision it was stored with."""
    values = np.asarray(table)
    if values.dtype == np.float32 and not (np.ascontiguousarray(values).view(np.uint32) & 0xFFFF).any():
        return 2.0**-8  # bfloat16
    if values.dtype == np.float16 or (np.abs(values) <= 1.1).all() and (values.astype(np.float16) == values).all():
        return 2.0**-10
    return 1e-5


def index_grid(index: np.ndarray) -> Optional[Tuple[int, int]]:
    """Infer the grid of a `relative_position_index`, (1 + N, 1 + N); None if it is not the index of a grid."""
    if index.ndim != 2 or index.shape[0] != index.shape[1] or index.shape[0] < 2:
        return None
    to_first = index[1, 1].astype(np.int64) - index[1, 1:].astype(np.int64)  # 0, 1, ..., columns - 1, then a jump
    expected = np.arange(len(to_first))
    columns = int(np.argmin(to_first == expected)) if (to_first != expected).any() else len(expected)
    if not columns or len(to_first) % columns:
        return None
    grid = (len(to_first) // columns, columns)
    return grid if np.array_equal(index, relative_position_index(grid)) else None


def relative_position_index(grid: Tuple[int, int]) -> np.ndarray:
    """Row of a relative position table for each pair of tokens, the class token first (BEiT).

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
    """Resample a position embedding to another grid by cubic convolution; class rows are copied.

    Equal to PyTorch's bicubic interpolation (a = -0.75, pixel centers, no antialiasing), which CAE uses.

    Args:
        table: Position embedding, (1, cls_rows + rows * columns, D).
        source: Grid of `table`.
        target: New grid.
        cls_rows: Number of rows of class tokens.

    Returns:
        (1, cls_rows + target rows * target columns, D), in the dtype of `table`.

    Raises:
        ValueError: If the number of rows does not fit the source grid.
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


def resample_relative_position_table(table: np.ndarray, source: Tuple[int, int], target: Tuple[int, int]) -> np.ndarray:
    """Resample a relative position table to another grid; the three rows of the class token are copied.

    BEiT's rule, also used by CAE: offsets of the source grid are placed in geometric progression over those of the
    target grid, dense in the middle; a cubic spline through them is evaluated at the target's integer offsets.

    Args:
        table: Relative position table, ((2 rows - 1) (2 columns - 1) + 3, heads).
        source: Grid of `table`.
        target: New grid.

    Returns:
        Table of the target grid, in the dtype of `table`.

    Raises:
        ValueError: If the number of rows does not fit the source grid.
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
    """Weights of cubic convolution along one axis, (target, source)."""
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
    """Weights that resample `source` offsets along one axis to `target` offsets, (target, source)."""
    if source == target:
        return np.eye(source)
    reach = target // 2
    positions = _geometric_offsets(source // 2, reach)
    return _spline_matrix(positions, np.arange(-reach, reach + 1, dtype=np.float64))


def _geometric_offsets(count: int, reach: int) -> np.ndarray:
    """2 * count + 1 positions around 0 with gaps in geometric progression; the last is approximately `reach`."""
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
    """Weights of the interpolating cubic spline, constant beyond the outer knots, (points, knots).

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
