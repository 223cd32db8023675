"""Running means of vectors: of batch gradients (the linear term on samples) and of iterates."""

from __future__ import annotations

from mblsr1 import _array
from mblsr1._array import Array
from mblsr1.types import Carried

__all__ = ["added"]


def added(mean: Carried, x: Array, memory: float) -> Carried:
    """Return the exponential average with x added, memory old + (1 - memory) x, without its bias towards zero.

    The weights of the x in the average add up to 1; `weight` is what they would add up to with the zero at the start.

    Parameters
    ----------
    mean : Carried
        Starts as ``Carried()``.
    x : array (d,)
    memory : float
        Weight of the past, in [0, 1); 0 keeps the newest alone.
    """
    if memory == 0.0:
        return Carried(x, 1.0)
    weight = memory * mean.weight + 1.0 - memory
    if mean.vector is None:
        return Carried(x, weight)
    old = memory * mean.weight / weight
    return Carried(_array.linear([old, 1.0 - old], [mean.vector, x]), weight)
