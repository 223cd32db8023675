"""Pairs sampled around an iterate: S-LSR1 of the paper's reference [1], used by Algorithm 3, l. 4-5."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mblsr1 import _array
from mblsr1._array import Array
from mblsr1.linalg.metric import IDENTITY, Metric
from mblsr1.types import Point

__all__ = ["sample_pairs"]


def sample_pairs(
    count: int,
    point: Point,
    gradient: Callable[[Array], Array | None],
    hvp: Callable[[Array, Array], Array] | None,
    rng: np.random.Generator,
    metric: Metric = IDENTITY,
) -> list[tuple[Array, Array]]:
    """Draw `count` pairs around `point`, all on one batch.

    With `hvp` y is the Hessian times s; else y = g(w + s) - g(w) with
    ||s|| = sqrt(eps) max(1, ||w||). A pair whose gradient is not finite is left out.

    Parameters
    ----------
    count : int
    point : Point
        Iterate and its gradient on the batch.
    gradient : callable
        w -> gradient on the same batch, None where it is not finite.
    hvp : callable or None
        (w, v) -> Hessian times v on the same batch.
    rng : numpy.random.Generator
    metric : Metric

    Returns
    -------
    list of (s, y), arrays (d,), in the coordinates of `metric`
    """
    length = math.sqrt(_array.eps(point.w)) * max(1.0, _array.norm(point.w))
    pairs = []
    for _ in range(count):
        s = _array.normal(rng, point.w)
        s = s * (length / _array.norm(s))
        step = metric.to_step(s)
        if hvp is not None:
            y = hvp(point.w, step)
        else:
            ahead = gradient(point.w + step)
            if ahead is None:
                continue
            y = ahead - point.g
        if _array.all_finite(y):
            pairs.append((s, metric.of_gradient(y)))
    return pairs
