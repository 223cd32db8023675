"""Time of one step outside the user's functions, at d = 10 and m = 10.

Runs of 2,000 steps on samples of a quadratic whose minimiser moves from batch to batch (SR1 learns
its matrix exactly, and refuses pairs that bring nothing new), and of one whose curvature moves as
well, so that every step stores a pair; and runs without a sampler on the chained Rosenbrock function.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from benchmarks.micro.timing import Timed
from scipy.optimize import rosen, rosen_der

import mblsr1

D, MEMORY, STEPS, REPEATS = 10, 10, 2_000, 5
QUICK = {"options": "Options()", "problem": "quadratic"}
OPTIONS = {
    "Options()": mblsr1.Options(memory=MEMORY, gtol=0.0),
    "Options.paper()": mblsr1.Options.paper(memory=MEMORY, gtol=0.0, initial_radius=1.0),
}
CURVATURE = np.logspace(0.0, 3.0, D)


class Moving:
    """A stream of minimisers."""

    n_samples = None

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """A minimiser."""
        return rng.standard_normal(D)


def quadratic(moves: bool) -> tuple[Callable[..., object], Callable[..., object]]:
    def curvature(c: np.ndarray) -> np.ndarray:
        return CURVATURE * (1.0 + 0.1 * c * c) if moves else CURVATURE

    def fun(w: np.ndarray, c: np.ndarray) -> float:
        return 0.5 * float(curvature(c) @ (w - c) ** 2)

    def grad(w: np.ndarray, c: np.ndarray) -> np.ndarray:
        return curvature(c) * (w - c)

    return fun, grad


def milliseconds(moves: bool, options: mblsr1.Options) -> float:
    """Median over the repeats of (whole time - time in fun, grad and draw) per step, in ms."""
    times = []
    for _ in range(REPEATS):
        fun, grad, source = *map(Timed, quadratic(moves)), Moving()
        source.draw = Timed(source.draw)  # type: ignore[method-assign]
        began = time.perf_counter()
        result = mblsr1.minimize(fun, grad, np.ones(D), source, options=options, max_steps=STEPS, rng=0)
        whole = time.perf_counter() - began
        assert result.nit == STEPS, result.message
        times.append((whole - fun.seconds - grad.seconds - source.draw.seconds) / STEPS * 1e3)  # type: ignore[attr-defined]
    return statistics.median(times)


def deterministic_milliseconds(options: mblsr1.Options) -> float:
    """Median over the repeats of the same, without a sampler: twenty runs on the chained Rosenbrock function."""
    start = np.tile([-1.2, 1.0], D // 2)
    times = []
    for _ in range(REPEATS):
        fun, grad, steps = Timed(rosen), Timed(rosen_der), 0
        began = time.perf_counter()
        for _ in range(20):
            steps += mblsr1.minimize(fun, grad, start, options=options).nit
        times.append((time.perf_counter() - began - fun.seconds - grad.seconds) / steps * 1e3)
    return statistics.median(times)


def cases() -> Iterator[dict[str, Any]]:
    """Options and problem of every row."""
    for options in OPTIONS:
        for problem in ("quadratic", "curvature moves", "no sampler"):
            yield {"options": options, "problem": problem}


def measure(options: str, problem: str) -> dict[str, float]:
    """Return the milliseconds of a step."""
    o = OPTIONS[options]
    if problem == "no sampler":
        return {"ms": deterministic_milliseconds(o.replace(gtol=1e-5))}
    return {"ms": milliseconds(problem == "curvature moves", o)}
