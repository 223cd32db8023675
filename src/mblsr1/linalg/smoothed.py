"""A positive definite model from noisy pairs: the symmetric part of the curvature on span(S).

SR1 divides by s'(y - Bs), which noise can make small: on noisy pairs its eigenvalues are many times
the true ones. Here B = gamma I + Q (|A| - gamma I) Q' with Q an orthonormal basis of span(S) and A the
symmetric part of Q'HQ, read off S'Y. With consistent pairs A is what SR1 gives on span(S), in any
order; |.| takes the absolute values of the eigenvalues, so that a direction of negative
curvature is as far as one of the same positive curvature.
"""

from __future__ import annotations

import numpy as np

from mblsr1._array import Array, HostArray
from mblsr1.linalg.pairs import GramBlocks, PairMemory
from mblsr1.linalg.spectrum import Spectrum

__all__ = ["GivenSpectrum", "flat", "median_curvature", "smoothed"]

#: Directions of span(S) whose share in the normalised Gram is under this are left out.
_DIRECTION_CUT = 1e-3
#: gamma is at least this share of the largest ||y|| / ||s||.
_SMALLEST_SHARE = 1e-3


class GivenSpectrum:
    """A limited-memory matrix given by its spectrum alone.

    Parameters
    ----------
    pairs : PairMemory
    spectrum : Spectrum
    """

    def __init__(self, pairs: PairMemory, spectrum: Spectrum) -> None:
        self.pairs, self.spectrum = pairs, spectrum

    def combine(self, coefficients: HostArray, scale: float, base: Array) -> Array:
        """Return ``coefficients @ rows + scale * base``."""
        return self.pairs.combine(coefficients, scale, base)

    def __matmul__(self, v: Array) -> Array:
        """B v in the library of the pairs; v is a (d,) array."""
        gamma, lam, T = self.spectrum
        z = self.pairs.project([v])[:, 0]
        return self.combine(T @ ((lam - gamma) * (T.T @ z)), gamma, v)


def flat(pairs: PairMemory) -> GivenSpectrum:
    """B = 0, where there is nothing to go by: the step is the longest along -g that the radius allows."""
    return GivenSpectrum(pairs, Spectrum(0.0, np.zeros(0), np.zeros((2 * pairs.capacity, 0))))


def median_curvature(blocks: GramBlocks) -> float:
    """gamma: the median of s'y / s's over the pairs, at least 1e-3 of the largest ||y|| / ||s||."""
    return max(float(np.median(blocks.SY.diagonal())), _SMALLEST_SHARE * float(np.sqrt(blocks.YY.diagonal().max())))


def smoothed(pairs: PairMemory, absolute: bool = True) -> GivenSpectrum:
    """Return the smoothed matrix of the pairs, of which there must be one at least.

    Parameters
    ----------
    pairs : PairMemory
    absolute : bool
        Take the absolute values of the eigenvalues; else keep negative curvature as it is.
    """
    blocks = pairs.blocks()
    size, directions = np.linalg.eigh(blocks.SS)
    kept = size > _DIRECTION_CUT * size[-1]
    E = directions[:, kept] / np.sqrt(size[kept])
    A = E.T @ blocks.SY @ E
    lam, U = np.linalg.eigh(0.5 * (A + A.T))
    return GivenSpectrum(
        pairs, Spectrum(median_curvature(blocks), np.abs(lam) if absolute else lam, pairs.over_rows(E @ U))
    )
