"""SGD with momentum, Adam, RMSprop and SVRG: the baselines, run by the same driver at the same cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mblsr1 import _array
from mblsr1._array import Array
from mblsr1.checks import positive, share
from mblsr1.problem import Oracle
from mblsr1.types import NAN, Method, Outcome, Point

__all__ = ["adam", "rmsprop", "sgd", "svrg"]


class Moments(NamedTuple):
    """Running averages of a first-order method (None before the first step) and its step count."""

    first: Array | None
    second: Array | None
    steps: int


class Snapshot(NamedTuple):
    """The iterate w~ of SVRG, the gradient mu over the whole set there, and the inner steps made since."""

    w: Array | None
    mu: Array | None
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

    Returns
    -------
    Method
        For `minimize`'s `method`.

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

    Returns
    -------
    Method
        For `minimize`'s `method`.

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

    Returns
    -------
    Method
        For `minimize`'s `method`.

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


def svrg(learning_rate: float = 0.01, passes: float = 2.0) -> Method:
    """Return SVRG, stochastic variance-reduced gradient (Johnson and Zhang 2013, Figure 1, Option I).

    At a snapshot w~ = w the gradient mu over the whole set is made; the inner steps are
    w = w - learning_rate (g(w) - g(w~) + mu), both g on the batch of the step.

    Parameters
    ----------
    learning_rate : float
        > 0.
    passes : float
        > 0. Samples drawn between two snapshots, in units of the whole set: m = ceil(passes N / batch size) inner
        steps. Johnson and Zhang recommend 2 where the loss is convex and 5 for neural networks.

    Returns
    -------
    Method
        For `minimize`'s `method`.

    Raises
    ------
    ValueError, TypeError
        Where a value is outside its range; from `minimize` where the sampler has no known size.

    Notes
    -----
    In sample-gradients an inner step costs twice the batch; one with a snapshot costs the batch and the whole set,
    since there g(w~) is g(w). Where the batch is the whole set, mu = g(w~) and the method is gradient descent, at the
    cost of one gradient a step. Memory: two vectors.
    """
    learning_rate = positive("learning_rate", learning_rate)
    passes = positive("passes", passes)

    def init(w: Array) -> Snapshot:
        return Snapshot(None, None, 0)

    def step(oracle: Oracle, snapshot: Snapshot, point: Point, rng: np.random.Generator) -> tuple[Snapshot, Outcome]:
        snapshot, v = _reduced(oracle, snapshot, point, passes)
        if v is None:  # the driver ends a run whose next iterate is not finite
            return snapshot, _moved(point, point.w * NAN)
        return snapshot, _moved(point, -learning_rate * v)

    return Method("svrg", init, step, needs_loss=False, needs_whole=True)


def _reduced(oracle: Oracle, snapshot: Snapshot, point: Point, passes: float) -> tuple[Snapshot, Array | None]:
    """The snapshot in force and the variance-reduced gradient; None where an entry is not finite."""
    if oracle.is_full:
        return snapshot, point.g
    assert oracle.n_samples is not None
    if snapshot.w is None or snapshot.steps >= math.ceil(passes * oracle.n_samples / oracle.size):
        mu = oracle.whole_gradient(point.w)
        return Snapshot(point.w, mu, 1), mu  # g(w) - g(w~) = 0 at the snapshot itself
    there = oracle.gradient(snapshot.w)
    v = None if there is None else point.g - there + snapshot.mu
    return snapshot._replace(steps=snapshot.steps + 1), v


def _average(old: Array | None, new: Array, weight: float) -> Array:
    return (1.0 - weight) * new if old is None else weight * old + (1.0 - weight) * new


def _method(name: str, direction: Direction) -> Method:
    def init(w: Array) -> Moments:
        return Moments(None, None, 0)

    def step(oracle: Oracle, moments: Moments, point: Point, rng: np.random.Generator) -> tuple[Any, Outcome]:
        p, moments = direction(point.g, moments)
        return moments, _moved(point, p)

    return Method(name, init, step, needs_loss=False)


def _moved(point: Point, p: Array) -> Outcome:
    return Outcome(point.w + p, NAN, None, 0.0, {"radius": NAN, "alpha": 1.0, "step_norm": _array.norm(p)})
