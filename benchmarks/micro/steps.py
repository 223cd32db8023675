"""A step's algebra in `minimize`: the time outside the user's functions, once the ring of pairs is full.

A usual step projects once and combines once. Where the gradient all but lies in the span of the pairs, its rest is
formed explicitly, which takes more passes: always while the ring fills, later on smooth functions of the whole set.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from benchmarks.micro.timing import Pass, Timed, in_library, ratio

import mblsr1
from mblsr1 import _array

SEED, STEPS, MOST_BUFFER = 0, 21, 4_000_000_000
#: Places in one vector of draws where a batch's noise may begin.
SHIFTS = 1_000
#: Steps at most beyond those that fill the ring.
SPARE = 60
QUICK = {"d": 100_000, "m": 16}
#: Projections and combinations of a usual step together.
USUAL = 2
#: Functions of `_array` that a step's time is split into; "rest" is host work, and sums of vectors.
PARTS = ("inner_products", "combine", "set_row", "scalars", "linear")
#: What is run: options, and whether on samples. "new batches" is the whole set's model on batches that share nothing.
MODES = {
    "whole set": (mblsr1.Options(gtol=0.0), False),
    "samples": (mblsr1.Options(gtol=0.0), True),
    "new batches": (mblsr1.Options(gtol=0.0, overlap=0.0, sample_matrix="better", growth="progress"), True),
    "paper": (mblsr1.Options.paper(gtol=0.0, initial_radius=1.0, restart_memory=None), True),
}


class Batch(NamedTuple):
    """A factor on the loss, and where its noise begins."""

    factor: float
    shift: int


class Batches:
    """A stream of batches."""

    n_samples = None

    def draw(self, size: int, rng: np.random.Generator) -> Batch:
        """A batch."""
        return Batch(float(rng.uniform(0.9, 1.1)), int(rng.integers(SHIFTS)))


class Quartic:
    """Mean of a (w^4 / 4 + sign w^2 / 2), a from 1 to 1e3; sign -1 is not convex. A batch adds noise'w."""

    def __init__(self, d: int, dtype: str, library: str, sign: float = -1.0) -> None:
        rng, self.sign = np.random.default_rng(SEED), sign
        self.a = in_library((np.logspace(0.0, 3.0, d) / d).astype(dtype), library)
        self.start = in_library(rng.uniform(-0.5, 0.5, d).astype(dtype), library)
        self.noise = in_library((rng.standard_normal(d + SHIFTS) * (5.0 / d)).astype(dtype), library)

    def fun(self, w: Any, batch: Batch | None = None) -> float:
        """Loss, summed pairwise."""
        t = w * w
        loss = float((self.a * t * (0.25 * t + 0.5 * self.sign)).sum())
        return loss if batch is None else batch.factor * loss + float((self._noise(w, batch) * w).sum())

    def grad(self, w: Any, batch: Batch | None = None) -> Any:
        """Gradient, made in place."""
        g = w * w
        g += self.sign
        g *= w
        g *= self.a
        if batch is not None:
            g *= batch.factor
            g += self._noise(w, batch)
        return g

    def _noise(self, w: Any, batch: Batch) -> Any:
        return self.noise[batch.shift : batch.shift + w.shape[0]]


def cases() -> Iterator[dict[str, Any]]:
    """Mode, library, dtype, d and m of every row."""
    sizes = [(1_000_000, m) for m in (8, 16, 32, 64)] + [(10**k, 16) for k in (3, 4, 5, 7)]
    sizes += [(1_000, 64), (10_000, 64), (100_000, 64)]
    for (d, m), library, dtype, mode in itertools.product(sizes, ("numpy", "torch"), ("float64", "float32"), MODES):
        if 2 * m * d * np.dtype(dtype).itemsize <= MOST_BUFFER:
            yield {"mode": mode, "library": library, "dtype": dtype, "d": d, "m": m}


class Record(NamedTuple):
    """One step with a full ring: seconds outside fun and grad, seconds by part, projections and combinations."""

    seconds: float
    parts: dict[str, float]
    passes: int


@contextmanager
def split() -> Iterator[dict[str, Timed]]:
    """Time the parts of a step while the context is open."""
    own = {name: getattr(_array, name) for name in PARTS}
    timed = {name: Timed(function) for name, function in own.items()}
    for name in PARTS:
        setattr(_array, name, timed[name])
    try:
        yield timed
    finally:
        for name in PARTS:
            setattr(_array, name, own[name])


class Run:
    """A run that is stepped by hand."""

    def __init__(self, problem: Quartic, mode: str, m: int, timed: dict[str, Timed]) -> None:
        self.fun, self.grad, self.timed = Timed(problem.fun), Timed(problem.grad), timed
        options, on_samples = MODES[mode]
        self.iterator = mblsr1.iterate(
            self.fun, self.grad, problem.start, Batches() if on_samples else None,
            options=options.replace(memory=m), max_steps=10**9, rng=SEED,
        )  # fmt: skip
        self.m, self.pairs = m, 0

    def step(self) -> Record | None:
        """Make a step; None where the ring was not full before it."""
        before = {name: (t.seconds, t.calls) for name, t in self.timed.items()}
        inside, began = self.fun.seconds + self.grad.seconds, time.perf_counter()
        made = next(self.iterator)
        elapsed = time.perf_counter() - began - (self.fun.seconds + self.grad.seconds - inside)
        full, self.pairs = self.pairs == self.m, made.n_pairs
        parts = {name: t.seconds - before[name][0] for name, t in self.timed.items()}
        calls = {name: t.calls - before[name][1] for name, t in self.timed.items()}
        return Record(elapsed, parts, calls["inner_products"] + calls["combine"]) if full else None


def measure(mode: str, library: str, dtype: str, d: int, m: int) -> dict[str, float]:
    """Return the time of a usual step's algebra and of its parts, and of any step, in passes."""
    unit = Pass(2 * m * d * np.dtype(dtype).itemsize, dtype)
    records, passes = [], []
    with split() as timed:
        run = Run(Quartic(d, dtype, library), mode, m, timed)
        for _ in range(m + SPARE):
            record = run.step()
            if record is not None:
                records.append(record)
                passes.append(unit.seconds())
            if len(records) == STEPS:
                break
    return summary(records, passes) if records else {}


def summary(records: list[Record], passes: list[float]) -> dict[str, float]:
    """Medians over the usual steps; without one, nothing but what holds of all steps."""
    chosen = [i for i, r in enumerate(records) if r.passes == USUAL]
    found = {
        "steps": len(records),
        "usual": len(chosen),
        "pass_ms": 1e3 * min(passes),
        "passes, any step": ratio([r.seconds for r in records], passes),
    }
    if chosen:
        usual, beside = [records[i] for i in chosen], [passes[i] for i in chosen]
        total = ratio([r.seconds for r in usual], beside)
        parts = {name: ratio([r.parts[name] for r in usual], beside) for name in PARTS}
        step_ms = 1e3 * total * min(passes)
        found |= {"step_ms": step_ms, "passes": total, **parts, "rest": total - sum(parts.values())}
    return found
