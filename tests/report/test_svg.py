import math

import numpy as np
import pytest

from plsc.report import svg


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (95.04, "95.04"), (1234.6, "1,235"), (12345.6, "12,346"), (0.00012, "0.00012"), (2e9, "2e+09")],
)
def test_short_numbers(value, shown):
    assert svg.short(value) == shown


def test_a_chart_survives_what_is_not_finite_constant_or_long():
    lines = [
        svg.Series("a", [1, 2, 3], [1.0, math.nan, 2.0], 0),
        svg.Series("b", [1], [5.0], 1),
        svg.Series("c", [1, 2], [math.inf, math.nan], 8),
        svg.Series("d", range(5000), np.sin(np.arange(5000)), 9, thin=True),
    ]
    text = svg.line_chart(lines, "epoch", "a chart")
    assert "nan" not in text and "inf" not in text
    assert len(text) < 60_000
    assert "b: 5 at 1" in text and "stroke-dasharray" in text
    assert "nan" not in svg.line_chart([svg.Series("e", [1, 2], [3.0, 3.0], 0)], "epoch", "constant")


def test_a_matrix_has_counts_and_percentages():
    text = svg.matrix(np.array([[3, 1], [0, 2]]), ["cat", "a very long name"], "m")
    assert "true cat, predicted a very long name: 1 image(s) (25.0% of the class)" in text
    assert "a very lo…" in text


def test_points_of_a_class_have_the_same_color():
    text = svg.scatter(np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2, ["a", "b"], "s")
    assert text.count('class="dots"') == 2 and ">a</text>" in text
