"""Position tables, and both kinds of tables resampled to another grid."""

import re

import numpy as np
import pytest

from plsc.nn.pos_embed import (
    relative_position_index,
    resample_pos_embed,
    resample_relative_position_table,
    sincos_2d,
)
from tests.parity import fixtures
from tests.parity.deviation import check

FAMILY = "position tables"


@pytest.mark.parametrize("path", fixtures.called("sincos.npz"))
def test_sincos_tables(path):
    _, arrays = fixtures.read(path)
    for name, expected in arrays.items():
        rows, columns, dim, bare = re.fullmatch(r"grid(\d+)x(\d+)_dim(\d+)(_nocls)?", name).groups()
        table = sincos_2d((int(rows), int(columns)), int(dim), cls_rows=0 if bare else 1, official_order=True)
        assert table.dtype == np.float32
        check(FAMILY, table, expected, 2e-7, name=name)


def grid_of(index):
    """The grid whose relative positions an index table (1 + N, 1 + N) numbers."""
    first = index[1, 1:]  # of the first patch to itself and its right neighbors: falls by one
    columns = int(np.argmin(np.append(first == first[0] - np.arange(len(first)), False)))
    return len(first) // columns, columns


def interpolation(path):
    """The arrays of a set, and its two grids."""
    _, arrays = fixtures.read(path)
    return arrays, [grid_of(arrays[f"rel_position_index_{name}"]) for name in ("src", "dst")]


@pytest.mark.parametrize("path", fixtures.called("interpolation.npz"))
def test_relative_position_index(path):
    arrays, grids = interpolation(path)
    for name, grid in zip(("src", "dst"), grids):
        np.testing.assert_array_equal(relative_position_index(grid), arrays[f"rel_position_index_{name}"])


@pytest.mark.parametrize("path", fixtures.called("interpolation.npz"))
def test_position_embedding_resampled(path):
    arrays, grids = interpolation(path)
    # the reference computes coordinates and weights in float32
    check(FAMILY, resample_pos_embed(arrays["pos_embed_src"], *grids), arrays["pos_embed_dst"], 5e-6, "resampled")


@pytest.mark.parametrize("path", fixtures.called("interpolation.npz"))
def test_relative_position_table_resampled(path):
    arrays, grids = interpolation(path)
    ours = resample_relative_position_table(arrays["rel_table_src"], *grids)
    check(FAMILY, ours, arrays["rel_table_dst"], 1e-6, "resampled")
