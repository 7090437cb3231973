"""Pixel targets in every normalisation."""

import re

import paddle
import pytest

from plsc.tokenizers import PixelTarget
from tests.parity import fixtures
from tests.parity.deviation import check


@pytest.mark.parametrize("normalize", ["none", "layernorm", "patch", "channel"])
@pytest.mark.parametrize("denorm", [False, True])
def test_targets(normalize, denorm):
    _, arrays = fixtures.read(fixtures.named("rgb_targets_derived.npz"))
    target = PixelTarget(int(arrays["patch_size"]), normalize, denorm)
    ours = target({"image": paddle.to_tensor(arrays["samples"].astype("float64"))}).numpy()
    check("pixel targets", ours, arrays[f"target_{normalize}_denorm{int(denorm)}"], 2e-7, name=normalize)


def test_every_array_of_the_fixture_is_known():
    _, arrays = fixtures.read(fixtures.named("rgb_targets_derived.npz"))
    known = r"samples|patch_size|target_(none|layernorm|patch|channel|channel_cfirst)_denorm[01]"
    assert all(re.fullmatch(known, name) for name in arrays)
