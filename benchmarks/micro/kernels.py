"""Products with the pair buffer, combinations of its rows and the update of a pair, in passes over the buffer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from benchmarks.micro.timing import Pass, in_library, in_turns, ratio

from mblsr1 import _array
from mblsr1.linalg.pairs import PairMemory

REPEATS, SEED = 15, 0
QUICK = {"d": 100_000, "m": 16}


def cases() -> Iterator[dict[str, Any]]:
    """Library, dtype, d and m of every row."""
    for library, dtype, m in itertools.product(("numpy", "torch"), ("float64", "float32"), (8, 16, 32, 64)):
        yield {"library": library, "dtype": dtype, "d": 1_000_000, "m": m}
    for library, dtype in itertools.product(("numpy", "torch"), ("float64", "float32")):
        yield {"library": library, "dtype": dtype, "d": 100_000, "m": 16}


def full_memory(library: str, dtype: str, d: int, m: int) -> tuple[PairMemory, list[Any]]:
    """Return a ring of m pairs, y near s, and three vectors."""
    rng = np.random.default_rng(SEED)
    base = rng.standard_normal(d).astype(dtype)
    memory = PairMemory(in_library(base, library), m)
    for j in range(m + 3):
        s = np.roll(base, 7 * j)
        memory.push(in_library(s, library), in_library(s + np.roll(s, 1), library))
    memory.project([])
    return memory, [in_library(np.roll(base, -j), library) for j in (1, 2, 3)]


def measure(library: str, dtype: str, d: int, m: int) -> dict[str, float]:
    """Time every kernel of one row."""
    memory, vectors = full_memory(library, dtype, d, m)
    rows, rng = memory.rows, np.random.default_rng(SEED)
    c = rng.standard_normal(2 * m)
    on_s = np.where(np.arange(2 * m) % 2, 0.0, c)
    columns = _array.namespace(rows).stack(vectors, axis=1)
    functions: dict[str, Callable[[], object]] = {
        "1 product": lambda: _array.inner_products(rows, vectors[:1]),
        "3 products": lambda: _array.inner_products(rows, vectors),
        "plain matmul, 3": lambda: rows @ columns,
        "combine": lambda: _array.combine(c, rows, 0.5, vectors[0]),
        "combine, S alone": lambda: _array.combine(on_s, rows, 0.5, vectors[0]),
        "pair update": lambda: updated(memory, vectors),
    }
    unit = Pass(2 * m * d * np.dtype(dtype).itemsize, dtype)
    times = in_turns(functions, unit, REPEATS)
    one = min(times["pass"])
    passes = {name: ratio(times[name], times["pass"]) for name in functions}
    return {"pass_ms": 1e3 * one, "gb_per_s": unit.gigabytes(one), **passes}


def updated(memory: PairMemory, vectors: list[Any]) -> object:
    """Store a pair and project a gradient: products, two rows, the Gram matrix."""
    memory.push(vectors[0], vectors[1])
    return memory.project_all([vectors[2]])
