"""The limited-memory SR1 matrix in compact form: B = gamma I + Psi' M Psi, equation (6) of the paper.

Rows of Psi are psi_i = y_i - gamma s_i and M = N^-1, N = D + L + L' - gamma S S', where
L + D is the lower triangle of the matrix of s_i'y_j. Everything but the products with
the pair buffer is k x k work in float64 on the host.
"""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from mblsr1 import _array
from mblsr1._array import Array, HostArray
from mblsr1.checks import real
from mblsr1.linalg.pairs import GramBlocks, NewPair, PairMemory
from mblsr1.linalg.scaling import LARGEST_GAMMA
from mblsr1.linalg.spectrum import Spectrum, independent, strictly_lower, unit_gram

__all__ = ["LSR1"]

#: A pivot of N under this share of the terms that it is the sum of is rounding.
_PIVOT_FLOOR = 1e-15
_MAX_REFINEMENTS = 6


class LSR1:
    """Limited-memory SR1 approximation of a Hessian, indefinite where the pairs say so.

    Parameters
    ----------
    S, Y : array (k, d)
        Steps and gradient differences, a pair a row, oldest first; any array-API
        library. k may be 0.
    gamma : float
        Curvature of the initial matrix gamma I, of either sign.
    memory : int, optional
        Pairs that `update` may keep; the default is the larger of k and 10.
    skip_tolerance : float
        A pair is skipped where ``|s'(y - Bs)| < skip_tolerance ||s|| ||y - Bs||``.

    Raises
    ------
    ValueError, TypeError
        Where S, Y are not two real floating (k, d) arrays of one library, or where gamma,
        memory or skip_tolerance is outside its range.

    Notes
    -----
    A pair is left out where SR1's denominator is too small (Nocedal and Wright, 2nd ed.,
    equation 6.26) or where psi depends on those of newer pairs (docs/deviations.md, 17).
    Scaling a pair does not change the matrix.

    Examples
    --------
    >>> import numpy as np, mblsr1
    >>> A = np.diag([1.0, 2.0, 30.0])
    >>> S = np.eye(3)
    >>> B = mblsr1.LSR1(S, S @ A, gamma=0.5)
    >>> [round(float(x), 12) for x in B.eigenvalues()]
    [1.0, 2.0, 30.0]
    """

    def __init__(
        self, S: Array, Y: Array, gamma: float, *, memory: int | None = None, skip_tolerance: float = 1e-8
    ) -> None:
        S, Y = _checked_pairs(S, Y)
        capacity = max(S.shape[0], 10) if memory is None else memory
        if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 0:
            raise ValueError(f"memory: must be an int >= 0, got {memory!r}")
        real("gamma", gamma, f" of at most {LARGEST_GAMMA:g} in size", lambda x: abs(x) <= LARGEST_GAMMA)
        if not 0.0 <= skip_tolerance < 1.0:
            raise ValueError(f"skip_tolerance: must be in [0, 1), got {skip_tolerance!r}")
        pairs = PairMemory(_array.zero_row(S), capacity)
        for i in range(S.shape[0]):
            pairs.push(S[i, ...], Y[i, ...])
        pairs.project([])
        self._setup(pairs, gamma, skip_tolerance)

    @classmethod
    def from_memory(cls, pairs: PairMemory, gamma: float, skip_tolerance: float = 1e-8) -> LSR1:
        """Return the matrix of the pairs in `pairs`, which it shares and does not copy."""
        matrix = cls.__new__(cls)
        matrix._setup(pairs, gamma, skip_tolerance)
        return matrix

    def _setup(self, pairs: PairMemory, gamma: float, skip_tolerance: float) -> None:
        self.pairs, self.gamma, self.skip_tolerance = pairs, float(gamma), skip_tolerance
        self._unit = _Compact(pairs.blocks(), self.gamma, skip_tolerance, pairs.length)
        self.kept = self._unit.kept
        self._rows_s, self._scale = pairs.unit_rows(np.asarray(self.kept, dtype=np.intp))
        self._rows_y = self._rows_s + 1
        self.__dict__.pop("spectrum", None)

    @cached_property
    def spectrum(self) -> Spectrum:
        """gamma, the eigenvalues on span(Psi) and the eigenvectors over the buffer's rows."""
        lam, T = self._unit.eigen()
        return Spectrum(self.gamma, lam, self._over_buffer(T))

    def _over_buffer(self, coefficients: HostArray) -> HostArray:
        """Turn coefficients over the kept psi (unit s) into coefficients over the buffer's rows."""
        scaled = coefficients * (self._scale if coefficients.ndim == 1 else self._scale[:, None])
        out = np.zeros((2 * self.pairs.capacity, *coefficients.shape[1:]))
        out[self._rows_y] = scaled
        out[self._rows_s] = -self.gamma * scaled
        return out

    def _psi(self, z: HostArray) -> HostArray:
        """Products of the kept psi (unit s) with a vector whose buffer products are z."""
        return (z[self._rows_y] - self.gamma * z[self._rows_s]) * self._scale

    @property
    def shape(self) -> tuple[int, int]:
        """(d, d)."""
        return (self.pairs.length, self.pairs.length)

    @property
    def n_skipped(self) -> int:
        """Number of pairs that were offered and are not part of the matrix."""
        return self.pairs.n_refused + len(self.pairs) - len(self.kept)

    def __matmul__(self, v: Array) -> Array:
        """B v in the library, dtype and device of the pairs; v is a (d,) array."""
        if not _array.is_array(v) or v.shape != (self.pairs.columns,):
            raise ValueError(f"v: must be an array of shape ({self.pairs.columns},), got {_describe(v)}")
        if len(self.kept) == 0:
            return v * self.gamma
        z = self.pairs.project([v])[:, 0]
        coefficients = self._over_buffer(self._unit.solve_refined(self._psi(z)))
        return self.combine(coefficients, self.gamma, v)

    def combine(self, coefficients: HostArray, scale: float, base: Array) -> Array:
        """Return ``coefficients @ rows + scale * base``, one pass over the used rows."""
        return self.pairs.combine(coefficients, scale, base)

    def to_dense(self) -> HostArray:
        """B as a (d, d) float64 NumPy array: for small d and for tests."""
        rows = _array.host(self.pairs.active)
        out = self.gamma * np.eye(self.pairs.length)
        if len(self.kept) == 0:
            return out
        psi = (rows[self._rows_y] - self.gamma * rows[self._rows_s]) * self._scale[:, None]
        out += psi.T @ self._unit.solve_refined(psi)
        return 0.5 * (out + out.T)

    def eigenvalues(self) -> HostArray:
        """All d eigenvalues of B, ascending, as a NumPy array."""
        rest = np.full(self.pairs.length - self.spectrum.rank, self.gamma)
        return np.sort(np.concatenate([self.spectrum.lam, rest]))

    def accepts(self, pair: NewPair) -> bool:
        """Whether ``|s'(y - Bs)| >= skip_tolerance ||s|| ||y - Bs||``, from inner products alone."""
        denominator, square = self._residual(pair)
        if square <= 1e-14 * (pair.yy + self.gamma**2 * pair.ss):  # y = Bs up to rounding: nothing to learn
            return False
        return bool(abs(denominator) >= self.skip_tolerance * math.sqrt(pair.ss * square))

    def prediction_error(self, pair: NewPair) -> float:
        """||y - Bs|| / ||y|| from inner products alone."""
        return pair.relative(self._residual(pair)[1])

    def _residual(self, pair: NewPair) -> tuple[float, float]:
        """s'(y - Bs) and ||y - Bs||^2."""
        psi_s = self._psi(pair.rows_s)
        c = self._unit.solve(psi_s)
        tail = self._psi(pair.rows_y) - self.gamma * psi_s - 0.5 * (self._unit.G @ c)
        square = pair.yy - 2.0 * self.gamma * pair.sy + self.gamma * self.gamma * pair.ss - 2.0 * float(c @ tail)
        return pair.sy - self.gamma * pair.ss - float(psi_s @ c), square

    def update(self, s: Array, y: Array) -> bool:
        """Offer a pair; the oldest goes where the memory is full.

        Returns
        -------
        bool
            Whether the pair was stored. It is not where s is zero, where an entry is not
            finite, or where SR1's denominator with the present B is too small.
        """
        for name, v in (("s", s), ("y", y)):
            if not _array.is_array(v) or v.shape != (self.pairs.columns,):
                raise ValueError(f"{name}: must be an array of shape ({self.pairs.columns},), got {_describe(v)}")
        refused = self.pairs.n_refused
        self.pairs.push(s, y)
        self.pairs.project([], self.accepts)
        stored = self.pairs.n_refused == refused
        if stored:
            self._setup(self.pairs, self.gamma, self.skip_tolerance)
        return stored


