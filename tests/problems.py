"""Small problems with exact gradients, shared by the tests: plain NumPy, no dependence on the package."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Problem(NamedTuple):
    """A loss with exact derivatives. A finite sum takes (w, batch); a deterministic one (n is None) takes w alone.

    A batch is an index array, or the rows themselves as a tuple (X, y) where the problem has `data`.
    """

    fun: Callable
    grad: Callable
    w0: np.ndarray
    n: int | None = None
    hvp: Callable | None = None
    data: tuple | None = None

    def whole(self):
        """The same loss over the whole set, as a deterministic problem."""
        everything = np.arange(self.n)
        return Problem(
            lambda w: self.fun(w, everything),
            lambda w: self.grad(w, everything),
            self.w0,
            hvp=None if self.hvp is None else lambda w, v: self.hvp(w, v, everything),
        )

    def fused(self):
        """(w, ...) -> (loss, gradient), for grad=True."""
        return lambda *args: (self.fun(*args), self.grad(*args))


def logistic(n=60, d=8, seed=0, spread=1.5, weight=0.1):
    """Logistic loss with the nonconvex regulariser weight * sum w^2 / (1 + w^2).

    Features have scales from 1 down to 10^-spread. The curvature of a batch's mean loss is at most
    lambda_max(X'X / b) / 4 + 2 weight and at least -weight / 2.
    """
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * np.logspace(0.0, -spread, d)
    y = np.sign(X @ rng.standard_normal(d) + 0.3 * rng.standard_normal(n))

    def rows(batch):
        return batch if isinstance(batch, tuple) else (X[batch], y[batch])

    def fun(w, batch):
        Xb, yb = rows(batch)
        return float(np.mean(np.logaddexp(0.0, -yb * (Xb @ w))) + weight * np.sum(w**2 / (1.0 + w**2)))

    def grad(w, batch):
        Xb, yb = rows(batch)
        wrong = np.exp(-np.logaddexp(0.0, yb * (Xb @ w)))
        return Xb.T @ (-yb * wrong) / len(yb) + weight * 2.0 * w / (1.0 + w**2) ** 2

    def hvp(w, v, batch):
        Xb, yb = rows(batch)
        wrong = np.exp(-np.logaddexp(0.0, yb * (Xb @ w)))
        curvature = weight * (2.0 - 6.0 * w**2) / (1.0 + w**2) ** 3
        return Xb.T @ (wrong * (1.0 - wrong) * (Xb @ v)) / len(yb) + curvature * v

    return Problem(fun, grad, np.full(d, 1.5), n, hvp, (X, y))


def wells(n=60, d=12, seed=3, low=0.1, high=0.6, noise=3.0, depth=0.1):
    """Quadratics around different centres plus cosines: f_i = (w - c_i)'H(w - c_i) / 2 + depth sum cos(w + phi_i).

    H has eigenvalues from `low` to `high`. Every batch's Hessian is H - diag(x) with |x| <= depth, so the curvature
    is at most high + depth, and single terms need not be convex.
    """
    rng = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.standard_normal((d, d)))
    H = (Q * np.geomspace(low, high, d)) @ Q.T
    centres, phases = noise * rng.standard_normal((n, d)), rng.uniform(0.0, 2.0 * np.pi, (n, d))

    def rows(batch):
        return batch if isinstance(batch, tuple) else (centres[batch], phases[batch])

    def fun(w, batch):
        c, phi = rows(batch)
        z = w - c
        return float(np.mean(0.5 * np.sum((z @ H) * z, axis=1) + depth * np.sum(np.cos(w + phi), axis=1)))

    def grad(w, batch):
        c, phi = rows(batch)
        return H @ (w - c.mean(axis=0)) - depth * np.sin(w + phi).mean(axis=0)

    def hvp(w, v, batch):
        return H @ v - depth * np.cos(w + rows(batch)[1]).mean(axis=0) * v

    return Problem(fun, grad, np.full(d, 1.5), n, hvp, (centres, phases))


def network(n=60, inputs=3, hidden=2, seed=1, scale=0.5):
    """Least squares with a tanh network of one hidden layer: d = hidden (inputs + 2) + 1 weights, 11 by default."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, inputs))
    y = scale * np.tanh(X @ rng.standard_normal(inputs)) + 0.1 * rng.standard_normal(n)
    cut = inputs * hidden

    def rows(batch):
        return batch if isinstance(batch, tuple) else (X[batch], y[batch])

    def forward(w, Xb):
        W, b, a, c = w[:cut].reshape(inputs, hidden), w[cut : cut + hidden], w[cut + hidden : -1], w[-1]
        h = np.tanh(Xb @ W + b)
        return h, a, scale * (h @ a) + c

    def fun(w, batch):
        Xb, yb = rows(batch)
        return float(0.5 * np.mean((forward(w, Xb)[2] - yb) ** 2))

    def grad(w, batch):
        Xb, yb = rows(batch)
        h, a, out = forward(w, Xb)
        e = (out - yb) / len(yb)
        inner = scale * np.outer(e, a) * (1.0 - h**2)
        return np.concatenate([(Xb.T @ inner).ravel(), inner.sum(axis=0), scale * (h.T @ e), [e.sum()]])

    return Problem(fun, grad, 0.6 * rng.standard_normal(cut + 2 * hidden + 1), n, None, (X, y))


def quadratic(curvatures, w0=None):
    """w' diag(curvatures) w / 2, deterministic."""
    h = np.asarray(curvatures, dtype=float)
    start = np.ones(h.size) if w0 is None else np.asarray(w0, dtype=float)
    return Problem(lambda w: float(0.5 * (h * w) @ w), lambda w: h * w, start, hvp=lambda w, v: h * v)


def rosenbrock(n=10):
    """Chained Rosenbrock, sum 100 (w_(i+1) - w_i^2)^2 + (1 - w_i)^2, from (-1.2, 1, -1.2, ...)."""

    def fun(w):
        return float(np.sum(100.0 * (w[1:] - w[:-1] ** 2) ** 2 + (1.0 - w[:-1]) ** 2))

    def grad(w):
        bend = w[1:] - w[:-1] ** 2
        g = np.zeros_like(w)
        g[:-1] = -400.0 * w[:-1] * bend - 2.0 * (1.0 - w[:-1])
        g[1:] += 200.0 * bend
        return g

    w0 = np.ones(n)
    w0[::2] = -1.2
    return Problem(fun, grad, w0)


def wood(n=40):
    """Wood function (More, Garbow, Hillstrom 1981, problem 14) in blocks of four, from (-3, -1, -3, -1, ...)."""

    def parts(w):
        return w[0::4], w[1::4], w[2::4], w[3::4]

    def fun(w):
        a, b, c, d = parts(w)
        terms = 100.0 * (b - a**2) ** 2 + (1.0 - a) ** 2 + 90.0 * (d - c**2) ** 2 + (1.0 - c) ** 2
        return float(np.sum(terms + 10.0 * (b + d - 2.0) ** 2 + 0.1 * (b - d) ** 2))

    def grad(w):
        a, b, c, d = parts(w)
        g = np.empty_like(w)
        g[0::4] = -400.0 * a * (b - a**2) - 2.0 * (1.0 - a)
        g[1::4] = 200.0 * (b - a**2) + 20.0 * (b + d - 2.0) + 0.2 * (b - d)
        g[2::4] = -360.0 * c * (d - c**2) - 2.0 * (1.0 - c)
        g[3::4] = 180.0 * (d - c**2) + 20.0 * (b + d - 2.0) - 0.2 * (b - d)
        return g

    return Problem(fun, grad, np.tile([-3.0, -1.0], n // 2))
