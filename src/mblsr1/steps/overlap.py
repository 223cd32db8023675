"""The step for noisy batches: a running mean as linear term, the model judged on shared samples.

One evaluation of the batch a step: no loss-only evaluation, no line search, no rejection. Pairs and
ratio come from the samples that this batch shares with the next, evaluated at both iterates; so
y and R belong to one function, and their values at the new iterate are paid for by the next batch.
"""

from __future__ import annotations

import math

from mblsr1 import _array
from mblsr1._array import Array
from mblsr1.linalg.metric import IDENTITY, Metric
from mblsr1.linalg.pairs import PairMemory
from mblsr1.linalg.subproblem import TrustRegionSolution
from mblsr1.problem import Oracle
from mblsr1.rules.averaging import added
from mblsr1.rules.line_search import rounding
from mblsr1.steps.model import ModelBuilder
from mblsr1.types import NAN, Carried, Point, Trial

__all__ = ["annealed", "overlap_step"]

#: Part of the budget in which the radius is annealed, and the share of it that stays.
_LAST_PART, _LAST_SHARE = 0.25, 1e-3


def overlap_step(
    oracle: Oracle,
    point: Point,
    memory: PairMemory,
    delta: float,
    mean: Carried,
    beta: float,
    build: ModelBuilder,
    metric: Metric = IDENTITY,
) -> tuple[Trial, Carried]:
    """Make a step on one batch.

    Parameters
    ----------
    oracle : Oracle
        `oracle.shared` are the samples that give y, R and Q.
    point : Point
        Iterate and batch gradient.
    memory, delta
        Pairs, radius.
    mean : Carried
        Average of the earlier batch gradients.
    beta : float
        Its weight on the past.
    build : callable
        (memory, linear term) -> Subproblem.
    metric : Metric
        In whose coordinates the model is made and the radius counts.

    Returns
    -------
    trial : Trial
        `point` is None where loss or gradient at the new iterate is not finite; `stationary` where the batch
        gradient or the linear term is zero, or too small to be scaled to the radius.
    mean : Carried
        The average with this batch's gradient.
    """
    mean = added(mean, point.g, beta)
    metric.observe(point.g, memory)
    problem = build(memory, metric.of_gradient(mean.vector))
    if not (0.0 < problem.g_norm < math.inf and oracle.norm_at(point) > 0.0):
        return Trial(radius=delta, stationary=True), mean
    sol = problem.solve(delta)
    if not math.isfinite(sol.norm):  # a gradient too small to be scaled
        return Trial(radius=delta, stationary=True), mean
    shared = oracle.shared
    f, g = shared.loss(point.w), shared.gradient(point.w)
    p = metric.to_step(sol.p)
    w = point.w + p
    f_new, g_new = shared.loss(w), shared.gradient(w)
    trial = Trial(s_norm=sol.norm, on_boundary=sol.on_boundary, radius=delta, sigma=sol.sigma, slope=sol.slope)
    if g is None or g_new is None or not math.isfinite(f_new):
        shared.forget()  # they are of a point that is not taken
        return trial, mean
    predicted = _predicted(g, p, sol)
    decided = abs(predicted) > rounding(f, _array.loss_eps(w))  # reading 7
    return trial._replace(
        point=Point(w, f_new, g_new), s=sol.p, y=metric.of_gradient(g_new - g),
        decrease=f_new - f if decided else NAN, predicted=predicted, achieved=f_new - f, alpha=1.0,
    ), mean  # fmt: skip


def _predicted(g: Array, p: Array, sol: TrustRegionSolution) -> float:
    """Q on the shared samples: their slope with the model's curvature."""
    curvature = -sol.slope - sol.sigma * sol.norm * sol.norm  # p'Bp, since (B + sigma I) p = -mean
    return _array.dot(g, p) + 0.5 * curvature


def annealed(delta: float, share_spent: float) -> float:
    """The radius towards the end of a budget: in its last quarter it falls to zero in a line.

    The radius rule sees the step beside the whole radius, which there cannot grow, and shrinks from the short step that
    was made. To judge beside the annealed radius was tried, and is no better.
    """
    return delta * min(1.0, max((1.0 - share_spent) / _LAST_PART, _LAST_SHARE))
