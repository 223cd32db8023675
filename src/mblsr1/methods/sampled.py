"""S-LSR1, the paper's reference [1]: the pairs are sampled anew at each iterate, and the past is forgotten."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mblsr1 import _array
from mblsr1._array import Array
from mblsr1.checks import integer, positive, share
from mblsr1.linalg.pairs import PairMemory
from mblsr1.linalg.scaling import ScalingRule, constant
from mblsr1.linalg.subproblem import Subproblem, TrustRegionSolution
from mblsr1.methods.sr1_trust_region import scalars_of
from mblsr1.problem import Oracle
from mblsr1.rules.radius import RadiusState, doubling
from mblsr1.rules.warm_start import sample_pairs
from mblsr1.steps.model import ModelBuilder, sr1_model
from mblsr1.types import Method, Outcome, Point, Trial

__all__ = ["s_lsr1"]

#: A step is accepted above this ratio (the authors' code).
_ACCEPT = 1e-6
#: Rejections in a row after which nothing can be gained.
_MAX_FAILURES = 60


class SampledState(NamedTuple):
    """What is carried from step to step; the pairs are not."""

    radius: RadiusState
    failures: int
    n_skipped: int


def s_lsr1(
    memory: int = 10,
    initial_radius: float = 1.0,
    scaling: ScalingRule | None = None,
    skip_tolerance: float = 1e-8,
) -> Method:
    """Return S-LSR1, sampled limited-memory SR1 in a trust region (Berahas, Jahani, Takac 2019).

    At each iterate `memory` random directions are drawn and y is the Hessian times s on the batch of the step: by `hvp`
    where `minimize` has one, else by differences of gradients. The SR1 matrix of these pairs is the model.

    Parameters
    ----------
    memory : int
        >= 0: pairs drawn at each iterate.
    initial_radius : float
        > 0.
    scaling : callable, optional
        gamma rule, see `mblsr1.scaling`, for B0 = gamma I. The default is the authors' B0 = 0.
    skip_tolerance : float
        In [0, 1). A pair is left out where ``|s'(y - Bs)| < skip_tolerance ||s|| ||y - Bs||``.

    Returns
    -------
    Method
        For `minimize`'s `method`.

    Raises
    ------
    ValueError, TypeError
        Where a value is outside its range.

    Notes
    -----
    A step is accepted where rho > 1e-6; the radius doubles where rho > 0.75 and halves where rho < 0.1. What differs
    from the authors' method is in docs/deviations.md. In sample-gradients a step costs, a sample of the
    batch, 1/3 for the loss, 1 for the gradient, `memory` for differences or 2 `memory` for products, 1/3 for the trial.
    Where the batch is the whole set, loss and gradient serve the next step.
    """
    memory = integer("memory", memory, 0)
    initial_radius = positive("initial_radius", initial_radius)
    if scaling is not None and not callable(scaling):
        raise TypeError(f"scaling: must be None or a gamma rule such as mblsr1.scaling.ceiling(), got {scaling!r}")
    build = sr1_model(constant(0.0) if scaling is None else scaling, share("skip_tolerance", skip_tolerance))
    rule = doubling()

    def init(w: Array) -> SampledState:
        return SampledState(rule.init(initial_radius, max(1.0, _array.norm(w)), _array.eps(w)), 0, 0)

    def step(
        oracle: Oracle, state: SampledState, point: Point, rng: np.random.Generator
    ) -> tuple[SampledState, Outcome]:
        model = _sampled_model(oracle, point, memory, build, rng)
        n_pairs = model.B.spectrum.rank
        if not 0.0 < model.g_norm < math.inf:
            return state, _outcome(state, point, Trial(), n_pairs, stuck=oracle.is_full)
        trial = _trial(oracle, point, model.solve(state.radius.delta))
        failures = state.failures + 1 if trial.point is None else 0
        radius = rule.update(state.radius, trial, oracle.is_full)
        state = SampledState(radius, failures, state.n_skipped + memory - n_pairs)
        return state, _outcome(state, point, trial, n_pairs, failures >= _MAX_FAILURES)

    return Method("s-lsr1", init, step)


def _sampled_model(
    oracle: Oracle, point: Point, count: int, build: ModelBuilder, rng: np.random.Generator
) -> Subproblem:
    """The SR1 matrix of pairs around the iterate, with the gradient there."""
    pairs = PairMemory(point.w, count)
    for s, y in sample_pairs(count, point, oracle.gradient, oracle.hvp, rng):
        pairs.push(s, y)
    pairs.project([])
    return build(pairs, point.g)


def _trial(oracle: Oracle, point: Point, sol: TrustRegionSolution) -> Trial:
    """Try the step; `point` of the result is None where it is rejected."""
    change, new = math.inf, None
    if math.isfinite(sol.norm) and sol.model_change < 0.0:
        w = point.w + sol.p
        change = oracle.loss(w) - point.f
        if change / sol.model_change > _ACCEPT:
            new = _accepted(oracle, w)
            change = math.inf if new is None else change
    return Trial(
        point=new, s=sol.p, s_norm=sol.norm, decrease=change, predicted=sol.model_change,
        achieved=0.0 if new is None else change, on_boundary=sol.on_boundary, sigma=sol.sigma,
        alpha=0.0 if new is None else 1.0, slope=sol.slope,
    )  # fmt: skip


def _accepted(oracle: Oracle, w: Array) -> Point | None:
    """The new iterate, with its gradient where that is free or serves the next step; None where it is not finite."""
    f = oracle.loss(w)
    if not (oracle.is_full or oracle.fused):
        oracle.forget()  # a continued run would not have the loss either
        return Point(w, f, None)
    g = oracle.gradient(w)
    return None if g is None else Point(w, f, g)


def _outcome(state: SampledState, point: Point, trial: Trial, n_pairs: int, stuck: bool) -> Outcome:
    w, f, g = point if trial.point is None else trial.point
    scalars = {**scalars_of(trial, state.radius), "n_pairs": n_pairs, "n_skipped": state.n_skipped}
    return Outcome(w, f, g, trial.achieved, scalars, stuck)
