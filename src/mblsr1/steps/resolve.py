"""The recommended step: where the model was wrong, solve it again in a smaller radius.

The new step is the best one in the smaller radius, where a line search would shorten the old one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from mblsr1 import _array
from mblsr1._array import Array
from mblsr1.linalg.metric import IDENTITY, Metric
from mblsr1.linalg.pairs import PairMemory
from mblsr1.linalg.subproblem import Subproblem, TrustRegionSolution
from mblsr1.problem import Oracle
from mblsr1.rules.line_search import rounding
from mblsr1.steps.model import ModelBuilder
from mblsr1.types import NAN, Point, Trial

__all__ = ["resolve"]

#: A step is accepted above this ratio.
_ACCEPT = 1e-4
#: Consecutive rejections after which nothing can be gained.
_MAX_REJECTIONS = 60
#: The radius after a rejection, as shares of ||p||.
_SMALLEST_SHARE, _LARGEST_SHARE = 0.1, 0.5


class _Try(NamedTuple):
    f: float
    g: Array | None
    ratio: float
    accepted: bool
    slope: float = NAN  # along p at w + p


def resolve(
    oracle: Oracle,
    point: Point,
    memory: PairMemory,
    delta: float,
    floor: float,
    build: ModelBuilder,
    metric: Metric = IDENTITY,
) -> Trial:
    """Make the step of one iteration: the first of a sequence of radii at which the model holds.

    The model is made, and the radius counts, in the coordinates of `metric`.

    A rejected point whose gradient is at hand gives a pair as well. `point` of the result is None
    where no radius down to `floor` helped.
    """
    slack = rounding(point.f, _array.loss_eps(point.w))
    metric.observe(point.g, memory)
    g = metric.of_gradient(point.g)
    problem = build(memory, g)
    if not 0.0 < problem.g_norm < math.inf:
        return Trial(radius=delta, stationary=True)
    rejections = 0
    while rejections < _MAX_REJECTIONS and (delta > floor or rejections == 0):
        sol = problem.solve(delta)
        p = metric.to_step(sol.p)
        w = point.w + p
        tried = _try(oracle, point, problem, sol, p, w, slack, metric)
        y = None if tried.g is None else metric.of_gradient(tried.g - point.g)
        if tried.accepted:
            return _accepted(sol, w, tried, point.f, y, delta, slack, rejections)
        rejections += 1
        delta = _smaller(point, sol, tried, delta)
        if y is not None:
            memory.push(sol.p, y)
            problem = build(memory, g)
    return Trial(radius=delta, rejections=rejections)


def _try(
    oracle: Oracle,
    point: Point,
    problem: Subproblem,
    sol: TrustRegionSolution,
    p: Array,
    w: Array,
    slack: float,
    metric: Metric,
) -> _Try:
    """Evaluate a trial point; the gradient only where the loss did not rise, unless it comes free."""
    if not (math.isfinite(sol.norm) and sol.model_change < 0.0):
        return _Try(math.inf, None, -math.inf, False)
    oracle.look_along(p)
    f = oracle.loss(w)
    change = f - point.f
    ratio = (change - slack) / (sol.model_change - slack) if math.isfinite(f) else -math.inf
    if not (math.isfinite(f) and (ratio >= 0.0 or oracle.fused)):
        return _Try(f, None, ratio, False)
    g = oracle.gradient(w)
    if g is None:
        return _Try(f, None, ratio, False)
    accepted = ratio > _ACCEPT
    if accepted and abs(change) <= slack:  # rounding: the gradient decides
        accepted = oracle.norm_at(Point(w, f, metric.of_gradient(g))) < problem.g_norm
    return _Try(f, g, ratio, accepted, oracle.slope)


def _smaller(point: Point, sol: TrustRegionSolution, tried: _Try, delta: float) -> float:
    """The radius after a rejection, from the parabola through f(w), g'p and f(w + p) (Nocedal, Wright, 3.57)."""
    curvature = tried.f - point.f - sol.slope
    share = -0.5 * sol.slope / curvature if math.isfinite(curvature) and curvature > 0.0 else _SMALLEST_SHARE
    return min(max(share, _SMALLEST_SHARE), _LARGEST_SHARE) * min(delta, sol.norm)  # ||p|| may be nan


def _accepted(
    sol: TrustRegionSolution, w: Array, tried: _Try, f: float, y: Array, delta: float, slack: float, rejections: int
) -> Trial:
    change = tried.f - f
    return Trial(
        point=Point(w, tried.f, tried.g), s=sol.p, y=y, s_norm=sol.norm,
        decrease=change if abs(sol.model_change) > slack else NAN, predicted=sol.model_change, achieved=change,
        on_boundary=sol.on_boundary, radius=delta, sigma=sol.sigma, alpha=1.0, slope=sol.slope,
        slope_new=tried.slope, rejections=rejections,
    )  # fmt: skip
