"""What the subproblem needs to know of a limited-memory matrix."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from mblsr1._array import HostArray

__all__ = ["Spectrum", "independent", "unit_gram"]

#: A row whose pivot in the normalised Gram falls under this depends on newer ones (cond about 1e5).
PIVOT_TOLERANCE = 1e-10
#: A pivot under this times ||c||^2 may be rounding: some hundred eps.
_PIVOT_ROUNDING = 1e-13
#: A squared norm that cancels below this share of its terms is rounding.
_CANCELLED = 1e-14


class Spectrum(NamedTuple):
    """B = gamma (I - P P') + P diag(lam) P' with orthonormal P = rows' T.

    Parameters
    ----------
    gamma : float
        Curvature outside span(P).
    lam : array (k,)
        Eigenvalues on span(P), in any order.
    T : array (2m, k)
        Coefficients of P over the rows of the pair buffer.
    """

    gamma: float
    lam: HostArray
    T: HostArray

    @property
    def rank(self) -> int:
        """The dimension of span(P)."""
        return int(self.lam.shape[0])


@lru_cache(maxsize=64)
def strictly_lower(k: int) -> NDArray[np.bool_]:
    """True under the diagonal."""
    return np.tri(k, k=-1, dtype=bool)


def unit_gram(G: HostArray, terms: HostArray) -> tuple[HostArray, HostArray]:
    """Scale a Gram matrix to unit diagonal; rows that are rounding become zero.

    Parameters
    ----------
    G : array (k, k)
    terms : array (k,)
        Size of the terms that were added up to make each diagonal entry.

    Returns
    -------
    unit : array (k, k)
    scale : array (k,)
        unit = scale G scale.
    """
    square = G.diagonal()
    scale = np.zeros_like(square)
    real = square > _CANCELLED * terms
    scale[real] = 1.0 / np.sqrt(square[real])
    return G * (scale[:, None] * scale), scale


def independent(unit: HostArray, limit: int) -> list[int]:
    """Indices of rows to keep, ascending; the last rows (the newest) are kept first.

    A row is left out where its pivot in the Cholesky factorisation, newest first, is under the
    tolerance or may be nothing but rounding, or where `limit` (the dimension d) rows are kept already.
    The pivot is the square of row i minus a combination of newer rows, c'Uc with c_i = 1: rounding in
    it is about eps ||c||^2, and c is large where an earlier pivot was small.
    """
    k = unit.shape[0]
    if k == 0:
        return []
    if k <= limit:
        factor, info = scipy.linalg.lapack.dpotrf(unit[::-1, ::-1], lower=1, clean=0)
        if info == 0 and float(factor.diagonal().min()) ** 2 > PIVOT_TOLERANCE:
            inverse = scipy.linalg.lapack.dtrtri(factor, lower=1)[0]
            inverse = np.where(strictly_lower(k).T, 0.0, inverse)
            if float(np.einsum("ij,ij->i", inverse, inverse).max()) * _PIVOT_ROUNDING < 1.0:
                return list(range(k))
    return _independent_one_by_one(unit, limit)


def _independent_one_by_one(unit: HostArray, limit: int) -> list[int]:
    rest, c = unit.copy(), np.eye(unit.shape[0])
    kept: list[int] = []
    for i in range(unit.shape[0] - 1, -1, -1):
        if len(kept) < limit and rest[i, i] > max(PIVOT_TOLERANCE, _PIVOT_ROUNDING * float(c[i] @ c[i])):
            kept.append(i)
            share = rest[:i, i, None] / rest[i, i]
            c[:i] -= share * c[i]
            rest[:i, :i] -= share * rest[i, :i]
    return kept[::-1]
