"""Checks of the numbers that methods are made with: an error names the argument, its range and the value."""

from __future__ import annotations

import math
import numbers
from typing import Any

__all__ = ["finite", "integer", "positive", "share"]


def positive(name: str, value: float) -> float:
    """Return `value` where it is > 0."""
    if not finite(name, value, "> 0") > 0.0:
        raise ValueError(f"{name}: must be a finite number > 0, got {value!r}")
    return float(value)


def share(name: str, value: float) -> float:
    """Return `value` where it is in [0, 1)."""
    if not 0.0 <= finite(name, value, "in [0, 1)") < 1.0:
        raise ValueError(f"{name}: must be a finite number in [0, 1), got {value!r}")
    return float(value)


def finite(name: str, value: Any, allowed: str) -> float:
    """Return `value` as a Python float: a NumPy scalar would change the dtype of float32 vectors."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: must be a finite number {allowed}, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name}: must be a finite number {allowed}, got {value!r}")
    return float(value)


def integer(name: str, value: Any, low: int, more: str = "") -> int:
    """Return `value` as a Python int where it is one >= `low`; `more` says what else is allowed."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}: must be an int >= {low}{more}, got {value!r}")
    if value < low:
        raise ValueError(f"{name}: must be an int >= {low}{more}, got {value!r}")
    return int(value)
