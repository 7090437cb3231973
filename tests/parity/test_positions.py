"""Position tables, and both kinds of tables resampled to another grid."""

import re

import numpy as np

from plsc.nn.pos_embed import (
    relative_position_index,
    resample_pos_embed,
    resample_relative_position_table,
    sincos_2d,
)
from tests.parity import fixtures
from tests.parity.deviation import check

FAMILY = "position tables"


def test_sincos_tables():
    _, arrays = fixtures.read(fixtures.named("sincos.npz"))
    for name, expected in arrays.items():
        rows, columns, dim, bare = re.fullmatch(r"grid(\d+)x(\d+)_dim(\d+)(_nocls)?", name).groups()
        table = sincos_2d((int(rows), int(columns)), int(dim), cls_rows=0 if bare else 1, official_order=True)
        assert table.dtype == np.float32
        check(FAMILY, table, expected, 2e-7, name=name)


def square_grid(tokens):
    side = round(tokens**0.5)
    assert side * side == tokens
    return side, side


def test_relative_position_index():
    _, arrays = fixtures.read(fixtures.named("interpolation.npz"))
    for name in ("src", "dst"):
        expected = arrays[f"rel_position_index_{name}"]
        np.testing.assert_array_equal(relative_position_index(square_grid(len(expected) - 1)), expected)


def test_position_embedding_resampled():
    _, arrays = fixtures.read(fixtures.named("interpolation.npz"))
    source, expected = arrays["pos_embed_src"], arrays["pos_embed_dst"]
    grids = (square_grid(table.shape[1] - 1) for table in (source, expected))
    # the reference computes coordinates and weights in float32
    check(FAMILY, resample_pos_embed(source, *grids), expected, 5e-6, "resampled")


def test_relative_position_table_resampled():
    _, arrays = fixtures.read(fixtures.named("interpolation.npz"))
    source, expected = arrays["rel_table_src"], arrays["rel_table_dst"]
    grids = (square_grid(len(arrays[f"rel_position_index_{name}"]) - 1) for name in ("src", "dst"))
    check(FAMILY, resample_relative_position_table(source, *grids), expected, 1e-6, "resampled")