class _Compact:
    """N, its solve and the spectrum for one gamma: k x k, host, unit s."""

    def __init__(self, blocks: GramBlocks, gamma: float, skip: float, d: int) -> None:
        lower = _lower(blocks.k)
        N = np.where(lower, blocks.SY, blocks.SY.T) - gamma * blocks.SS
        G = blocks.YY - gamma * (blocks.SY + blocks.SY.T) + gamma**2 * blocks.SS
        terms = blocks.YY.diagonal() + gamma**2
        unit, scale = unit_gram(G, terms)
        kept = _with_safe_pivots(N, G, independent(unit, d), skip)
        if len(kept) < blocks.k:
            index = np.ix_(kept, kept)
            N, G, unit, scale = N[index], G[index], unit[index], scale[kept]
        self.kept, self.N, self.G = kept, N, G
        self._unit, self._scale, self._gamma = unit, scale, gamma
        self._negative = _cholesky(-N)

    def solve(self, rhs: HostArray) -> HostArray:
        """N^-1 rhs."""
        if rhs.shape[0] == 0:
            return rhs
        if self._negative is not None:
            return _host(-scipy.linalg.lapack.dpotrs(self._negative, rhs, lower=1)[0])
        return _host(np.linalg.solve(self.N, rhs))

    def solve_refined(self, rhs: HostArray) -> HostArray:
        """N^-1 rhs with residuals free of rounding: N has the square of the condition number of Psi.

        Plain `solve` loses eps cond(Psi)^2, this one eps cond(Psi). Not made inside a run.
        """
        x = self.solve(rhs)
        last = math.inf
        for _ in range(_MAX_REFINEMENTS):
            correction = self.solve(_exact_residual(self.N, x, rhs))
            size = float(np.abs(correction).max(initial=0.0))
            if not size < 0.5 * last:
                break
            x, last = x + correction, size
        return x

    def eigen(self) -> tuple[HostArray, HostArray]:
        """Eigenvalues of B on span(Psi) and the coefficients of orthonormal eigenvectors over psi.

        With the Gram of psi equal to A A', the matrix A'N^-1 A has the eigenvalues of B - gamma I
        (Brust, Erway, Marcia 2017, section 3, with a Gram factor in place of QR).
        """
        unit, scale = self._unit, self._scale
        if unit.shape[0] == 0:
            return np.zeros(0), np.zeros((0, 0))
        R = scipy.linalg.lapack.dpotrf(unit[::-1, ::-1], lower=1, clean=1)[0]  # newest first, as screened
        A = R[::-1] / scale[:, None]
        if self._negative is not None:
            W = scipy.linalg.lapack.dtrtrs(self._negative, A, lower=1)[0]
            C = -(W.T @ W)
        else:
            C = A.T @ np.linalg.solve(self.N, A)
            C = 0.5 * (C + C.T)
        values, U = np.linalg.eigh(C)
        T = scipy.linalg.lapack.dtrtrs(R, U, lower=1, trans=1)[0][::-1]
        return values + self._gamma, T * scale[:, None]


