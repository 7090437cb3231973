"""Checks of numeric arguments of constructors, with uniform messages.

Each function takes values by the name of their argument and raises ValueError for the first one that is out of range.
NaN is out of every range.
"""

from __future__ import annotations

import math


def at_least(least: float, **values: float) -> None:
    """Raise ValueError unless every value >= least."""
    for name, value in values.items():
        if not value >= least:
            raise ValueError(f"{name} must be at least {least:g}, got {value}")


def above(limit: float, **values: float) -> None:
    """Raise ValueError unless every value > limit."""
    for name, value in values.items():
        if not value > limit:
            raise ValueError(f"{name} must be above {limit:g}, got {value}")


def share(**values: float) -> None:
    """Raise ValueError unless every value is in [0, 1]."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {value}")


def share_below_one(**values: float) -> None:
    """Raise ValueError unless every value is in [0, 1)."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be in [0, 1), got {value}")


def finite(**values: float) -> None:
    """Raise ValueError unless every value is a finite number."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}")
