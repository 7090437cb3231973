"""Pixel targets in every normalization."""

import re

import paddle
import pytest

from plsc.tokenizers import PixelTarget
from tests.parity import fixtures
from tests.parity.deviation import check


@pytest.mark.parametrize("path", fixtures.called("rgb_targets_derived.npz"))
@pytest.mark.parametrize("normalize", ["none", "layernorm", "patch", "channel"])
@pytest.mark.parametrize("denorm", [False, True])
def test_targets(path, normalize, denorm):
    _, arrays = fixtures.read(path)
    target = PixelTarget(int(arrays["patch_size"]), normalize, denorm)
    ours = target({"image": paddle.to_tensor(arrays["samples"].astype("float64"))}).numpy()
    check("pixel targets", ours, arrays[f"target_{normalize}_denorm{int(denorm)}"], 2e-7, name=normalize)


@pytest.mark.parametrize("path", fixtures.called("rgb_targets_derived.npz"))
def test_every_array_of_the_fixture_is_known(path):
    _, arrays = fixtures.read(path)
    known = r"samples|patch_size|target_(none|layernorm|patch|channel|channel_cfirst)_denorm[01]"
    assert all(re.fullmatch(known, name) for name in arrays)
