"""Algorithm 5, getRadius: the radius follows a running average of model quality.

A radius rule is a :class:`RadiusRule` of two functions; `progressive` makes the paper's and
the recommended one. To use another, write the two functions and put them into the `Rules` of
:mod:`mblsr1.methods.sr1_trust_region`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from mblsr1.types import NAN, Trial

__all__ = ["BOUNDARY", "RadiusRule", "RadiusState", "doubling", "interpolated", "progressive"]

#: Reading 15: ||s|| counts as on the boundary from this share of the radius on.
BOUNDARY = 1.0 - 1e-3
#: `ratio="mean-of-ratios"`: one ratio counts for no more than this (reading 14).
_RATIO_CLIP = 10.0
#: Below this the mean ratio makes the radius shrink, from the other on it may grow (Alg. 5, l. 6 and 8).
_POOR, _GOOD = 0.1, 0.5
_GROWTH = 2.0
#: On the whole set every step is checked by its loss: the radius needs no upper limit.
_UNBOUNDED = 1e100
_POOR_WHOLE, _GOOD_WHOLE = 0.25, 0.6


class RadiusState(NamedTuple):
    """delta, the running sums behind rho_hat, the weight T and the limits of delta."""

    delta: float
    numerator: float
    denominator: float
    T: float
    smallest: float
    largest: float

    @property
    def rho_hat(self) -> float:
        """The averaged ratio; nan before the first step."""
        return self.numerator / self.denominator if self.denominator != 0.0 else NAN

    def with_delta(self, delta: float) -> RadiusState:
        """Return the state with another radius, kept within its limits."""
        return self._replace(delta=min(max(delta, self.smallest), self.largest))


class RadiusRule(NamedTuple):
    """How the radius moves: `init(delta_0, scale, eps)` and `update(state, trial, full_batch)`."""

    init: Callable[[float, float, float], RadiusState]
    update: Callable[[RadiusState, Trial, bool], RadiusState]


def initial_state(delta_0: float, scale: float, eps: float) -> RadiusState:
    """Line 3 of Algorithm 1: T = 0, rho_hat = 0; delta within [1e-10, 1e2] scale (reading 15).

    Parameters
    ----------
    delta_0 : float
    scale : float
        max(1, ||w_0||).
    eps : float
        Machine epsilon of the vectors; the lower limit is 1e-8 scale in float32. It is lower for a delta_0 under
        1e-4 scale, down to 1e-4 of it, so that no delta_0 is raised that makes steps beyond rounding.
    """
    limit = 1e-10 if eps < 1e-10 else 1e-8
    smallest = limit * min(scale, max(1e4 * delta_0, 1e-4 * scale))
    state = RadiusState(delta_0, 0.0, 0.0, 0.0, smallest, max(1e2 * scale, delta_0))
    return state.with_delta(delta_0)


def progressive(
    ratio_memory: float = 1.0,
    ratio: str = "of-means",
    shrink: float = 0.5,
    thresholds: tuple[float, float] = (_POOR, _GOOD),
    reset: bool = False,
) -> RadiusRule:
    """Return Algorithm 5 with memory zeta.

    Parameters
    ----------
    ratio_memory : float
        The paper's zeta in [0, 1]; 0 is the classic ratio of one step, and is what a batch
        that is the whole set uses in any case (Alg. 6, l. 9).
    ratio : {"of-means", "mean-of-ratios"}
        Ratio of the averages of R and Q (Theorem 4.4), or average of ratios as Algorithm 5
        prints it, each ratio clipped to [-10, 10].
    shrink : float
        Factor on min(delta, ||s||) after a poor mean ratio; 1 is the printed rule, which
        never shrinks where ||s|| = delta.
    thresholds : (float, float)
        Mean ratios below the first shrink the radius, from the second on they let it grow.
    reset : bool
        Forget the sums after each change of the radius: they judge the radius that was. Also lets a Q that noise
        has made positive count in the ratio of means.
    """
    poor, good = thresholds

    def renewed(state: RadiusState) -> RadiusState:
        return state._replace(numerator=0.0, denominator=0.0, T=0.0) if reset else state

    accumulate = _ratio_of_means if ratio == "of-means" else _mean_of_ratios
    noisy_sums = reset and ratio == "of-means"

    def update(state: RadiusState, trial: Trial, full_batch: bool) -> RadiusState:
        if not (math.isfinite(trial.decrease) and math.isfinite(trial.predicted)):
            return state
        if not (trial.predicted < 0.0 or noisy_sums):
            return state
        state = accumulate(state, trial, 0.0 if full_batch else ratio_memory)
        if noisy_sums and state.denominator >= 0.0:  # noise: the model promises nothing yet
            return state
        if state.rho_hat < poor:
            return renewed(state.with_delta(shrink * min(state.delta, trial.s_norm)))
        if state.rho_hat >= good and trial.s_norm >= BOUNDARY * state.delta:
            return renewed(state.with_delta(_GROWTH * state.delta))
        return state

    return RadiusRule(initial_state, update)


def interpolated(noisy: RadiusRule) -> RadiusRule:
    """Return the rule that interpolates along p where the batch is the whole set, else `noisy`.

    After rho < 0.25 the radius becomes the minimiser of the cubic through both losses and slopes;
    after rho > 0.6 near the boundary it grows to where the slope along p vanishes, by 2 to 10
    (measured: docs/default.md).

    Parameters
    ----------
    noisy : RadiusRule
        Rule for batches that are a sample.
    """

    def update(state: RadiusState, trial: Trial, full_batch: bool) -> RadiusState:
        if not full_batch:
            return noisy.update(state, trial, full_batch)
        if not (math.isfinite(trial.decrease) and trial.predicted < 0.0):
            return state
        state = _ratio_of_means(state._replace(largest=_UNBOUNDED), trial, 0.0)
        if state.rho_hat < _POOR_WHOLE:
            return state.with_delta(_clip(_cubic_minimiser(trial), 0.1, 0.5) * trial.s_norm)
        if state.rho_hat > _GOOD_WHOLE and trial.s_norm > 0.8 * state.delta:
            change = trial.slope - trial.slope_new
            share = trial.slope / change if change < 0.0 else 10.0
            return state.with_delta(max(state.delta, _clip(share, 2.0, 10.0) * trial.s_norm))
        return state

    return RadiusRule(noisy.init, update)


def doubling(poor: float = 0.1, good: float = 0.75) -> RadiusRule:
    """Return the rule of S-LSR1: half the radius where rho < `poor`, twice where rho > `good`, wherever the step ended.

    A step whose ratio is not a number counts as poor.
    """

    def update(state: RadiusState, trial: Trial, full_batch: bool) -> RadiusState:
        state = state._replace(numerator=trial.decrease, denominator=trial.predicted, T=1.0)
        if state.rho_hat > good:
            return state.with_delta(2.0 * state.delta)
        return state if state.rho_hat >= poor else state.with_delta(0.5 * state.delta)

    return RadiusRule(initial_state, update)


def _cubic_minimiser(trial: Trial) -> float:
    """Minimiser, in shares of the step, of the cubic through both losses and slopes (Nocedal, Wright, 3.59).

    With the slope -1 at 0 their formula is 1 / (1 - d1 + d2), which is right for a cubic of either sign; a half where
    the cubic falls for ever.
    """
    if not trial.slope < 0.0:
        return 0.5
    slope, achieved = trial.slope_new / -trial.slope, trial.achieved / -trial.slope  # the slope at 0 is -1
    d1 = slope - 1.0 - 3.0 * achieved
    square = d1 * d1 + slope
    if not square >= 0.0:
        return 0.5
    inverse = 1.0 - d1 + math.sqrt(square)
    return 1.0 / inverse if inverse > 0.0 else 0.5


def _clip(x: float, low: float, high: float) -> float:
    return min(max(low, x), high)  # nan gives `low`


def _ratio_of_means(state: RadiusState, trial: Trial, zeta: float) -> RadiusState:
    return state._replace(
        numerator=zeta * state.numerator + trial.decrease,
        denominator=zeta * state.denominator + trial.predicted,
        T=zeta * state.T + 1.0,
    )


def _mean_of_ratios(state: RadiusState, trial: Trial, zeta: float) -> RadiusState:
    rho = min(max(trial.decrease / trial.predicted, -_RATIO_CLIP), _RATIO_CLIP)
    weight = zeta * state.T + 1.0
    # l. 3-5 of Algorithm 5 with rho_hat T kept instead of rho_hat
    return state._replace(numerator=zeta * state.numerator + rho, denominator=weight, T=weight)