def _exact_residual(N: HostArray, x: HostArray, rhs: HostArray) -> HostArray:
    """Return rhs - N x, rounded once: products split without error (Dekker 1971), sums by fsum."""
    wide = x[:, None] if x.ndim == 1 else x
    out = np.empty((N.shape[0], wide.shape[1]))
    for j in range(wide.shape[1]):
        terms = np.concatenate([*_two_products(N, -wide[:, j]), rhs.reshape(out.shape)[:, j : j + 1]], axis=1)
        out[:, j] = [math.fsum(row) for row in terms.tolist()]
    return out.reshape(rhs.shape)


def _two_products(a: HostArray, b: HostArray) -> tuple[HostArray, HostArray]:
    """Product a b as a sum of two float64 numbers, exactly."""
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    product = a * b
    return product, a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)


def _halves(a: HostArray) -> tuple[HostArray, HostArray]:
    """`a` as a sum of two numbers of 26 bits (Veltkamp)."""
    shifted = 134217729.0 * a
    high = shifted - (shifted - a)
    return high, a - high


def _host(x: Any) -> HostArray:
    """Tell the type checker what LAPACK returns."""
    return x  # type: ignore[no-any-return]


@lru_cache(maxsize=64)
def _lower(k: int) -> NDArray[np.bool_]:
    """True on and under the diagonal."""
    return np.tri(k, dtype=bool)


