"""Peak memory of a run in vectors of length d, at m = 16 and d = 2e6 (float64).

The user's functions here need no vector of their own but the gradient that they return.
"""

from __future__ import annotations

import tracemalloc

import numpy as np

import mblsr1

D, MEMORY, STEPS = 2_000_000, 16, 40


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


def peak_vectors(options: mblsr1.Options, sampler: Samples | None) -> float:
    """Peak of the memory traced during the run, w0 included, over the bytes of one vector."""
    w0 = np.linspace(-2.0, 2.0, D)
    tracemalloc.start()
    mblsr1.minimize(fun, grad, w0, sampler, options=options, max_steps=STEPS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return (peak + w0.nbytes) / w0.nbytes


def main() -> dict[str, float]:
    print(f"peak memory in vectors of length d = {D:,}, m = {MEMORY}, {STEPS} steps (2 m + 10 = {2 * MEMORY + 10})")
    rows = {}
    default = mblsr1.Options(memory=MEMORY, gtol=0.0)
    for name, options, sampler in (
        ("Options(), no sampler", default, None),
        ("Options(), samples", default, Samples()),
        ("Options.paper()", mblsr1.Options.paper(memory=MEMORY, gtol=0.0, initial_radius=1.0), None),
    ):
        rows[name] = peak_vectors(options, sampler)
        print(f"  {name:24}{rows[name]:8.2f}")
    return rows


if __name__ == "__main__":
    main()
