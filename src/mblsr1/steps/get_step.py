"""Algorithm 4, getStep, as printed: model step, momentum, SGD mix, restart test, line search."""

from __future__ import annotations

import math
from typing import NamedTuple

from mblsr1 import _array
from mblsr1._array import Array
from mblsr1.linalg.pairs import PairMemory
from mblsr1.linalg.subproblem import Subproblem, TrustRegionSolution
from mblsr1.problem import Oracle
from mblsr1.rules import hybrid
from mblsr1.rules.hybrid import Direction
from mblsr1.rules.line_search import LineSearchResult, halving, rounding
from mblsr1.rules.radius import BOUNDARY
from mblsr1.steps.model import ModelBuilder
from mblsr1.types import NAN, Point, Trial

__all__ = ["LineSearchSettings", "get_step"]

_WORST_RATIO = 10.0


class LineSearchSettings(NamedTuple):
    """The scalars of Algorithm 4: eta, mu, alpha_s, xi, c_1 and the form of line 6."""

    eta: float
    mu: float
    alpha_s: float
    xi: float
    c1: float
    printed: bool


def get_step(
    oracle: Oracle,
    point: Point,
    memory: PairMemory,
    delta: float,
    carried: Array | None,
    build: ModelBuilder,
    settings: LineSearchSettings,
) -> tuple[Trial, Array | None]:
    """Make the step of one iteration on one batch.

    Returns
    -------
    trial : Trial
        `point` is None where the line search failed; the pair is not stored then.
    carried : array (d,) or None
        What line 4 of the next step needs: mu v + (1 - eta) s, with the clipped v.
    """
    problem = build(memory, point.g)
    if not 0.0 < problem.g_norm < math.inf:
        return Trial(radius=delta, stationary=True), carried
    sol, direction, restarted = _direction(problem, point, memory, delta, carried, build, settings)
    eps = _array.loss_eps(point.w)
    w_new, found, whole = _search(oracle, point, direction, settings.c1, eps)
    free = oracle.gradient(w_new) if found.alpha and oracle.fused else None
    known = whole if direction.is_model_step else None
    decrease = _model_decrease(oracle, point, sol, known, eps) if found.alpha else NAN
    trial = Trial(
        decrease=decrease, predicted=sol.model_change, radius=delta, sigma=sol.sigma, slope=direction.slope,
        restarted=restarted, flipped=direction.flipped,
    )  # fmt: skip
    del sol  # p* is a vector that the gradient has better use for
    g_new = oracle.gradient(w_new) if found.alpha and not oracle.fused else free
    if g_new is None:
        return trial._replace(decrease=NAN), None
    s = direction.p if found.alpha == 1.0 else found.alpha * direction.p  # line 16
    accepted = trial._replace(
        point=Point(w_new, found.f, g_new), s=s, y=g_new - point.g, s_norm=found.alpha * direction.norm,
        achieved=found.f - point.f, on_boundary=direction.norm >= BOUNDARY * delta, alpha=found.alpha,
    )  # fmt: skip
    return accepted, hybrid.carry(direction.v, s, settings.eta, settings.mu)


def _search(
    oracle: Oracle, point: Point, direction: Direction, c1: float, eps: float
) -> tuple[Array, LineSearchResult, float]:
    """Line 15: the accepted iterate with its loss and alpha, and the loss of the whole step."""
    latest, losses = [point.w], []

    def phi(alpha: float) -> float:
        latest[0] = point.w + (direction.p if alpha == 1.0 else alpha * direction.p)
        losses.append(oracle.loss(latest[0]))
        return losses[-1]

    found = halving(phi, point.f, direction.slope, c1, eps)
    return latest[0], found, losses[0]


def _model_decrease(oracle: Oracle, point: Point, sol: TrustRegionSolution, known: float | None, eps: float) -> float:
    """R = f(w + p*) - f(w), one more loss where p* is not the step; nan where rounding decides.

    A loss that is not finite counts as a ratio of -10, the worst that Algorithm 5 sees (reading 14).
    """
    if abs(sol.model_change) <= rounding(point.f, eps):  # rho says nothing (reading 7)
        return NAN
    f = oracle.loss(point.w + sol.p) if known is None else known
    return f - point.f if math.isfinite(f) else -_WORST_RATIO * sol.model_change


def _direction(
    problem: Subproblem,
    point: Point,
    memory: PairMemory,
    delta: float,
    carried: Array | None,
    build: ModelBuilder,
    settings: LineSearchSettings,
) -> tuple[TrustRegionSolution, Direction, bool]:
    """Lines 3-14: at most one restart, then the gradient step in the radius (reading 5)."""
    for restarted in (False, True):
        if restarted:
            memory.clear()
            carried = None
            problem = build(memory, point.g)
        sol = problem.solve(delta)
        found = hybrid.mix(
            sol.p, point.g, carried, delta,
            eta=settings.eta, mu=settings.mu, alpha_s=settings.alpha_s, printed=settings.printed,
        )  # fmt: skip
        if _descends(found, problem.g_norm, settings.xi):
            return sol, found, restarted
    length = min(1.0, delta / problem.g_norm)
    slope = -length * problem.g_norm * problem.g_norm
    steepest = Direction(-length * point.g, None, slope, length * problem.g_norm, False, False)
    return sol, steepest, True


def _descends(direction: Direction, g_norm: float, xi: float) -> bool:
    """Negation of line 11: min(|g'p|, |g'p| / ||p||) >= xi ||g||, false also where p is not finite."""
    steep = abs(direction.slope)
    if not (math.isfinite(steep) and direction.norm > 0.0):
        return False
    return min(steep, steep / direction.norm) >= xi * g_norm
