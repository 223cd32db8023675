"""Units of the subproblem, where gradient and radius are so large or small that products of them would be lost.

min g'p + p'Bp/2 over ||p|| <= radius is the same problem for g / 2^a, p / 2^b, radius / 2^b and 2^(b - a) B. Powers of
two round nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mblsr1 import _array
from mblsr1._array import Array
from mblsr1.linalg.spectrum import Spectrum

__all__ = ["Units", "is_ordinary", "ldexp", "times_power", "units_of"]

#: ||g|| and the radius up to this, or down to its inverse, have products that are finite: in float64, in float32.
_ORDINARY = (1e140, 1e35)
#: Greatest exponents of B and of the radius in the new units: there too squares are finite.
_MOST_CURVATURE, _MOST_RADIUS = 400, 460


class Units(NamedTuple):
    """Exponents of two.

    Attributes
    ----------
    g, p : int
        One unit of the gradient is 2^g, one of the step 2^p.
    radius : float
        The radius in units of the step.
    p_on_boundary : int
        As `p`, for a solution on the boundary: they differ where the radius is cut off.
    """

    g: int
    p: int
    radius: float
    p_on_boundary: int

    def spectrum(self, of: Spectrum) -> Spectrum:
        """That of B in these units; what underflows there is nothing beside ||g|| / radius."""
        power = self.p - self.g
        return Spectrum(ldexp(of.gamma, power), np.ldexp(of.lam, power), of.T)


def is_ordinary(g_norm: float, radius: float, single: bool) -> bool:
    """Whether ||g||, the radius and their ratio have products that are finite; `single`: vectors are float32."""
    if g_norm == 0.0 or not g_norm < math.inf:  # no unit to be had
        return True
    most = _ORDINARY[single]
    least = 1.0 / most
    return least < radius < most and least < g_norm < most and least < radius / g_norm < most


def units_of(g_norm: float, radius: float, largest: float) -> Units:
    """Return units in which the subproblem is ordinary; `largest` is the largest absolute eigenvalue of B."""
    of_g, (mantissa, of_radius), of_B = math.frexp(g_norm)[1], math.frexp(radius), math.frexp(largest)[1]
    if largest == 0.0 or of_B + of_radius - of_g <= _MOST_CURVATURE:
        return Units(of_g, of_radius, mantissa, of_radius)
    p = of_g - of_B  # a Newton step or less of B's largest curvature is one
    cut = min(of_radius - p, _MOST_RADIUS)
    return Units(of_g, p, ldexp(mantissa, cut), of_radius - cut)


def times_power(x: Array, power: int) -> Array:
    """Return x 2^power: in steps, as the power itself may be no number of the dtype."""
    most = 100 if _array.is_single(x) else 1000
    while power:
        step = max(-most, min(power, most))
        x, power = x * 2.0**step, power - step
    return x


def ldexp(x: float, power: int) -> float:
    """Return x 2^power, infinite where that is too large."""
    return float(np.ldexp(x, power))
