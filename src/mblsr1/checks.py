"""Checks of the numbers that options and methods are made with: an error names argument, range and value."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any

__all__ = ["as_float", "flag", "integer", "positive", "real", "share", "stops"]


def as_float(value: Any) -> float:
    """Return `value` as a Python float; an int that no float can hold is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def flag(name: str, value: Any) -> bool:
    """Return `value` as a Python bool where it is one, or one of NumPy's."""
    if isinstance(value, bool) or (getattr(value, "shape", None) == () and str(getattr(value, "dtype", "")) == "bool"):
        return bool(value)
    raise TypeError(f"{name}: must be True or False, got {value!r}")


def real(name: str, value: Any, allowed: str, test: Callable[[float], bool], kind: str = "a finite number") -> float:
    """Return `value` as a Python float where it passes: a NumPy scalar would change the dtype of float32 vectors.

    `allowed` says what the test demands, as in " > 0".
    """
    text = f"{name}: must be {kind}{allowed}, got {value!r}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(text)
    number = as_float(value)
    if not (math.isfinite(number) and test(number)):
        raise ValueError(text)
    return number


def positive(name: str, value: Any) -> float:
    """Return `value` where it is > 0."""
    return real(name, value, " > 0", lambda x: x > 0.0)


def share(name: str, value: Any) -> float:
    """Return `value` where it is in [0, 1)."""
    return real(name, value, " in [0, 1)", lambda x: 0.0 <= x < 1.0)


def integer(name: str, value: Any, low: int, more: str = "") -> int:
    """Return `value` as a Python int where it is one >= `low`; `more` says what else is allowed."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}: must be an int >= {low}{more}, got {value!r}")
    if value < low:
        raise ValueError(f"{name}: must be an int >= {low}{more}, got {value!r}")
    return int(value)


def stops(answer: Any) -> bool:
    """Whether what a callback returned stops the run; an array is no answer."""
    if getattr(answer, "shape", ()) != ():
        raise TypeError(f"callback: must return None or a bool, got an array of shape {tuple(answer.shape)}")
    return answer is not None and bool(answer)
