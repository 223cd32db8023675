"""Peak memory of a run in vectors of length d, at m = 16 and d = 2e6 (float64).

The user's functions here need no vector of their own but the gradient that they return.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np

import mblsr1

D, MEMORY, STEPS = 2_000_000, 16, 40
QUICK = {"d": 100_000}


class Samples:
    """A stream of nothing: the functions do not look at the batch."""

    n_samples = None

    def draw(self, size: int, rng: np.random.Generator) -> None:
        """Nothing."""


def fun(w: np.ndarray, batch: None = None) -> float:
    return 0.25 * float(np.einsum("i,i,i,i->", w, w, w, w)) + 0.5 * float(w @ w)


def grad(w: np.ndarray, batch: None = None) -> np.ndarray:
    g = w * w
    g += 1.0
    g *= w
    return g


def peak_vectors(options: mblsr1.Options, sampler: Samples | None, d: int) -> float:
    """Peak of the memory traced during the run, w0 included, over the bytes of one vector."""
    w0 = np.linspace(-2.0, 2.0, d)
    tracemalloc.start()
    mblsr1.minimize(fun, grad, w0, sampler, options=options, max_steps=STEPS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return (peak + w0.nbytes) / w0.nbytes


RUNS = {
    "Options(), no sampler": (mblsr1.Options(memory=MEMORY, gtol=0.0), None),
    "Options(), samples": (mblsr1.Options(memory=MEMORY, gtol=0.0), Samples()),
    "Options.paper()": (mblsr1.Options.paper(memory=MEMORY, gtol=0.0, initial_radius=1.0), None),
}


def cases() -> Iterator[dict[str, Any]]:
    """Options of every row."""
    for run in RUNS:
        yield {"run": run, "d": D}


def measure(run: str, d: int) -> dict[str, float]:
    """Return the peak of a run, in vectors, and that of the pairs alone."""
    return {"vectors": peak_vectors(*RUNS[run], d), "pairs": 2.0 * MEMORY}
