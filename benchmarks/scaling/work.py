"""What each rank runs: ``mpiexec -n P python -m benchmarks.scaling.work FILE``; rank 0 writes its times to FILE.

Logistic loss on random rows, so that a gradient reads n rows of d numbers twice; seed 0.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import mblsr1
from mblsr1.distributed import data_parallel

SEED = 0
#: (d, batch): as many numbers a gradient, exchanges of different lengths.
PROBLEMS = ((10_000, 512), (100_000, 64))
MEMORY, STEPS, WARM = 16, 40, 20
EXCHANGES = (1, 1_000, 10_000, 100_000, 1_000_000)
_REPEATS = 20


class Timed:
    """Calls a function and sums up the processor time in it."""

    def __init__(self, function: Any) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, w: np.ndarray, batch: np.ndarray) -> Any:
        """What the function returns."""
        start = time.process_time()
        value = self.function(w, batch)
        self.seconds += time.process_time() - start
        return value


def problem(d: int, n: int) -> tuple[Any, int]:
    """(w, batch) -> (loss, gradient), and the number of rows: so many that the batch does not grow."""
    rng = np.random.default_rng(SEED)
    X = rng.standard_normal((4 * n, d))
    y = np.sign(X[:, 0])

    def loss_and_gradient(w: np.ndarray, batch: np.ndarray) -> tuple[float, np.ndarray]:
        rows, signs = X[batch], y[batch]
        margin = signs * (rows @ w)
        wrong = np.exp(-np.logaddexp(0.0, margin))
        loss = float(np.logaddexp(0.0, -margin).mean() + 0.005 * (w @ w))
        return loss, rows.T @ (-signs * wrong) / len(batch) + 0.01 * w

    return loss_and_gradient, 4 * n


def time_steps(comm: Any, d: int, n: int) -> dict[str, Any]:
    """Wall and processor time of each step once the buffer is full, processor time within the loss, gradients."""
    function, total = problem(d, n)
    timed = Timed(function)
    fun, grad = data_parallel(timed, True, comm)
    found: dict[str, list[float]] = {"wall": [], "processor": [], "inside": [], "gradients": []}
    given = {"memory": MEMORY, "batch_size": n, "rng": SEED, "max_steps": STEPS, "gtol": 0.0}
    last = _now(timed, 0)
    for step in mblsr1.iterate(fun, grad, np.zeros(d), total, **given):
        now = _now(timed, step.njev)
        if step.step > WARM:
            for times, before, after in zip(found.values(), last, now, strict=True):
                times.append(after - before)
        last = _now(timed, step.njev)
    return {"d": d, "batch": n, **found}


def _now(timed: Timed, gradients: int) -> tuple[float, ...]:
    return time.perf_counter(), time.process_time(), timed.seconds, gradients


def time_exchange(comm: Any, d: int) -> list[float]:
    """Wall times of a data-parallel gradient of length d that costs nothing to compute."""
    g = np.ones(d)
    fun, _ = data_parallel(lambda w, batch: (0.0, g), True, comm)
    w, batch, times = np.zeros(d), np.arange(16), []
    for _ in range(_REPEATS):
        comm.Barrier()
        start = time.perf_counter()
        fun(w, batch)
        times.append(time.perf_counter() - start)
    return times


def main(path: str) -> None:
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    steps = [time_steps(comm, d, n) for d, n in PROBLEMS]
    exchanges = {str(d): time_exchange(comm, d) for d in EXCHANGES}
    if comm.Get_rank() == 0:
        found = {"ranks": comm.Get_size(), "steps": steps, "exchanges": exchanges}
        Path(path).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
