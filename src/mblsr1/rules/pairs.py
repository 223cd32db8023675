"""Algorithm 3, updateSY: keep the new pair, or empty or refill the memory.

A pair rule is a function ``(memory, trial, fill) -> bool`` that changes the memory and says
whether it restarted it; `fill(k)` draws k pairs at the new iterate (:mod:`~mblsr1.rules.warm_start`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from mblsr1._array import Array
from mblsr1.linalg.pairs import PairMemory
from mblsr1.types import Trial

__all__ = ["PairRule", "classic", "restart"]

Pairs = list[tuple[Array, Array]]
PairRule = Callable[[PairMemory, Trial, Callable[[int], Pairs]], bool]


def classic() -> PairRule:
    """Return the rule that always keeps the new pair (m_hat = -1; Alg. 3, l. 11-12)."""

    def update(memory: PairMemory, trial: Trial, fill: Callable[[int], Pairs]) -> bool:
        if trial.s is not None and trial.y is not None:
            memory.push(trial.s, trial.y)
        return False

    return update


def restart(tolerance: float = 0.0, refill: int = 0) -> PairRule:
    """Return the rule that starts afresh after a ratio below `tolerance` (m_hat >= 0; Alg. 3, l. 2-8).

    Parameters
    ----------
    tolerance : float
        The paper's tau; compared with the raw ratio, not the averaged one (reading 12).
    refill : int
        The paper's m_hat: pairs to sample after emptying; 0 leaves the memory empty.
    """
    keep = classic()

    def update(memory: PairMemory, trial: Trial, fill: Callable[[int], Pairs]) -> bool:
        decided = math.isfinite(trial.decrease) and trial.predicted < 0.0
        if not (decided and trial.decrease / trial.predicted < tolerance):
            return keep(memory, trial, fill)
        pairs = fill(refill) if refill else []
        memory.clear()
        for s, y in pairs:
            memory.push(s, y)
        return True

    return update
