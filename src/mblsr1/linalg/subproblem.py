"""The trust-region subproblem, equation (4) of the paper: min g'p + p'Bp/2 over ||p|| <= radius.

p is a global minimiser exactly when for some sigma >= 0: (B + sigma I)p = -g, sigma (||p|| - radius) = 0
and B + sigma I is positive semidefinite (Conn, Gould, Toint 2000, theorem 7.2.1). With the eigenvalues
of B at hand this is one equation in one unknown. The unknown is the shift mu = sigma + lambda_min: in
near-hard cases mu is tiny beside sigma, and ||p|| would be lost to cancellation in sigma.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mblsr1 import _array
from mblsr1._array import Array, HostArray
from mblsr1.linalg.pairs import PairMemory
from mblsr1.linalg.smoothed import GivenSpectrum
from mblsr1.linalg.spectrum import Spectrum
from mblsr1.linalg.units import Units, is_ordinary, ldexp, times_power, units_of

__all__ = ["Subproblem", "TrustRegionSolution", "solve_trust_region"]

_EPS = float(np.finfo(np.float64).eps)
#: A part of g under this share of ||g|| is rounding.
_NOISE = 8.0 * _EPS
#: Where ||g_perp||^2 / ||g||^2 is under this, the difference of squares has lost too many digits.
_VAGUE_PERP = 1e-6
#: g - P P'g is then made itself where ||g|| / (gamma + sigma), which p contains, exceeds ||p|| by this factor.
_CANCELLED = 10.0
_MAX_NEWTON = 100
#: Corrections of the target radius where the basis has lost orthogonality (ill-conditioned pairs).
_MAX_CORRECTIONS = 4
#: ||p||^2 from inner products is taken where rounding is under this share of it.
_NORM_ERROR, _SMALLEST_SQUARE = 1e-12, 1e-290


class SpectralMatrix(Protocol):
    """What the solver needs of B: eigenvalues, eigenvectors over a pair buffer, two products."""

    pairs: PairMemory

    @property
    def spectrum(self) -> Spectrum:
        """Eigenvalues and eigenvectors."""

    def combine(self, coefficients: HostArray, scale: float, base: Array) -> Array:
        """Return ``coefficients @ rows + scale * base``."""

    def __matmul__(self, v: Array) -> Array:
        """B v."""


class TrustRegionSolution(NamedTuple):
    """A global minimiser of the model in the ball.

    Attributes
    ----------
    p : array (d,)
        The step, in the caller's library.
    sigma : float
        Multiplier of the ball, >= 0; infinite where ||g|| / radius is.
    model_change : float
        Q = g'p + p'Bp/2 <= 0, computed as g'p/2 - sigma ||p||^2/2, where nothing cancels.
    on_boundary : bool
    hard_case : bool
        Whether g has no component in the leftmost eigenspace and one had to be added.
    norm : float
        ||p||.
    slope : float
        g'p <= 0.
    """

    p: Array
    sigma: float
    model_change: float
    on_boundary: bool
    hard_case: bool
    norm: float
    slope: float


def solve_trust_region(B: SpectralMatrix, g: Array, radius: float) -> TrustRegionSolution:
    """Minimise g'p + p'Bp/2 over ||p|| <= radius, globally.

    Parameters
    ----------
    B : LSR1
        Any limited-memory matrix with a spectrum; indefinite and singular ones included.
    g : array (d,)
        Gradient, of the library, dtype and device of B's pairs.
    radius : float
        > 0.

    Returns
    -------
    TrustRegionSolution
        ``.p .sigma .model_change .on_boundary .hard_case``, and ``.norm .slope``.

    Raises
    ------
    ValueError
        Where g has another length or is not finite, or where radius is not a positive number.

    Notes
    -----
    Two passes over the pairs, and four for each correction that rounding asks for. The residual of
    (B + sigma I)p = -g comes down to some eps cond (||B|| + sigma) ||p||, where cond is the condition number
    of the normalised psi: at 1e5 about 1e-11 ||g|| where (||B|| + sigma) ||p|| is not much over ||g||.

    Examples
    --------
    >>> import numpy as np, mblsr1
    >>> B = mblsr1.LSR1(np.zeros((0, 2)), np.zeros((0, 2)), gamma=2.0)
    >>> sol = mblsr1.solve_trust_region(B, np.array([3.0, 4.0]), radius=1.0)
    >>> [round(float(x), 12) for x in sol.p], sol.sigma, sol.on_boundary
    ([-0.6, -0.8], 3.0, True)
    """
    if not _array.is_array(g) or g.shape != (B.pairs.columns,):
        raise ValueError(f"g: must be an array of shape ({B.pairs.columns},), got {g!r:.80}")
    if not _array.all_finite(g):
        raise ValueError("g: must be finite, got an entry that is nan or infinite")
    if not (math.isfinite(radius) and radius > 0.0):
        raise ValueError(f"radius: must be a finite number > 0, got {radius!r}")
    with _array.quiet():
        problem = Subproblem(B, g, B.pairs.project([g])[:, 0])
        units = problem.units(radius)
        if units is None:
            return problem.refine(problem.solve(radius), radius)
        inner = problem.in_units(units)
        return _in_old_units(inner.refine(inner.solve(units.radius), units.radius), units, inner.lam_min)


class Subproblem:
    """The subproblem for one B and g; `solve` may be called for several radii.

    Parameters
    ----------
    B : LSR1 or another matrix with a spectrum
    g : array (d,)
    z : array (2m,)
        Products of the pair buffer's rows with g.
    square : float, optional
        g'g, where it is known.
    """

    def __init__(self, B: SpectralMatrix, g: Array, z: HostArray, square: float | None = None) -> None:
        self.B, self.g, self.z = B, g, z
        spectrum = B.spectrum
        self.g_norm = _array.norm(g, square)
        unit = 1.0 / self.g_norm if self.g_norm > 0.0 else 0.0
        par = (spectrum.T.T @ z) * unit
        self.base, self.base_par = g, par
        self.has_perp = spectrum.rank < B.pairs.length
        square = 1.0 - float(par @ par)
        self.vague = bool(self.has_perp and unit) and square < _VAGUE_PERP
        # Everything below is in units of ||g||; the last eigenvalue is gamma, of span(P)'s complement.
        self.lam = np.append(spectrum.lam, spectrum.gamma) if self.has_perp else spectrum.lam
        self.a = np.append(par, math.sqrt(max(square, 0.0)) if unit else 0.0) if self.has_perp else par
        self.lam_min = float(self.lam.min())

    def _root(self, wanted: float) -> _Root:
        """The solution in coordinates, with the part of g outside the span made itself where its digits count."""
        root = _secular(self.lam, self.a, self.lam_min, wanted)
        if self.vague and not (self.lam[-1] + root.sigma) * math.sqrt(float(root.x @ root.x)) * _CANCELLED > 1.0:
            self.a = np.append(self.a[:-1], self._explicit_perp(self.base_par, 1.0 / self.g_norm))
            self.vague = False
            root = _secular(self.lam, self.a, self.lam_min, wanted)
        return root

    def _explicit_perp(self, par: HostArray, unit: float) -> float:
        """Make g - P P'g itself, twice projected, and return its share of ||g||."""
        T = self.B.spectrum.T
        base = self.B.combine(T @ (-par / unit), 1.0, self.g)
        for _ in range(2):
            again = T.T @ self.B.pairs.project([base])[:, 0]
            base = self.B.combine(T @ -again, 1.0, base)
        self.base, self.base_par = base, np.zeros_like(par)
        share = _array.norm(base) * unit
        return share if share > _NOISE else 0.0  # only rounding is left: `_combination` leaves it out

    def units(self, radius: float) -> Units | None:
        """Return the units in which the problem is ordinary, None where it is that already."""
        if is_ordinary(self.g_norm, radius, _array.is_single(self.g)):
            return None
        return units_of(self.g_norm, radius, float(np.abs(self.lam).max()))

    def in_units(self, units: Units) -> Subproblem:
        """Return the problem in other units: one more pass over the pairs."""
        g = times_power(self.g, -units.g)
        B = GivenSpectrum(self.B.pairs, units.spectrum(self.B.spectrum))
        return Subproblem(B, g, B.pairs.project([g])[:, 0])

    def solve(self, radius: float) -> TrustRegionSolution:
        """Return the global minimiser in the ball of this radius."""
        units = self.units(radius)
        if units is None:
            return self._solve(radius)
        inner = self.in_units(units)
        return _in_old_units(inner._solve(units.radius), units, inner.lam_min)

    def _solve(self, radius: float) -> TrustRegionSolution:
        target = radius / self.g_norm if self.g_norm > 0.0 else radius
        wanted = target
        tolerance = max(1e-12, 4.0 * _array.eps(self.g))
        for _ in range(_MAX_CORRECTIONS):
            root = self._root(wanted)
            combination = self._combination(root)
            p, known = None, self._known_norm(root, *combination)
            if known is None:
                p = self._assemble(root, *combination)
            norm = _array.norm(p) if known is None else known
            if not root.on_boundary or norm == 0.0 or abs(norm - radius) <= tolerance * radius:
                break
            # The basis of ill-conditioned pairs is not quite orthonormal: aim beside the target.
            wanted *= radius / norm
        return self._solution(root, self._assemble(root, *combination) if p is None else p, norm)

    def refine(self, sol: TrustRegionSolution, radius: float) -> TrustRegionSolution:
        """Correct p by its residual, formed in full length, where the pairs are ill-conditioned.

        The coordinates of p over nearly dependent psi are large, and rounding in them costs about
        eps cond(psi)^2; a correction of p itself brings that back to eps cond(psi). Four passes over
        the pairs each, not made inside a run.
        """
        if not math.isfinite(sol.sigma):
            return sol
        state, first, best = self._residual(sol), sol, sol
        scale = float(np.abs(self.lam).max()) + sol.sigma
        for _ in range(_MAX_CORRECTIONS):
            size = _array.norm(state[0])
            if size <= 1e-13 * self.g_norm + 4.0 * _EPS * scale * sol.norm or not self.B.spectrum.rank:
                break
            trial = self._corrected(sol, *state, radius)
            state = self._residual(trial)
            if not _array.norm(state[0]) < 0.9 * size:
                break
            sol = trial
            off = abs(sol.norm - radius) if sol.on_boundary else max(sol.norm - radius, 0.0)
            if off <= 1e-9 * radius:
                best = sol
        return first if best is first else self._measured(best)

    def _measured(self, sol: TrustRegionSolution) -> TrustRegionSolution:
        """Make slope and model change anew, from p itself."""
        slope = min(_array.dot(self.g, sol.p), 0.0)
        return sol._replace(slope=slope, model_change=0.5 * slope - 0.5 * sol.sigma * sol.norm * sol.norm)

    def _residual(self, sol: TrustRegionSolution) -> tuple[Array, HostArray]:
        """(B + sigma I)p + g, and the products of the rows with it and with p."""
        residual = self.B @ sol.p + (sol.sigma * sol.p + self.g)
        return residual, self.B.pairs.project([residual, sol.p])

    def _corrected(self, sol: TrustRegionSolution, r: Array, z: HostArray, radius: float) -> TrustRegionSolution:
        """One Newton step on the optimality conditions, with the spectrum for the Jacobian.

        In the coordinates of P, p_perp and r_perp the system is bordered: on the boundary sigma moves
        by nu so that ||p|| stays the radius. It is regular also where B + sigma I is singular.
        """
        T, k, norm = self.B.spectrum.T, self.B.spectrum.rank, sol.norm or 1.0
        curvature = np.append(self.B.spectrum.lam, self.B.spectrum.gamma) + sol.sigma
        size = float(np.abs(curvature).max()) or 1.0
        curvature /= size  # the system is solved in units of `size` and of ||p||, so that its entries are alike
        r_par, p_par = (T.T @ z).T / norm
        along_r = -1.0 / float(size * curvature[k]) if abs(curvature[k]) > _NOISE else 0.0
        p_perp = max(1.0 - float(p_par @ p_par), 0.0)
        cross = _array.dot(sol.p, r) / (norm * norm) - float(p_par @ r_par)
        jacobian = np.diag([*curvature, 0.0 if sol.on_boundary else 1.0])
        rhs = np.array([*(-r_par / size), 0.0, 0.0])
        if sol.on_boundary:
            jacobian[:k, -1] = jacobian[-1, :k] = p_par
            jacobian[k, -1], jacobian[-1, k] = 1.0, p_perp
            rhs[-1] = 0.5 * (radius / norm - 1.0) * (radius / norm + 1.0) - along_r * cross
        x, *_ = np.linalg.lstsq(jacobian, rhs, rcond=None)
        coefficients = T @ (norm * (x[:k] - x[k] * p_par - along_r * r_par))
        p = sol.p + self.B.combine(coefficients, x[k], sol.p) + along_r * r
        moved = size * float(x[-1]) if sol.on_boundary else 0.0
        return sol._replace(p=p, norm=_array.norm(p), sigma=max(sol.sigma + moved, 0.0))

    def _combination(self, root: _Root) -> tuple[HostArray, float]:
        """Coefficients of p over the pair buffer's rows, and over the base vector (g, or what is left of it)."""
        coefficients = root.x[: self.B.spectrum.rank] * self._scale
        along_base = 0.0
        if self.vague or (self.has_perp and self.a[-1] > 0.0):
            along_base = -1.0 / (self.lam[-1] + root.sigma) if self.vague else root.x[-1] / self.a[-1]
            coefficients = coefficients - along_base * self.base_par * self._scale
        return self.B.spectrum.T @ coefficients, float(along_base)

    @property
    def _scale(self) -> float:
        return self.g_norm if self.g_norm > 0.0 else 1.0

    def _leaves_the_span(self, root: _Root) -> bool:
        """Whether the hard case needs a direction that is neither in the pairs nor in g."""
        return bool(self.has_perp and not self.vague and self.a[-1] == 0.0 and root.x[-1] != 0.0)

    def _known_norm(self, root: _Root, c: HostArray, along: float) -> float | None:
        """||p|| from the inner products at hand; None where too many digits cancel, or p has another part."""
        if self.base is not self.g or self._leaves_the_span(root):
            return None
        gram, along_g = self.B.pairs.gram, along * self.g_norm
        square = float(c @ gram @ c) + 2.0 * along * float(c @ self.z) + along_g * along_g
        terms = float(np.abs(c) @ np.sqrt(gram.diagonal())) + abs(along_g)
        if not _SMALLEST_SQUARE < square < math.inf or 4.0 * _EPS * terms * terms > _NORM_ERROR * square:
            return None
        return math.sqrt(square)

    def _assemble(self, root: _Root, coefficients: HostArray, along_base: float) -> Array:
        p = self.B.combine(coefficients, along_base, self.base)
        if self._leaves_the_span(root):
            p = p + float(root.x[-1] * self._scale) * self._perpendicular_direction()
        return p

    def _perpendicular_direction(self) -> Array:
        """Return a unit vector orthogonal to span(P), the same one for the same d."""
        u = _array.normal(np.random.default_rng(0), self.g)
        T = self.B.spectrum.T
        for _ in range(3):
            u = u * (1.0 / _array.norm(u))
            u = self.B.combine(T @ -(T.T @ self.B.pairs.project([u])[:, 0]), 1.0, u)
        return u * (1.0 / _array.norm(u))

    def _solution(self, root: _Root, p: Array, norm: float) -> TrustRegionSolution:
        sigma = root.sigma
        slope = float(self.a @ root.x) * self.g_norm * self.g_norm
        change = 0.5 * slope - 0.5 * sigma * norm * norm
        return TrustRegionSolution(p, sigma, min(change, 0.0), root.on_boundary, root.hard_case, norm, min(slope, 0.0))


