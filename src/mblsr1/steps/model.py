"""The model at an iterate: store the last pair, choose gamma, project the gradient (Alg. 4, l. 2-3)."""

from __future__ import annotations

import math
from collections.abc import Callable

from mblsr1._array import Array
from mblsr1.linalg.lbfgs import lbfgs, prediction_error
from mblsr1.linalg.lsr1 import LSR1
from mblsr1.linalg.pairs import NewPair, PairMemory
from mblsr1.linalg.scaling import ScalingRule
from mblsr1.linalg.smoothed import SpectralMatrix, smoothed
from mblsr1.linalg.subproblem import Subproblem

__all__ = ["ModelBuilder", "build_better", "build_model", "build_smoothed"]

#: Running mean of log errors in `build_better`: weight of the past, range of e, advantage of (SR1, L-BFGS).
_FORGET, _ERROR_RANGE, _ADVANTAGE = 0.8, (1e-4, 1e4), (0.0, 0.1)

ModelBuilder = Callable[[PairMemory, Array], Subproblem]


def build_model(memory: PairMemory, g: Array, scaling: ScalingRule, skip_tolerance: float) -> Subproblem:
    """Return the subproblem of the SR1 matrix of the stored pairs at gradient g.

    The pair handed over by the last step is judged by the matrix of the older pairs, and its
    inner products are made in the same pass over the buffer as those of g.
    """
    if memory.pending is not None:
        z = memory.project([g], _matrix(memory, scaling, skip_tolerance).accepts)[:, 0]
    else:
        z = memory.project([g])[:, 0]
    return Subproblem(_matrix(memory, scaling, skip_tolerance), g, z)


def build_better(memory: PairMemory, g: Array, scaling: ScalingRule, skip_tolerance: float) -> Subproblem:
    """Return the subproblem of the SR1 or the L-BFGS matrix, whichever has predicted new pairs better.

    Each new pair is first predicted by both matrices of the older pairs: e = ||y - Bs|| / ||y||; the
    running mean of log e decides, with a small advantage to L-BFGS.
    """

    def judge(pair: NewPair) -> bool:
        for i, matrix in enumerate(_candidates(memory, scaling, skip_tolerance)):
            if matrix is not None:
                error = prediction_error(matrix.spectrum, pair.rows_s, pair.rows_y, pair.ss, pair.sy, pair.yy)
                log_error = math.log(min(max(error, _ERROR_RANGE[0]), _ERROR_RANGE[1])) - _ADVANTAGE[i]
                memory.scores[i] = _FORGET * memory.scores[i] + (1.0 - _FORGET) * log_error
        return True

    z = memory.project([g], judge)[:, 0]
    sr1, bfgs = _candidates(memory, scaling, skip_tolerance)
    better = sr1 if bfgs is None or memory.scores[0] < memory.scores[1] else bfgs
    return Subproblem(better, g, z)


def _candidates(
    memory: PairMemory, scaling: ScalingRule, skip_tolerance: float
) -> tuple[LSR1, SpectralMatrix | None]:
    if memory.matrix is None:
        memory.matrix = (LSR1.from_memory(memory, scaling(memory.blocks()), skip_tolerance), lbfgs(memory))
    both: tuple[LSR1, SpectralMatrix | None] = memory.matrix
    return both


def build_smoothed(memory: PairMemory, g: Array, absolute: bool, xx: dict = {}) -> Subproblem:
    """Return the subproblem of the smoothed matrix of the stored pairs at linear term g."""
    z = memory.project([g])[:, 0]
    return Subproblem(smoothed(memory, absolute, xx), g, z)


def _matrix(memory: PairMemory, scaling: ScalingRule, skip_tolerance: float) -> LSR1:
    """The matrix of the pairs as they are; made once for each state of the memory."""
    if memory.matrix is None:
        memory.matrix = LSR1.from_memory(memory, scaling(memory.blocks()), skip_tolerance)
    matrix: LSR1 = memory.matrix
    return matrix
