"""Algorithm 4, line 15: Armijo's condition by halving, on scalars alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

__all__ = ["LineSearchResult", "halving", "rounding"]

_MAX_HALVINGS = 20
#: Rounding of a loss, in eps of its size (readings 6 and 7).
_ROUNDING = 10.0


class LineSearchResult(NamedTuple):
    """The accepted alpha and the loss there; alpha is 0 where the search failed."""

    alpha: float
    f: float


def rounding(f: float, eps: float) -> float:
    """Return the change of a loss near f that says nothing: 10 eps |f| (readings 6 and 7)."""
    return _ROUNDING * eps * abs(f)


def halving(phi: Callable[[float], float], f0: float, slope: float, c1: float, eps: float) -> LineSearchResult:
    """Find the first alpha in 1, 1/2, 1/4, ... with phi(alpha) <= f0 + c1 alpha slope + slack.

    The printed condition lacks p in the slope; this is the one the proof of Theorem 4.1 uses
    (reading 6).

    Parameters
    ----------
    phi : callable
        alpha -> loss at w + alpha p; inf or nan is a rejected trial.
    f0, slope : float
        Loss and directional derivative g'p at alpha = 0.
    c1 : float
    eps : float
        Precision of the loss.
    """
    alpha = 1.0
    slack = rounding(f0, eps)
    for _ in range(_MAX_HALVINGS + 1):
        f = phi(alpha)
        if f <= f0 + c1 * alpha * slope + slack:
            return LineSearchResult(alpha, f)
        alpha *= 0.5
    return LineSearchResult(0.0, f0)
