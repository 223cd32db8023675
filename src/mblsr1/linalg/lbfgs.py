"""The limited-memory BFGS matrix in the same spectral form, for the same trust region.

B = gamma I - W' [[gamma S S', L], [L', -D]]^-1 W with the rows gamma S and Y in W (Byrd, Nocedal,
Schnabel 1994, theorem 2.3). Only pairs with s'y > 0 enter, so B is positive definite.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mblsr1._array import HostArray
from mblsr1.linalg.pairs import GramBlocks, PairMemory
from mblsr1.linalg.smoothed import SpectralMatrix
from mblsr1.linalg.spectrum import Spectrum

__all__ = ["lbfgs", "prediction_error"]

#: A pair enters where s'y exceeds this share of ||s|| ||y||.
_CURVATURE = 1e-8
#: Directions of span(S, Y) whose share in the normalised Gram is under this are left out.
_GRAM_CUT = 1e-13
#: Eigenvalues are kept above this share of gamma: the exact ones are positive.
_SMALLEST = 1e-12


def lbfgs(pairs: PairMemory) -> SpectralMatrix | None:
    """Return the L-BFGS matrix of the pairs, or None where no pair has positive curvature.

    Where the pairs depend on each other beyond rounding, it is that of the newest one.
    """
    blocks = pairs.blocks()
    sy, yy = blocks.SY.diagonal(), blocks.YY.diagonal()
    usable = np.flatnonzero((sy > _CURVATURE * np.sqrt(yy)) & (yy > np.finfo(np.float64).tiny))
    if usable.size == 0:
        return None
    spectrum = _spectrum(_part(blocks, usable))
    if spectrum is None:
        usable = usable[-1:]
        spectrum = _spectrum(_part(blocks, usable))
    if spectrum is None:
        return None
    k = usable.size
    T = pairs.over_rows(spectrum.T[:k], spectrum.T[k:], usable)
    return SpectralMatrix(pairs, spectrum._replace(T=T))


def _part(blocks: GramBlocks, usable: NDArray[np.intp]) -> GramBlocks:
    if usable.size == blocks.k:
        return blocks
    index = np.ix_(usable, usable)
    return GramBlocks(blocks.SS[index], blocks.SY[index], blocks.YY[index])


def _spectrum(blocks: GramBlocks) -> Spectrum | None:
    """gamma, eigenvalues, and coefficients of the eigenvectors over the rows of [S; Y]; None where singular."""
    SS, SY, YY = blocks
    gamma = float(YY[-1, -1] / SY[-1, -1])
    gram = _blocks(SS, SY, YY)
    scale = 1.0 / np.sqrt(gram.diagonal())
    size, V = np.linalg.eigh(gram * (scale[:, None] * scale))
    kept = size > _GRAM_CUT * size[-1]
    root = np.sqrt(size[kept])
    middle = _blocks(gamma * SS, np.tril(SY, -1), -np.diag(SY.diagonal()))
    # W = diag(gamma, 1) diag(1/scale) V root Q with orthonormal rows Q: the matrix in those coordinates
    k = SS.shape[0]
    A = (np.repeat([gamma, 1.0], k) / scale)[:, None] * (V[:, kept] * root)
    try:
        C = -(A.T @ np.linalg.solve(middle, A))
    except np.linalg.LinAlgError:
        return None
    if not np.isfinite(C).all():
        return None
    change, U = np.linalg.eigh(0.5 * (C + C.T))
    T = scale[:, None] * ((V[:, kept] / root) @ U)
    return Spectrum(gamma, np.maximum(change + gamma, _SMALLEST * gamma), T)


def _blocks(a: HostArray, b: HostArray, c: HostArray) -> HostArray:
    """The matrix [[a, b], [b', c]]."""
    k = a.shape[0]
    out = np.empty((2 * k, 2 * k))
    out[:k, :k], out[:k, k:], out[k:, :k], out[k:, k:] = a, b, b.T, c
    return out


def prediction_error(spectrum: Spectrum, z_s: HostArray, z_y: HostArray, ss: float, sy: float, yy: float) -> float:
    """||y - B s|| / ||y|| from inner products alone.

    Parameters
    ----------
    spectrum : Spectrum
    z_s, z_y : array (2m,)
        Products of the pair buffer's rows with s and y.
    ss, sy, yy : float
        s's, s'y, y'y.
    """
    gamma, lam, T = spectrum
    along_s, along_y = T.T @ z_s, T.T @ z_y
    cross = gamma * sy + float((lam - gamma) * along_s @ along_y)
    square = gamma * gamma * ss + float((lam**2 - gamma * gamma) * along_s @ along_s)  # gamma**2 would raise
    return float(np.sqrt(max(yy - 2.0 * cross + square, 0.0) / yy)) if yy > 0.0 else 0.0