def _in_old_units(sol: TrustRegionSolution, units: Units, lam_min: float) -> TrustRegionSolution:
    """Turn back from units in which B's least eigenvalue is `lam_min`: what sigma has above -lam_min is g over p."""
    of_p = units.p_on_boundary if sol.on_boundary else units.p
    slope, below = ldexp(sol.slope, units.g + of_p), max(-lam_min, 0.0)
    parts = (below, units.g - units.p), (sol.sigma - below, units.g - of_p)
    along_p = sum(ldexp(sigma * sol.norm * sol.norm, power + 2 * of_p) for sigma, power in parts)
    return sol._replace(
        p=times_power(sol.p, of_p), norm=ldexp(sol.norm, of_p), sigma=max(sum(ldexp(*part) for part in parts), 0.0),
        slope=slope, model_change=min(0.5 * slope - 0.5 * along_p, 0.0),
    )  # fmt: skip


class _Root(NamedTuple):
    """Solution in eigenvector coordinates: x = -a / (lam + sigma), plus the hard case's part."""

    x: HostArray
    sigma: float
    on_boundary: bool
    hard_case: bool


def _secular(lam: HostArray, a: HostArray, lam_min: float, radius: float) -> _Root:
    """Find mu = sigma + lambda_min with ||x(mu)|| = radius, or show that none is needed."""
    size = max(abs(float(lam.max())), abs(lam_min))
    gap = lam - lam_min
    lead = gap <= _NOISE * size
    if lam_min > 0.0:
        x = -a / lam
        if _square(x, radius) <= 1.0:
            return _Root(x, 0.0, False, False)
        floor = lam_min
    else:
        if np.abs(a[lead]).max() <= _NOISE:
            a = np.where(lead, 0.0, a)
            hard = _hard_case(lam_min, a, gap, lead, radius)
            if hard is not None:
                return hard
        floor = 0.0
    mu = _newton(a, gap, floor, radius)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.where(a == 0.0, 0.0, -a / (gap + mu))
    return _Root(x, max(mu - lam_min, 0.0), True, False)