def _cholesky(A: HostArray) -> HostArray | None:
    """Lower Cholesky factor, or None where A is not safely positive definite."""
    if A.shape[0] == 0:
        return None
    factor, info = scipy.linalg.lapack.dpotrf(A, lower=1, clean=1)
    if info != 0:
        return None
    pivots = factor.diagonal()
    return factor if pivots.min() ** 2 > 1e-13 * A.diagonal().max() else None


def _with_safe_pivots(N: HostArray, G: HostArray, kept: list[int], skip: float) -> list[int]:
    """Drop the pairs, in time order, whose SR1 denominator is too small.

    The pivots of N = L D L' without exchange are the denominators s'(y - Bs) with B made
    of the older pairs, and the rows of L^-1 Psi are the residuals y - Bs.
    """
    if not kept:
        return kept
    if len(kept) < N.shape[0]:
        index = np.ix_(kept, kept)
        N, G = N[index], G[index]
    pivots, unit_lower = _ldl(N)
    if pivots is not None:
        half = scipy.linalg.lapack.dtrtrs(unit_lower, G, lower=1, unitdiag=1)[0]
        square = scipy.linalg.lapack.dtrtrs(unit_lower, half.T, lower=1, unitdiag=1)[0].diagonal()
        if (np.abs(pivots) >= skip * np.sqrt(np.maximum(square, 0.0))).all():
            return kept
    return [kept[j] for j in _safe_one_by_one(N.copy(), G.copy(), skip)]


def _ldl(N: HostArray) -> tuple[HostArray | None, HostArray | None]:
    """Pivots and L of N = L D L' without exchange; None where a pivot is lost in rounding."""
    factor = _cholesky(-N)
    if factor is not None:  # the usual case, and the fast one
        return -(factor.diagonal() ** 2), factor / factor.diagonal()
    rest = N.copy()
    with np.errstate(all="ignore"):  # a pivot that is lost makes what follows it useless
        for j in range(N.shape[0]):
            pivot = rest[j, j]
            if pivot == 0.0:
                return None, None
            column = rest[j + 1 :, j] / pivot
            rest[j + 1 :, j + 1 :] -= column[:, None] * rest[j, j + 1 :]
            rest[j + 1 :, j] = column
        pivots = np.abs(rest.diagonal())
        terms = np.abs(N.diagonal()) + np.square(np.where(strictly_lower(N.shape[0]), rest, 0.0)) @ pivots
    return (rest.diagonal(), rest) if (pivots > _PIVOT_FLOOR * terms).all() else (None, None)


def _safe_one_by_one(N: HostArray, G: HostArray, skip: float) -> list[int]:
    """Indices of the safe pairs: eliminate in time order, pass over a pair that fails."""
    safe: list[int] = []
    terms = np.abs(N.diagonal())
    for j in range(N.shape[0]):
        pivot, row, diagonal = N[j, j], G[j, j + 1 :].copy(), G[j, j]
        if abs(pivot) <= max(skip * math.sqrt(max(diagonal, 0.0)), _PIVOT_FLOOR * terms[j]):
            continue
        safe.append(j)
        ratio = N[j + 1 :, j] / pivot
        terms[j + 1 :] += np.abs(ratio * N[j, j + 1 :])
        N[j + 1 :, j + 1 :] -= ratio[:, None] * N[j, j + 1 :]
        G[j + 1 :, j + 1 :] += (ratio * diagonal - row)[:, None] * ratio - ratio[:, None] * row
    return safe


def _checked_pairs(S: Any, Y: Any) -> tuple[Array, Array]:
    for name, x in (("S", S), ("Y", Y)):
        if not _array.is_array(x):
            raise TypeError(f"{name}: must be a (k, d) array, got {type(x).__name__}")
        if x.ndim != 2 or x.shape[1] < 1:
            raise ValueError(f"{name}: must have shape (k, d) with d >= 1, got {tuple(x.shape)}")
        if not _array.is_real_floating(x):
            raise TypeError(f"{name}: must be real floating, got dtype {x.dtype}")
    if tuple(S.shape) != tuple(Y.shape):
        raise ValueError(f"Y: must have the shape of S, {tuple(S.shape)}, got {tuple(Y.shape)}")
    if _array.spec(S) != _array.spec(Y):
        raise TypeError(f"Y: must be of the library, dtype and device of S, {_array.spec(S)}, got {_array.spec(Y)}")
    return S, Y


def _describe(x: Any) -> str:
    return f"an array of shape {tuple(x.shape)}" if _array.is_array(x) else type(x).__name__
