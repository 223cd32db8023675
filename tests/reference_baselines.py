"""SVRG written out literally and slowly: the baselines of the paper that no library has.

Nothing of the package is imported. Random numbers are drawn in the order of
the algorithms: the batch, then the directions.
"""

from __future__ import annotations

import numpy as np


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