def _hard_case(lam_min: float, a: HostArray, gap: HostArray, lead: NDArray[np.bool_], radius: float) -> _Root | None:
    """Solution where g has no part in the leftmost eigenspace and the rest does not reach the boundary."""
    x = np.zeros_like(a)
    np.divide(-a, gap, out=x, where=~lead)
    square = _square(x, radius)
    if square >= 1.0:
        return None
    if lam_min == 0.0:
        return _Root(x, 0.0, False, False)
    share = math.sqrt(square)
    x[int(np.argmin(gap))] = radius * math.sqrt(1.0 - share) * math.sqrt(1.0 + share)
    return _Root(x, -lam_min, True, True)


def _square(x: HostArray, radius: float) -> float:
    """||x / radius||^2: in units of the radius, so that no square underflows."""
    x = x / radius
    return float(x @ x)


def _newton(a: HostArray, gap: HostArray, floor: float, radius: float) -> float:
    """Solve ||a / (gap + mu)|| = radius for mu > floor by Newton's method on 1/||x|| - 1/radius.

    That function is concave and increasing in mu, so Newton from the left of the root never
    passes it (Conn, Gould, Toint 2000, section 7.3). Each single term gives a point to the left.
    """
    used = a != 0.0
    a, gap = np.abs(a[used]), gap[used]
    mu = max(floor, float((a / radius - gap).max()))
    for _ in range(_MAX_NEWTON):
        shifted = gap + mu
        x = a / radius / shifted
        square = float(x @ x)
        if square == 0.0:  # mu has overflowed: g is infinite beside the radius, and p = 0 is what is left
            break
        excess = math.sqrt(square) - 1.0
        step = excess * square / float((x / shifted) @ x)
        if not step > _EPS * mu:
            break
        mu += step
    return float(mu)
