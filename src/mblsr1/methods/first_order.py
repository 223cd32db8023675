"""SGD with momentum, Adam and RMSprop: the baselines, run by the same driver at the same cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mblsr1 import _array
from mblsr1._array import Array
from mblsr1.methods.checks import positive, share
from mblsr1.problem import Oracle
from mblsr1.types import NAN, Method, Outcome, Point

__all__ = ["adam", "rmsprop", "sgd"]


class Moments(NamedTuple):
    """Running averages of a first-order method (None before the first step) and its step count."""

    first: Array | None
    second: Array | None
    steps: int


Direction = Callable[[Array, Moments], tuple[Array, Moments]]


def sgd(learning_rate: float = 0.01, momentum: float = 0.0) -> Method:
    """Return SGD with heavy-ball momentum, v = momentum v + g, w = w - learning_rate v.

    Parameters
    ----------
    learning_rate : float
        > 0. The same meaning as in torch.optim.SGD.
    momentum : float
        In [0, 1).

    Raises
    ------
    ValueError, TypeError
        Where a value is outside its range.
    """
    learning_rate = positive("learning_rate", learning_rate)
    momentum = share("momentum", momentum)

    def direction(g: Array, m: Moments) -> tuple[Array, Moments]:
        v = g if m.first is None else momentum * m.first + g
        return -learning_rate * v, Moments(v if momentum else None, None, m.steps + 1)

    return _method("sgd", direction)


def adam(learning_rate: float = 1e-3, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8) -> Method:
    """Return Adam with bias correction, as torch.optim.Adam (Kingma and Ba 2015, Algorithm 1).

    Parameters
    ----------
    learning_rate : float
        > 0.
    beta_1, beta_2 : float
        Weights of the running averages, in [0, 1).
    epsilon : float
        > 0, added to the root of the second average.

    Raises
    ------
    ValueError, TypeError
        Where a value is outside its range.
    """
    learning_rate = positive("learning_rate", learning_rate)
    beta_1 = share("beta_1", beta_1)
    beta_2 = share("beta_2", beta_2)
    epsilon = positive("epsilon", epsilon)

    def direction(g: Array, m: Moments) -> tuple[Array, Moments]:
        count = m.steps + 1
        first = _average(m.first, g, beta_1)
        second = _average(m.second, g * g, beta_2)
        root = _array.sqrt(second) * (1.0 / math.sqrt(1.0 - beta_2**count)) + epsilon
        return (-learning_rate / (1.0 - beta_1**count)) * (first / root), Moments(first, second, count)

    return _method("adam", direction)


def rmsprop(learning_rate: float = 0.01, alpha: float = 0.99, epsilon: float = 1e-8) -> Method:
    """Return RMSprop, as torch.optim.RMSprop (Tieleman and Hinton 2012, lecture 6.5).

    Parameters
    ----------
    learning_rate : float
        > 0.
    alpha : float
        Weight of the running average of squares, in [0, 1).
    epsilon : float
        > 0, added to its root.

    Raises
    ------
    ValueError, TypeError
        Where a value is outside its range.
    """
    learning_rate = positive("learning_rate", learning_rate)
    alpha = share("alpha", alpha)
    epsilon = positive("epsilon", epsilon)

    def direction(g: Array, m: Moments) -> tuple[Array, Moments]:
        second = _average(m.second, g * g, alpha)
        return -learning_rate * (g / (_array.sqrt(second) + epsilon)), Moments(None, second, m.steps + 1)

    return _method("rmsprop", direction)


def _average(old: Array | None, new: Array, weight: float) -> Array:
    return (1.0 - weight) * new if old is None else weight * old + (1.0 - weight) * new


def _method(name: str, direction: Direction) -> Method:
    def init(w: Array) -> Moments:
        return Moments(None, None, 0)

    def step(oracle: Oracle, moments: Moments, point: Point, rng: np.random.Generator) -> tuple[Any, Outcome]:
        p, moments = direction(point.g, moments)
        scalars = {"radius": NAN, "alpha": 1.0, "step_norm": _array.norm(p)}
        return moments, Outcome(point.w + p, NAN, None, 0.0, scalars)

    return Method(name, init, step, needs_loss=False)
