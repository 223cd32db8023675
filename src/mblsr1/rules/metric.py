"""Rules for the metric M of the trust region.

A rule is a function of the start w (d,) that returns a :class:`~mblsr1.linalg.metric.Metric`.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import Any

from mblsr1._array import Array
from mblsr1.checks import integer, real
from mblsr1.linalg.metric import IDENTITY, Fixed, Kronecker, KroneckerSettings, Metric

__all__ = ["MetricRule", "diagonal", "fixed", "identity", "kronecker"]

#: A function of the start w (d,) that returns the metric of a run, an object with the methods of `Metric`.
MetricRule = Callable[[Array], Metric]
Shape = tuple[int, ...]


def identity() -> MetricRule:
    """Return the rule M = I."""
    return lambda w: IDENTITY


def fixed(of_gradient: Callable[[Array], Array], to_step: Callable[[Array], Array] | None = None) -> MetricRule:
    """Return the rule of a metric that is known, M = C C': the mass matrix of a discretised problem, say.

    Parameters
    ----------
    of_gradient : callable
        v -> C^-1 v for a vector (d,) of the caller's library.
    to_step : callable, optional
        v -> C^-T v, (d,) as well; the default is `of_gradient`, for C = M^(1/2), which is symmetric.

    Returns
    -------
    MetricRule
        For `metric` of `minimize` and `Options`.

    Raises
    ------
    TypeError
        Where one of them is no function.

    Notes
    -----
    Scaled trust regions: Conn, Gould, Toint 2000, section 6.7.

    Examples
    --------
    >>> import numpy as np, mblsr1
    >>> M = np.array([1.0, 100.0])
    >>> metric = mblsr1.metric.fixed(lambda v: v / np.sqrt(M))
    >>> result = mblsr1.minimize(lambda w: 0.5 * M @ w**2, lambda w: M * w, np.ones(2), metric=metric)
    >>> result.success
    True
    """
    for name, function in (("of_gradient", of_gradient), ("to_step", to_step)):
        if not (callable(function) or (function is None and name == "to_step")):
            raise TypeError(f"{name}: must be a function of a vector, got {function!r}")
    return lambda w: Fixed(of_gradient, of_gradient if to_step is None else to_step)


def diagonal(**settings: Any) -> MetricRule:
    """Return the rule of a diagonal M, a power of the running mean of the gradients' squares.

    Parameters
    ----------
    **settings
        Of `mblsr1.linalg.metric.KroneckerSettings`: exponent, memory, every, floor, stride.

    Returns
    -------
    MetricRule
        For `metric` of `minimize` and `Options`.

    Raises
    ------
    ValueError, TypeError
        Where a setting is outside its range or has another name.

    Notes
    -----
    The statistics are those of Adam (Kingma and Ba 2015); M follows them every few steps, and the pairs with it.
    """
    chosen = _checked(KroneckerSettings(**settings))
    return lambda w: Kronecker(w, [(int(w.shape[0]),)], chosen)


def kronecker(blocks: Sequence[Shape | int], **settings: Any) -> MetricRule:
    """Return the rule of an M that is diagonal in a Kronecker-factored basis of each block.

    Parameters
    ----------
    blocks : sequence of shapes
        Shapes of the arrays that make up w, in order; (a, b, c, ...) is a matrix of a rows, as a convolution's kernel
        (out, in, height, width) is; a vector, (a,) or a, has a diagonal.
    **settings
        Of `mblsr1.linalg.metric.KroneckerSettings`: exponent, memory, every, floor, largest_side, stride.

    Returns
    -------
    MetricRule
        For `metric` of `minimize` and `Options`.

    Raises
    ------
    ValueError, TypeError
        Where a shape is not one of positive integers or a setting is outside its range, or at the start of a run where
        the shapes do not add up to w.

    Notes
    -----
    The statistics are those of SOAP (Vyas et al. 2024).
    """
    shapes, chosen = checked_shapes(blocks), _checked(KroneckerSettings(**settings))
    return lambda w: Kronecker(w, shapes, chosen)


def _checked(settings: KroneckerSettings) -> KroneckerSettings:
    """The settings, where each is in its range."""
    real("exponent", settings.exponent, " in [0, 0.5]", lambda x: 0.0 <= x <= 0.5, "a number")
    real("floor", settings.floor, " in [0, 1]", lambda x: 0.0 <= x <= 1.0, "a number")
    real("memory", settings.memory, " in [0, 1)", lambda x: 0.0 <= x < 1.0, "a number")
    for name in ("every", "largest_side", "stride"):
        integer(name, getattr(settings, name), 1)
    return settings


def checked_shapes(blocks: Any) -> tuple[Shape, ...]:
    """Return shapes as tuples of Python ints."""
    if isinstance(blocks, str | bytes) or not hasattr(blocks, "__iter__"):
        raise TypeError(f"blocks: must be a sequence of shapes, got {blocks!r:.80}")
    shapes = []
    for shape in blocks:
        sides = (shape,) if isinstance(shape, numbers.Integral) else shape
        whole = hasattr(sides, "__iter__") and all(isinstance(n, numbers.Integral) for n in sides)
        if not (whole and all(int(n) > 0 for n in sides)):
            raise ValueError(f"blocks: must be shapes of positive integers, got {shape!r} in {blocks!r}")
        shapes.append(tuple(int(n) for n in sides))
    if not shapes:
        raise ValueError(f"blocks: must be a sequence of one shape at least, got {blocks!r}")
    return tuple(shapes)
