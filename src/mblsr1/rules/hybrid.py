"""Algorithm 4, lines 4-10: momentum, mix with the SGD direction, clipping and sign."""

from __future__ import annotations

from typing import NamedTuple

from mblsr1 import _array
from mblsr1._array import Array

__all__ = ["Direction", "mix"]


class Direction(NamedTuple):
    """The direction p, its momentum v (None where it is zero), g'p, ||p|| and whether its sign was turned."""

    p: Array
    v: Array | None
    slope: float
    norm: float
    flipped: bool
    is_model_step: bool


def mix(
    p_star: Array,
    g: Array,
    s: Array | None,
    v: Array | None,
    delta: float,
    *,
    eta: float,
    mu: float,
    alpha_s: float,
    printed: bool,
) -> Direction:
    """Lines 4-10: from the model's step p* to the direction of the line search.

    Parameters
    ----------
    p_star, g : array (d,)
        Minimiser of the model, batch gradient.
    s, v : array (d,) or None
        Previous step and momentum; None is zero.
    delta : float
        Radius; v and p are clipped to it, only where they exceed it (reading 2).
    eta, mu, alpha_s : float
        The paper's SGD weight, momentum and learning rate.
    printed : bool
        Line 6 as printed, p = (1 - eta) p* + mu v; else reading 1,
        p = (1 - eta)(p* + mu v) + eta v, which is SGD with momentum at eta = 1.
    """
    if eta == 0.0 and mu == 0.0:
        return _signed(p_star, None, g, True)
    v = _clipped(_add(_add(_scaled(v, mu), _scaled(g, -eta * alpha_s)), _scaled(s, 1.0 - eta)), delta)
    share = mu if printed else (1.0 - eta) * mu + eta
    if v is None or share == 0.0:
        return _signed(_clipped(p_star * (1.0 - eta), delta), v, g, eta == 0.0)
    return _signed(_clipped((1.0 - eta) * p_star + share * v, delta), v, g, False)


def _signed(p: Array, v: Array | None, g: Array, is_model_step: bool) -> Direction:
    slope = _array.dot(g, p)
    flipped = slope > 0.0
    return Direction(
        -p if flipped else p,
        v,
        -abs(slope) if flipped else slope,
        _array.norm(p),
        flipped,
        is_model_step and not flipped,
    )


def _scaled(x: Array | None, factor: float) -> Array | None:
    return None if x is None or factor == 0.0 else x * factor


def _add(a: Array | None, b: Array | None) -> Array | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def _clipped(x: Array | None, delta: float) -> Array | None:
    if x is None:
        return None
    norm = _array.norm(x)
    return x * (delta / norm) if norm > delta else x
