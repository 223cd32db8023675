"""Algorithm 6, getBatch: the batch doubles when progress on fresh data falls behind.

A batch rule is a function ``(state, outcome, problem) -> state``; `problem` offers `n_samples`
and `fresh_loss(size, *iterates)`, which draws an independent check sample.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any

from mblsr1.types import BatchRule, CheckState, Outcome

__all__ = [
    "checked_size",
    "counted",
    "default_check_size",
    "fixed",
    "initial_check_state",
    "noise_growth",
    "progress_check",
    "sample_size",
]

#: Cap of the printed check sample, min(1.1 n_b, 5000).
_LARGEST_CHECK = 5000
#: Weight of the past in the mean noise, and the weight it must have before the batch may double.
_NOISE_MEMORY, _NOISE_STEPS = 0.9, 4.0


def default_check_size(batch_size: int) -> int:
    """n_hat = ceil(min(1.1 n_b, 5000)) (reading 11)."""
    return min(-(-11 * batch_size // 10), _LARGEST_CHECK)


def initial_check_state(batch_size: int) -> CheckState:
    """State before the first step: no reference f_K yet (reading 10)."""
    return CheckState(batch_size, math.nan, 0.0, 0, None)


def counted(state: CheckState, outcome: Outcome) -> CheckState:
    """Return the state with one more step, before any check; a check that the budget forbids is due again."""
    return state._replace(sum_decrease=state.sum_decrease + outcome.achieved, since=state.since + 1)


def fixed() -> BatchRule:
    """Return the rule that never changes the batch size."""
    return lambda state, outcome, problem: state


def progress_check(
    every: int = 10,
    gamma_1: float = 0.0,
    gamma_2: float = 0.1,
    size: int | str | Callable[[int], int] = default_check_size,
    both: bool = False,
) -> BatchRule:
    """Return Algorithm 6.

    Parameters
    ----------
    every : int
        K: steps between checks.
    gamma_1, gamma_2 : float
        The batch doubles where f(w) - f_K >= -gamma_1 + gamma_2 sum of R on a fresh sample.
        The sum runs over exactly the K steps since the last check (reading 9).
    size : int, "all" or callable n_b -> n_hat
        Size of the fresh sample.
    both : bool
        Evaluate f_K anew on the same fresh sample, at the iterate of the last check
        (less noise, one more loss; reading 11).
    """

    def update(state: CheckState, outcome: Outcome, problem: object) -> CheckState:
        total = problem.n_samples  # type: ignore[attr-defined]
        if total is not None and state.size >= total:
            return state
        state = counted(state, outcome)
        first = math.isnan(state.reference)
        if not first and state.since < every:
            return state
        iterates = [outcome.w] if first or not both else [outcome.w, state.w]
        losses = problem.fresh_loss(sample_size(size, state.size, total), *iterates)  # type: ignore[attr-defined]
        reference = losses[1] if len(losses) > 1 else state.reference
        stalled = not first and not losses[0] - reference < -gamma_1 + gamma_2 * state.sum_decrease
        grown = state.size if not stalled else 2 * state.size if total is None else min(2 * state.size, total)
        # A loss that is not finite is no reference; the next check starts from a clean one.
        return CheckState(
            grown, losses[0] if math.isfinite(losses[0]) else math.nan, 0.0, 0, outcome.w if both else None
        )

    return update


def noise_growth(limit: float = 0.6, largest_share: float = 0.25) -> BatchRule:
    """Return the norm test: the batch doubles where most of its gradient is noise.

    The parts of an overlapping batch tell the variance of its gradient at no cost
    (``outcome.scalars["noise"]``, as a share of the gradient's square). Where the running mean of that
    share exceeds `limit`, the batch doubles (after Byrd, Chin, Nocedal, Wu 2012, section 4).

    Parameters
    ----------
    limit : float
        In (0, 1]; pure noise has a share of about 1.
    largest_share : float
        The batch grows up to this share of the whole set.
    """

    def update(state: CheckState, outcome: Outcome, problem: Any) -> CheckState:
        noise = outcome.scalars.get("noise", math.nan)
        total = problem.n_samples
        if not math.isfinite(noise) or (total is not None and 2 * state.size > largest_share * total):
            return state
        weight = _NOISE_MEMORY * state.since + 1.0
        average = (_NOISE_MEMORY * state.since * state.sum_decrease + noise) / weight
        if weight > _NOISE_STEPS and average > limit:
            return initial_check_state(2 * state.size)
        return state._replace(sum_decrease=average, since=weight)

    return update


def checked_size(state: CheckState, total: int | None) -> CheckState:
    """Return the state if its batch size is an int >= 1, within the whole set."""
    size: Any = state.size  # from a rule that may be the user's
    if not isinstance(size, numbers.Integral) or int(size) < 1:
        raise ValueError(f"batch_rule: must return a state whose size is an int >= 1, got {size!r}")
    return state if total is None or int(size) <= total else state._replace(size=total)


def sample_size(size: int | str | Callable[[int], int], batch_size: int, total: int | None) -> int:
    """Return n_hat for a batch of n_b; `total` is the size of the whole set, or None."""
    wanted: Any = total if size == "all" else size(batch_size) if callable(size) else int(size)
    if wanted is None:
        raise ValueError('check_size: "all" needs a sampler with a known n_samples; this one is a stream')
    if not isinstance(wanted, numbers.Integral) or wanted < 1:
        raise ValueError(f"check_size: must return an int >= 1 for a batch of {batch_size}, got {wanted!r}")
    return int(wanted) if total is None else min(int(wanted), total)
