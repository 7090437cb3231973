import numpy as np
import pytest

from plsc.nn.pos_embed import (
    _spline_matrix,
    relative_position_index,
    resample_pos_embed,
    resample_relative_position_table,
    sincos_2d,
)


def test_first_half_is_the_row_second_half_the_column():
    table = sincos_2d((3, 5), 8, cls_rows=0)[0].reshape(3, 5, 8)
    assert (table[:, :, :4] == table[:, :1, :4]).all()
    assert (table[:, :, 4:] == table[:1, :, 4:]).all()
    np.testing.assert_allclose(table[2, 0, [0, 2]], [np.sin(2), np.cos(2)], rtol=1e-6)
    np.testing.assert_allclose(table[0, 4, [5, 7]], [np.sin(0.04), np.cos(0.04)], rtol=1e-6)


def test_class_rows_are_zero_and_the_table_is_float32():
    table = sincos_2d((2, 2), 4, cls_rows=2)
    assert table.shape == (1, 6, 4) and table.dtype == np.float32
    assert not table[0, :2].any()


def test_official_order_differs_only_off_the_square():
    np.testing.assert_array_equal(sincos_2d((4, 4), 8), sincos_2d((4, 4), 8, official_order=True))
    assert (sincos_2d((3, 5), 8) != sincos_2d((3, 5), 8, official_order=True)).any()


@pytest.mark.parametrize("dim", [0, 6])
def test_refuses_a_width_that_is_not_a_multiple_of_4(dim):
    with pytest.raises(ValueError, match=f"multiple of 4, got {dim}"):
        sincos_2d((2, 2), dim)


def test_relative_position_index_of_a_grid_that_is_not_square():
    index = relative_position_index((2, 3))
    assert index.shape == (7, 7) and index.dtype == np.int64
    patches = index[1:, 1:].reshape(2, 3, 2, 3)
    assert patches[0, 0, 0, 1] == patches[1, 1, 1, 2]  # one column to the right
    assert patches[0, 0, 1, 0] == patches[0, 2, 1, 2]  # one row down
    assert len(np.unique(patches)) == 3 * 5
    assert (index[0, 1:] == 15).all() and (index[1:, 0] == 16).all() and index[0, 0] == 17


def test_resampling_to_the_same_grid_changes_nothing():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(1, 1 + 12, 4)).astype(np.float32)
    np.testing.assert_array_equal(resample_pos_embed(table, (3, 4), (3, 4)), table)
    relative = rng.normal(size=(5 * 7 + 3, 2)).astype(np.float32)
    np.testing.assert_array_equal(resample_relative_position_table(relative, (3, 4), (3, 4)), relative)


def test_resampled_position_embedding_keeps_class_rows_constants_and_dtype():
    table = np.full((1, 2 + 6, 4), 3.0)
    table[0, :2] = 7.0
    resampled = resample_pos_embed(table, (2, 3), (5, 4), cls_rows=2)
    assert resampled.shape == (1, 22, 4) and resampled.dtype == np.float64
    assert (resampled[0, :2] == 7.0).all()
    np.testing.assert_allclose(resampled[0, 2:], 3.0, rtol=1e-12)


def test_rows_and_columns_are_resampled_independently():
    row, column = np.divmod(np.arange(4 * 6), 6)
    table = np.stack([row, column], axis=1)[None].astype(np.float64)
    resampled = resample_pos_embed(table, (4, 6), (8, 6), cls_rows=0)[0].reshape(8, 6, 2)
    np.testing.assert_allclose(resampled[..., 1], np.broadcast_to(np.arange(6), (8, 6)), atol=1e-12)
    assert (np.diff(resampled[:, 0, 0]) > 0).all()


def test_spline_reproduces_cubics_also_beside_the_knots():
    knots = np.array([-4.2, -2.0, -0.5, 1.0, 2.5, 6.0])
    points = np.linspace(-4.2, 6.0, 40)
    cubic = np.poly1d([0.3, -1.0, 2.0, 0.7])
    np.testing.assert_allclose(_spline_matrix(knots, points) @ cubic(knots), cubic(points), atol=1e-10)
    few = knots[:3]
    square = np.poly1d([1.0, -2.0, 3.0])
    inside = np.linspace(few[0], few[-1], 9)
    np.testing.assert_allclose(_spline_matrix(few, inside) @ square(few), square(inside), atol=1e-10)


def test_spline_is_constant_beyond_the_outer_knots():
    knots = np.arange(6.0)
    values = np.random.default_rng(0).normal(size=6)
    np.testing.assert_allclose(_spline_matrix(knots, np.array([-3.0, 9.0])) @ values, values[[0, -1]], atol=1e-12)


@pytest.mark.parametrize("source, target", [((4, 4), (7, 7)), ((14, 14), (24, 24)), ((7, 7), (4, 4)), ((4, 6), (6, 5))])
def test_resampled_relative_table_equals_scipy(source, target):
    interpolate = pytest.importorskip("scipy.interpolate", reason="scipy is not installed")
    from plsc.nn.pos_embed import _geometric_offsets

    sizes = [2 * length - 1 for length in source]
    table = np.random.default_rng(0).normal(size=(sizes[0] * sizes[1] + 3, 2))
    resampled = resample_relative_position_table(table, source, target)
    rows, columns = (_geometric_offsets(s // 2, t - 1) for s, t in zip(sizes, target))
    wanted = [np.arange(1 - t, t, dtype=float) for t in target]
    for head in range(2):
        spline = interpolate.RectBivariateSpline(rows, columns, table[:-3, head].reshape(sizes), kx=3, ky=3, s=0)
        np.testing.assert_allclose(resampled[:-3, head], spline(*wanted).ravel(), atol=1e-9)
    np.testing.assert_array_equal(resampled[-3:], table[-3:])


def test_refuses_tables_of_another_grid():
    with pytest.raises(ValueError, match=r"a position table of grid \(3, 3\) with 1 class rows has shape \(1, 10, D\)"):
        resample_pos_embed(np.zeros((1, 17, 4)), (3, 3), (4, 4))
    with pytest.raises(ValueError, match=r"a relative position table of grid \(3, 3\) has 28 rows"):
        resample_relative_position_table(np.zeros((52, 4)), (3, 3), (4, 4))
