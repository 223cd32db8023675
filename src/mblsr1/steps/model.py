"""The model at an iterate: store the last pair, choose the matrix, project the gradient (Alg. 4, l. 2-3).

A builder is a function ``(memory, g) -> Subproblem``. The pair handed over by the last step is
judged by the matrix of the older pairs, and its inner products are made in the same pass over the
buffer as those of g.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from mblsr1._array import Array
from mblsr1.linalg.lbfgs import LBFGS, lbfgs
from mblsr1.linalg.lsr1 import LSR1
from mblsr1.linalg.pairs import NewPair, PairMemory
from mblsr1.linalg.scaling import ScalingRule, gamma_of
from mblsr1.linalg.smoothed import flat, smoothed
from mblsr1.linalg.subproblem import SpectralMatrix, Subproblem

__all__ = ["ModelBuilder", "better_model", "lbfgs_model", "smoothed_model", "sr1_model"]

ModelBuilder = Callable[[PairMemory, Array], Subproblem]

#: Running mean of log errors in `better_model`: weight of the past, range of an error, and how much
#: smaller the mean log error of SR1 must be (chosen on the development problems, docs/default.md).
_FORGET, _ERROR_RANGE, _ADVANTAGE = 0.8, (1e-4, 1e4), 0.3


def sr1_model(scaling: ScalingRule, skip_tolerance: float) -> ModelBuilder:
    """Return the builder of the SR1 matrix; a pair that it cannot use is not stored.

    Parameters
    ----------
    scaling : callable
        gamma rule, see `mblsr1.scaling`, for B0 = gamma I.
    skip_tolerance : float
        In [0, 1). A pair is skipped where ``|s'(y - Bs)| < skip_tolerance ||s|| ||y - Bs||``.
    """

    def build(memory: PairMemory, g: Array) -> Subproblem:
        accept = _sr1(memory, scaling, skip_tolerance).accepts if memory.pending is not None else None
        return _projected(memory, g, lambda: _sr1(memory, scaling, skip_tolerance), accept)

    return build


def lbfgs_model() -> ModelBuilder:
    """Return the builder of the L-BFGS matrix."""

    def build(memory: PairMemory, g: Array) -> Subproblem:
        return _projected(memory, g, lambda: lbfgs(memory) or flat(memory))

    return build


def smoothed_model(absolute: bool = True) -> ModelBuilder:
    """Return the builder of the smoothed matrix, for noisy pairs."""

    def build(memory: PairMemory, g: Array) -> Subproblem:
        return _projected(memory, g, lambda: smoothed(memory, absolute) if len(memory) else flat(memory))

    return build


def better_model(scaling: ScalingRule, skip_tolerance: float) -> ModelBuilder:
    """Return the builder of the SR1 or the L-BFGS matrix, whichever has predicted new pairs better.

    Each new pair is first predicted by both matrices of the older pairs, e = ||y - Bs|| / ||y||; the
    running mean of log e decides.
    """

    def candidates(memory: PairMemory) -> tuple[LSR1, LBFGS | None]:
        if memory.matrix is None:
            memory.matrix = LSR1.from_memory(memory, gamma_of(scaling, memory.blocks()), skip_tolerance), lbfgs(memory)
        both: tuple[LSR1, LBFGS | None] = memory.matrix
        return both

    def build(memory: PairMemory, g: Array) -> Subproblem:
        def judge(pair: NewPair) -> bool:
            for i, matrix in enumerate(candidates(memory)):
                if matrix is not None:
                    memory.scores[i] = _FORGET * memory.scores[i] + (1.0 - _FORGET) * _log_error(matrix, pair)
            return True

        def chosen() -> LSR1 | LBFGS:
            sr1, bfgs = candidates(memory)
            behind = memory.scores[0] >= memory.scores[1] - _ADVANTAGE
            return bfgs if bfgs is not None and behind else sr1

        return _projected(memory, g, chosen, judge)

    return build


def _projected(
    memory: PairMemory,
    g: Array,
    matrix: Callable[[], SpectralMatrix],
    accept: Callable[[NewPair], bool] | None = None,
) -> Subproblem:
    """Store the pending pair, project g in the same pass, and only then make the matrix."""
    z, own = memory.project_all([g], accept)
    return Subproblem(matrix(), g, z[:, 0], own[0, 0])


def _log_error(matrix: LSR1 | LBFGS, pair: NewPair) -> float:
    error = matrix.prediction_error(pair)
    low, high = _ERROR_RANGE
    return math.log(max(low, error) if error < high else high)  # nan is no good prediction


def _sr1(memory: PairMemory, scaling: ScalingRule, skip_tolerance: float) -> LSR1:
    """The matrix of the pairs as they are; made once for each state of the memory."""
    if memory.matrix is None:
        memory.matrix = LSR1.from_memory(memory, gamma_of(scaling, memory.blocks()), skip_tolerance)
    matrix: LSR1 = memory.matrix
    return matrix
