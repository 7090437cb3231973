"""The oracle behind `golden_tall` and `golden_wide` computes the numbers of the authors' code."""

import numpy as np
import pytest

from tests.parity import fixtures, make_golden

AUTHORS = fixtures.HERE / "golden"
COMPUTED = sorted(path for path in AUTHORS.glob("*.npz") if fixtures.read(path)[0].get("kind") in make_golden.COMPUTE)


@pytest.mark.parametrize("path", COMPUTED, ids=lambda path: path.stem)
def test_the_oracle_agrees_with_the_authors_code(path):
    config, expected = fixtures.read(path)
    found = make_golden.COMPUTE[config["kind"]](config, expected)
    assert found
    for name, value in found.items():
        if np.asarray(expected[name]).dtype.kind in "US":
            assert sorted(value) == sorted(expected[name])
            continue
        in_float32 = config["kind"] == "dalle"  # throughout; elsewhere some arrays are only stored so
        atol = 1e-5 if in_float32 else 1e-6 if expected[name].dtype == np.float32 else 2e-7
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=atol, err_msg=f"{path.stem}: {name}")


@pytest.mark.parametrize(
    ("folder", "case"), [(folder, case) for folder, cases in make_golden.SETS.items() for case in cases]
)
def test_the_sets_are_what_the_oracle_makes(folder, case):
    config, stored = fixtures.read(fixtures.HERE / folder / f"{case}.npz")
    assert config == make_golden.SETS[folder][case]
    made = make_golden.make(case, config)
    assert set(made) == set(stored)
    for name, value in made.items():
        if value.dtype.kind in "US":
            assert value.tolist() == stored[name].tolist()
        else:
            np.testing.assert_allclose(value, stored[name], rtol=1e-6, atol=1e-9, err_msg=name)
