"""MB-LSR1 as a method: lines 5, 8 and 9 of Algorithm 1, composed from rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mblsr1 import _array
from mblsr1._array import Array
from mblsr1.linalg.metric import IDENTITY, Metric
from mblsr1.linalg.pairs import PairMemory
from mblsr1.problem import Oracle
from mblsr1.rules.line_search import rounding
from mblsr1.rules.metric import MetricRule, identity
from mblsr1.rules.pairs import PairRule
from mblsr1.rules.radius import RadiusRule, RadiusState
from mblsr1.rules.warm_start import sample_pairs
from mblsr1.types import NAN, BatchRule, Carried, Method, Outcome, Point, Trial

__all__ = ["Regime", "Rules", "SR1State", "StepRule", "scalars_of", "sr1_trust_region"]

#: Steps without a move, or without a gain at the smallest radius, after which the run ends.
_MAX_FAILURES = 60


class SR1State(NamedTuple):
    """Everything the method carries from step to step."""

    memory: PairMemory
    radius: RadiusState
    carried: Carried
    failures: int
    n_restarts: int
    metric: Metric = IDENTITY


StepRule = Callable[[Oracle, Point, SR1State], tuple[Trial, Carried]]


class Regime(NamedTuple):
    """How steps are made and the radius moves, on batches of one kind.

    Attributes
    ----------
    step : callable
        ``(oracle, point, state) -> (trial, carried)``.
    radius : RadiusRule
        How the radius follows the ratio.
    """

    step: StepRule
    radius: RadiusRule


class Rules(NamedTuple):
    """The replaceable parts of a method in a trust region.

    Attributes
    ----------
    noisy, whole : Regime
        Steps and radius on batches that are a sample, and on the whole set.
    pairs : callable
        Which pairs are kept, such as `mblsr1.rules.pairs.classic()`.
    batch : callable
        How the batch grows, such as `mblsr1.rules.batch.progress_check()`.
    metric : callable
        See `mblsr1.metric`; the default is M = I.
    """

    noisy: Regime
    whole: Regime
    pairs: PairRule
    batch: BatchRule
    metric: MetricRule = identity()


def sr1_trust_region(name: str, memory: int, initial_radius: float, rules: Rules, overlap: float = 0.0) -> Method:
    """Return the method made of these rules; MB-LSR1, L-SSR1-TR and the default differ in nothing else.

    Parameters
    ----------
    name : str
        Kept in states: one that another method wrote is refused.
    memory : int
        >= 0: pairs kept.
    initial_radius : float
        > 0.
    rules : Rules
    overlap : float
        Share of a batch that the next one evaluates again, for steps that need it.

    Returns
    -------
    Method
    """

    def init(w: Array) -> SR1State:
        radius = rules.noisy.radius.init(initial_radius, max(1.0, _array.norm(w)), _array.eps(w))
        return SR1State(PairMemory(w, memory), radius, Carried(), 0, 0, rules.metric(w))

    def step(oracle: Oracle, state: SR1State, point: Point, rng: np.random.Generator) -> tuple[SR1State, Outcome]:
        regime = rules.whole if oracle.is_full else rules.noisy
        trial, carried = regime.step(oracle, point, state)
        if trial.stationary:
            return state, _outcome(state, point, trial, stuck=oracle.is_full)
        state = state._replace(carried=carried, n_restarts=state.n_restarts + trial.restarted)
        if trial.point is None:
            return _stay(state, point, trial, oracle.is_full)
        radius = regime.radius.update(state.radius.with_delta(trial.radius), trial, oracle.is_full)  # line 8
        fill = _filler(oracle, trial.point, rng, state.metric)
        restarted = rules.pairs(state.memory, trial, fill)  # line 9
        failures = _failures(state.failures, radius, trial, point, oracle.is_full)
        state = state._replace(radius=radius, failures=failures, n_restarts=state.n_restarts + restarted)
        outcome = _outcome(state, trial.point, trial, failures >= _MAX_FAILURES)
        outcome.scalars["noise"] = oracle.noise
        return state, outcome

    return Method(name, init, step, True, rules.batch, overlap)


def _failures(before: int, radius: RadiusState, trial: Trial, point: Point, full_batch: bool) -> int:
    """How many steps at the smallest radius gained no more than rounding: many of them are a silent stall.

    On a sample a gain may be noise: it makes up for one such step, on the whole set for all of them.
    """
    if radius.delta > radius.smallest:
        return 0
    if trial.achieved >= -rounding(point.f, _array.loss_eps(point.w)):
        return before + 1
    return 0 if full_batch else max(before - 1, 0)


def _filler(
    oracle: Oracle, point: Point, rng: np.random.Generator, metric: Metric
) -> Callable[[int], list[tuple[Array, Array]]]:
    part = oracle.shared  # the samples that `point` and the step's own pair are of

    def fill(count: int) -> list[tuple[Array, Array]]:
        pairs = sample_pairs(count, point, part.gradient, part.hvp, rng, metric)
        part.remember(point.w, point.f, point.g)  # for the next batch
        return pairs

    return fill


def _stay(state: SR1State, point: Point, trial: Trial, full_batch: bool) -> tuple[SR1State, Outcome]:
    """No step was found: s = v = 0, no pair, and the radius halves (reading 6).

    From the radius last tried where the batch is the whole set; a sample says nothing of the next one.
    """
    tried = min(trial.radius, state.radius.delta) if full_batch else state.radius.delta
    at_floor = tried <= state.radius.smallest
    state = state._replace(
        radius=state.radius.with_delta(0.5 * tried),
        carried=Carried(), failures=state.failures + 1,
    )  # fmt: skip
    stuck = at_floor or state.failures >= _MAX_FAILURES
    return state, _outcome(state, point, trial, stuck)


def scalars_of(trial: Trial, radius: RadiusState) -> dict[str, float]:
    """What the history keeps of a tried step and of the radius after it."""
    return {
        "rho": trial.decrease / trial.predicted if trial.predicted < 0.0 else NAN,
        "rho_hat": radius.rho_hat,
        "radius": radius.delta,
        "step_norm": trial.s_norm,
        "alpha": trial.alpha,
        "sigma": trial.sigma,
        "decrease": trial.achieved,
        "predicted": trial.predicted,
        "slope": trial.slope,
        "on_boundary": float(trial.on_boundary),
    }


def _outcome(state: SR1State, new: Point, trial: Trial, stuck: bool = False) -> Outcome:
    scalars = {
        **scalars_of(trial, state.radius),
        "rejections": trial.rejections,
        "flipped": float(trial.flipped),
        "n_pairs": min(len(state.memory) + (state.memory.pending is not None), state.memory.limit),
        "n_restarts": state.n_restarts,
        "n_skipped": state.memory.n_refused,
    }
    return Outcome(new.w, new.f, new.g, trial.achieved, scalars, stuck)
