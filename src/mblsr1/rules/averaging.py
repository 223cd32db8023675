"""Running means of vectors: of batch gradients (the linear term on samples) and of iterates."""

from __future__ import annotations

from mblsr1 import _array
from mblsr1._array import Array
from mblsr1.types import Carried

__all__ = ["added", "mean_of"]


def added(mean: Carried, x: Array, memory: float) -> Carried:
    """Return the exponential average with x added: memory old + (1 - memory) x, and the weight it has gathered.

    Parameters
    ----------
    mean : Carried
        Starts as ``Carried()``, at zero with weight zero.
    x : array (d,)
    memory : float
        Weight of the past, in [0, 1); 0 keeps the newest alone.
    """
    if memory == 0.0:
        return Carried(x, 1.0)
    if mean.vector is None:
        return Carried((1.0 - memory) * x, 1.0 - memory)
    return Carried(_array.linear([memory, 1.0 - memory], [mean.vector, x]), memory * mean.weight + 1.0 - memory)


def mean_of(mean: Carried) -> Array:
    """Return the average without its bias towards zero."""
    value: Array = mean.vector
    return value if mean.weight == 1.0 else value * (1.0 / mean.weight)
