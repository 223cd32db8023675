"""Memory of runs on a memory-mapped array that is larger than what they may hold: a sparse file, 1,000 columns.

"traced" is the peak of what Python and NumPy allocate, "resident" the growth of the process's own pages, both over the
run alone; pages of the file itself belong to the system, which drops them when it needs room.
"""

from __future__ import annotations

import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import mblsr1

COLUMNS, BATCH, SEED = 1_000, 1_000, 0
QUICK = {"rows": 20_000}
RUNS: dict[str, dict[str, Any]] = {
    "Options(), 20 batches": {"max_steps": 20, "gtol": 0.0},
    "check over the whole set": {"max_steps": 1, "gtol": 1e9},
    "svrg, two anchors": {"max_steps": 30, "gtol": 0.0, "method": mblsr1.svrg(0.1, passes=0.1)},
}


def cases() -> Iterator[dict[str, Any]]:
    """Run and rows of the array."""
    for run in RUNS:
        yield {"run": run, "rows": 200_000}


def loss_and_gradient(w: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> tuple[float, np.ndarray]:
    X, y = rows
    margin = y * (X @ w)
    wrong = np.exp(-np.logaddexp(0.0, margin))
    return float(np.logaddexp(0.0, -margin).mean() + 0.5 * (w @ w)), X.T @ (-y * wrong) / len(y) + w


def own_pages() -> float:
    """Bytes of the process that are in no file, from the system."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon"):
            return 1024.0 * float(line.split()[1])
    raise RuntimeError("/proc/self/status has no RssAnon")


def measure(run: str, rows: int) -> dict[str, float]:
    """Return the file's size and the peak of a run, in MB; and the samples that it was charged for."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "X.npy")
        np.lib.format.open_memmap(path, mode="w+", dtype=np.float64, shape=(rows, COLUMNS)).flush()
        X = np.load(path, mmap_mode="r")
        y = np.sign(np.random.default_rng(SEED).standard_normal(rows))
        before, highest = own_pages(), 0.0

        def watched(w: np.ndarray, batch: tuple[np.ndarray, np.ndarray]) -> tuple[float, np.ndarray]:
            nonlocal highest
            result = loss_and_gradient(w, batch)
            highest = max(highest, own_pages())
            return result

        tracemalloc.start()
        sampler = mblsr1.ArraySampler(X, y)
        result = mblsr1.minimize(watched, True, np.ones(COLUMNS), sampler, batch_size=BATCH, rng=SEED, **RUNS[run])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    megabytes = {"file": X.nbytes, "traced": peak, "resident": highest - before, "a batch": 8 * BATCH * COLUMNS}
    return {f"{name}, MB": value / 1e6 for name, value in megabytes.items()} | {"samples": result.n_samples}
