"""The model at an iterate: store the last pair, choose gamma, project the gradient (Alg. 4, l. 2-3)."""

from __future__ import annotations

from collections.abc import Callable

from mblsr1._array import Array
from mblsr1.linalg.lsr1 import LSR1
from mblsr1.linalg.pairs import PairMemory
from mblsr1.linalg.scaling import ScalingRule
from mblsr1.linalg.smoothed import smoothed
from mblsr1.linalg.subproblem import Subproblem

__all__ = ["ModelBuilder", "build_model", "build_smoothed"]

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
