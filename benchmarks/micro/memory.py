"""Peak memory of a run in vectors of length d, at m = 16 and d = 2e6 (float64).

The user's functions here need no vector of their own but the gradient that they return.
"""

from __future__ import annotations

import tracemalloc

import numpy as np

import mblsr1

D, MEMORY, STEPS = 2_000_000, 16, 40


def fun(w: np.ndarray) -> float:
    return 0.25 * float(np.einsum("i,i,i,i->", w, w, w, w)) + 0.5 * float(w @ w)


def grad(w: np.ndarray) -> np.ndarray:
    g = w * w
    g += 1.0
    g *= w
    return g


def peak_vectors(options: mblsr1.Options) -> float:
    """Peak of the memory traced during the run, w0 included, over the bytes of one vector."""
    w0 = np.linspace(-2.0, 2.0, D)
    tracemalloc.start()
    mblsr1.minimize(fun, grad, w0, options=options, max_steps=STEPS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return (peak + w0.nbytes) / w0.nbytes


def main() -> dict[str, float]:
    print(f"peak memory in vectors of length d = {D:,}, m = {MEMORY}, {STEPS} steps (2 m + 10 = {2 * MEMORY + 10})")
    rows = {}
    for name, options in (
        ("Options()", mblsr1.Options(memory=MEMORY, gtol=0.0)),
        ("Options.paper()", mblsr1.Options.paper(memory=MEMORY, gtol=0.0, initial_radius=1.0)),
    ):
        rows[name] = peak_vectors(options)
        print(f"  {name:18}{rows[name]:8.2f}")
    return rows


if __name__ == "__main__":
    main()
