"""The limited-memory BFGS matrix in the same spectral form, for the same trust region.

B = gamma I - W' [[gamma S S', L], [L', -D]]^-1 W with the rows gamma S and Y in W (Byrd, Nocedal,
Schnabel 1994, theorem 2.3). Only pairs with s'y > 0 enter, so B is positive definite.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mblsr1._array import HostArray
from mblsr1.linalg.pairs import TINY, GramBlocks, NewPair, PairMemory
from mblsr1.linalg.smoothed import GivenSpectrum
from mblsr1.linalg.spectrum import Spectrum, strictly_lower

__all__ = ["LBFGS", "lbfgs"]

#: A pair enters where s'y exceeds this share of ||s|| ||y||.
_CURVATURE = 1e-8
#: Directions of span(S, Y) whose share in the normalised Gram is under this are left out.
_RANK_CUT = 1e-13
#: Eigenvalues are kept above this share of gamma: the exact ones are positive.
_SMALLEST = 1e-12


class LBFGS(GivenSpectrum):
    """The L-BFGS matrix of some stored pairs, all with s'y > 0.

    Parameters
    ----------
    pairs : PairMemory
    usable : array of int
        Which of the pairs, oldest first; at least one.
    """

    def __init__(self, pairs: PairMemory, usable: NDArray[np.intp]) -> None:
        self.pairs, self._usable = pairs, usable
        self._blocks = _part(pairs.blocks(), usable)
        self.gamma = float(self._blocks.YY[-1, -1] / self._blocks.SY[-1, -1])

    @cached_property
    def spectrum(self) -> Spectrum:  # type: ignore[override]
        """gamma, eigenvalues, eigenvectors; of the newest pair alone where all depend on each other beyond rounding."""
        used, found = self._usable, _spectrum(self._blocks, self._middle, self.gamma)
        if found is None:
            used, newest = used[-1:], _part(self._blocks, np.asarray([used.size - 1]))
            found = _spectrum(newest, _middle(newest, self.gamma), self.gamma)
        if found is None:
            return Spectrum(self.gamma, np.zeros(0), np.zeros((2 * self.pairs.capacity, 0)))
        k = used.size
        return found._replace(T=self.pairs.over_rows(found.T[:k], found.T[k:], used))

    @cached_property
    def _middle(self) -> HostArray:
        return _middle(self._blocks, self.gamma)

    def prediction_error(self, pair: NewPair) -> float:
        """||y - Bs|| / ||y|| from inner products alone, without the spectrum."""
        SS, SY, YY = self._blocks
        gamma = self.gamma
        along_s, along_y = self._over_W(pair.rows_s), self._over_W(pair.rows_y)
        try:
            q = np.linalg.solve(self._middle, along_s)
        except np.linalg.LinAlgError:
            return math.inf
        gram = _blocks(gamma * gamma * SS, gamma * SY, YY)
        cross = gamma * pair.sy - float(q @ along_y)
        square = gamma * gamma * pair.ss - 2.0 * gamma * float(q @ along_s) + float(q @ gram @ q)
        return pair.relative(pair.yy - 2.0 * cross + square)

    def _over_W(self, z: HostArray) -> HostArray:
        of_s, of_y = self.pairs.of_unit_pairs(z, self._usable)
        return np.concatenate([self.gamma * of_s, of_y])


def lbfgs(pairs: PairMemory) -> LBFGS | None:
    """Return the L-BFGS matrix of the pairs, or None where no pair has positive curvature."""
    blocks = pairs.blocks()
    sy, yy = blocks.SY.diagonal(), blocks.YY.diagonal()
    usable = np.flatnonzero((sy > _CURVATURE * np.sqrt(yy)) & (yy > TINY))
    return LBFGS(pairs, usable) if usable.size else None


def _part(blocks: GramBlocks, usable: NDArray[np.intp]) -> GramBlocks:
    if usable.size == blocks.k:
        return blocks
    index = np.ix_(usable, usable)
    return GramBlocks(blocks.SS[index], blocks.SY[index], blocks.YY[index])


def _spectrum(blocks: GramBlocks, middle: HostArray, gamma: float) -> Spectrum | None:
    """gamma, eigenvalues, and coefficients of the eigenvectors over the rows of [S; Y]; None where singular."""
    SS, SY, YY = blocks
    gram = _blocks(SS, SY, YY)
    scale = 1.0 / np.sqrt(gram.diagonal())
    size, V = np.linalg.eigh(gram * (scale[:, None] * scale))
    kept = size > _RANK_CUT * size[-1]
    root = np.sqrt(size[kept])
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


def _middle(blocks: GramBlocks, gamma: float) -> HostArray:
    """The matrix [[gamma S S', L], [L', -D]] with L the strict lower triangle of S Y' and D its diagonal."""
    SS, SY, _ = blocks
    k = SS.shape[0]
    out = _blocks(gamma * SS, np.where(strictly_lower(k), SY, 0.0), np.zeros((k, k)))
    index = np.arange(k, 2 * k)
    out[index, index] = -SY.diagonal()
    return out


def _blocks(a: HostArray, b: HostArray, c: HostArray) -> HostArray:
    """The matrix [[a, b], [b', c]]."""
    k = a.shape[0]
    out = np.empty((2 * k, 2 * k))
    out[:k, :k], out[:k, k:], out[k:, :k], out[k:, k:] = a, b, b.T, c
    return out
