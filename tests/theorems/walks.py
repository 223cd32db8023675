"""Runs taken apart step by step, from the calls of the user's functions alone; shared by the theorems' tests."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

import mblsr1

EPS = float(np.finfo(float).eps)

#: The premises of Theorem 4.1: Algorithms 1 to 6 as printed with mu = eta = 0. gtol = 0: a run never ends by itself.
PREMISES = mblsr1.Options.paper(
    momentum=0.0, sgd_weight=0.0, gtol=0.0, memory=8, restart_memory=None, check_every=2, batch_size=8,
    initial_radius=0.1,
)  # fmt: skip


class Move(NamedTuple):
    """One step: from w along p with length alpha ||p||, g the batch gradient at w that was in force."""

    w: np.ndarray
    new: np.ndarray
    g: np.ndarray
    p: np.ndarray
    alpha: float
    radius: float
    batch_size: int
    restarted: bool
    record: object


class Watched:
    """The gradient, which remembers its newest value at each iterate."""

    def __init__(self, grad):
        self.grad, self.values = grad, {}

    def __call__(self, w, *batch):
        g = self.grad(w, *batch)
        self.values[w.tobytes()] = g.copy()
        return g


def walk(problem, options, steps, seed=0, sampler=None):
    """Yield the moves of a run. Steps whose line search failed (alpha = 0) have p = 0."""
    watched, w = Watched(problem.grad), np.array(problem.w0, dtype=float)
    radius, restarts = options.initial_radius, 0
    sampler = problem.n if sampler is None else sampler
    run = mblsr1.iterate(problem.fun, watched, problem.w0, sampler, options=options, rng=seed, max_steps=steps)
    for step in run:
        new = step.x.copy()
        s = new - w
        p = s / step.alpha if step.alpha else 0.0 * s
        yield Move(
            w, new, watched.values[w.tobytes()], p, step.alpha, radius, step.batch_size,
            step.n_restarts > restarts, step,
        )  # fmt: skip
        w, radius, restarts = new, step.radius, step.n_restarts


def cosine(a, b):
    return float(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b))


def sine(v, basis):
    """Sine of the angle between v and the span of orthonormal columns, without cancellation."""
    return float(np.linalg.norm(v - basis @ (basis.T @ v)) / np.linalg.norm(v))


def full_gradients(problem, moves):
    """Norms of the gradient over the whole set at the iterates that the moves lead to."""
    whole = problem.whole()
    return np.array([np.linalg.norm(whole.grad(m.new)) for m in moves])


def subtraction_error(move):
    """Relative error of p where it is made as a difference of iterates: eps ||w|| / ||s||, each entry rounded once."""
    s = np.linalg.norm(move.new - move.w)
    return math.inf if s == 0.0 else 4.0 * EPS * (np.linalg.norm(move.w) + s) / s


def matrix(lam, gamma, V, memory=None):
    """LSR1 with eigenvalues lam on the first columns of the orthogonal V, gamma on the others: pairs (v, lam v)."""
    S = np.ascontiguousarray(V[:, : len(lam)].T)
    return mblsr1.LSR1(S, np.asarray(lam, dtype=float)[:, None] * S, gamma, memory=memory)


def rotation(rng, d):
    return np.linalg.qr(rng.standard_normal((d, d)))[0]
