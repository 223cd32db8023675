"""Algorithm 4, lines 4-10: momentum, mix with the SGD direction, clipping and sign."""

from __future__ import annotations

from typing import NamedTuple

from mblsr1 import _array
from mblsr1._array import Array

__all__ = ["Direction", "carry", "mix"]


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
    carried: Array | None,
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
    carried : array (d,) or None
        What :func:`carry` kept of the last step, mu v + (1 - eta) s; None is zero.
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
    v = _clipped(_sum([(1.0, carried), (-eta * alpha_s, g)]), delta)  # lines 4-5
    share = mu if printed else (1.0 - eta) * mu + eta
    p = _clipped(_sum([(1.0 - eta, p_star), (share, v)]), delta)  # lines 6-7
    alone = eta == 0.0 and v is None
    return _signed(p_star * 0.0 if p is None else p, v, g, alone)


def carry(v: Array | None, s: Array, eta: float, mu: float) -> Array | None:
    """Return mu v + (1 - eta) s, all that line 4 of the next step needs of this one."""
    return None if eta == 0.0 and mu == 0.0 else _sum([(mu, v), (1.0 - eta, s)])


def _signed(p: Array, v: Array | None, g: Array, is_model_step: bool) -> Direction:
    """Lines 8-10; g'p belongs to the direction that is returned."""
    slope, norm = _array.dot(g, p), _array.norm(p)
    if slope > 0.0:
        return Direction(-p, v, -slope, norm, True, False)
    return Direction(p, v, slope, norm, False, is_model_step)


def _sum(terms: list[tuple[float, Array | None]]) -> Array | None:
    used = [(c, x) for c, x in terms if c != 0.0 and x is not None]
    if not used:
        return None
    return used[0][1] if len(used) == 1 and used[0][0] == 1.0 else _array.linear(*zip(*used, strict=True))


def _clipped(x: Array | None, delta: float) -> Array | None:
    if x is None:
        return None
    norm = _array.norm(x)
    return x * (delta / norm) if norm > delta else x
