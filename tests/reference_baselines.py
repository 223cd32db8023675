"""SVRG and S-LSR1 written out literally and slowly: the baselines of the paper that no library has.

Nothing of the package is imported. Random numbers are drawn in the order of
the algorithms: the batch, then the directions.
"""

from __future__ import annotations

import math

import numpy as np
from reference import EPS, dense_sr1, is_safe, newest_independent, solve_subproblem


def draw(rng, N, n):
    return np.arange(N) if n >= N else rng.choice(N, n, replace=False, shuffle=False)


def svrg(grad, w0, N, n, rate, m, steps, rng):
    """Johnson and Zhang 2013, Figure 1, Option I, with batches of n for the single samples; the iterates."""
    w, iterates = np.array(w0, dtype=float), []
    while len(iterates) < steps:
        w_tilde = w
        mu = sum(grad(w_tilde, np.array([i])) for i in range(N)) / N
        for _ in range(m):
            batch = draw(rng, N, n)
            w = w - rate * (grad(w, batch) - grad(w_tilde, batch) + mu)
            iterates.append(w)
    return iterates[:steps]


def s_lsr1(fun, grad, w0, N, n, m, delta, steps, rng, hvp=None, gamma=0.0, skip=1e-8, rounding=lambda s: s):
    """Berahas, Jahani, Takac 2019, with the exact subproblem; gamma may be a function of S and Y. The records.

    `rounding` disturbs each step: it serves to measure how much a run amplifies rounding errors.
    """
    w = np.array(w0, dtype=float)
    scale = max(1.0, np.linalg.norm(w))
    smallest, largest = 1e-10 * scale, max(1e2 * scale, delta)  # reading 15
    records = []
    for _ in range(steps):
        batch = draw(rng, N, n)
        f, g = fun(w, batch), grad(w, batch)
        S, Y = [], []
        for _ in range(m):
            s = rng.standard_normal(w.size)
            s = s * (math.sqrt(EPS) * max(1.0, np.linalg.norm(w)) / np.linalg.norm(s))
            S.append(s)
            Y.append(grad(w + s, batch) - g if hvp is None else hvp(w, s, batch))
        level = gamma(S, Y) if callable(gamma) else gamma
        B = dense_sr1(S, Y, level, skip, w.size)
        p = solve_subproblem(B, g, delta)
        Q = g @ p + 0.5 * p @ B @ p
        rho = (fun(w + p, batch) - f) / Q
        accepted = rho > 1e-6
        if accepted:
            w = w + rounding(p)
        if rho > 0.75:
            delta = min(2.0 * delta, largest)
        elif rho < 0.1:
            delta = max(0.5 * delta, smallest)
        kept = safe(S, Y, level, skip)
        records.append({"w": w, "radius": delta, "rho": rho, "alpha": float(accepted), "n_pairs": kept, "f": f, "Q": Q})
    return records


def safe(S, Y, gamma, skip):
    """Number of pairs that make up the matrix."""
    B, count = gamma * np.eye(S[0].size) if S else None, 0
    for i in newest_independent(S, Y, gamma):
        if is_safe(B, S[i], Y[i], skip):
            r = Y[i] - B @ S[i]
            B, count = B + np.outer(r, r) / (S[i] @ r), count + 1
    return count
