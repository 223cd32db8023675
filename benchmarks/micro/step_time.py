"""Wall time of a step on MNIST, 784-50-10, batch 4,096: the default beside SGD, the batch held fixed for both.

``python -m benchmarks.micro.step_time``: runs of 15 passes in one process, one thread, the methods in turn in every
repeat, so that a load on the machine meets all of them. "outside" is the time that is not spent in loss and gradient.
"""

from __future__ import annotations

import os
import statistics
import time
from typing import NamedTuple

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
from benchmarks.micro.overhead import Timed  # noqa: E402
from benchmarks.tune.report import machine  # noqa: E402
from benchmarks.tune.tasks import TASKS, setting  # noqa: E402
from tqdm import tqdm  # noqa: E402

import mblsr1  # noqa: E402

TASK, REPEATS, BASE = "mnist", 7, "SGD"
FIXED = mblsr1.Options(batch_size=TASKS[TASK].batch, gtol=0.0, largest_share=1e-9)
RUNS = {
    BASE: {"method": mblsr1.sgd(0.1, momentum=0.9), "options": FIXED},
    "Options()": {"options": FIXED},
    "Options(memory=16)": {"options": FIXED.replace(memory=16)},
}


class Cost(NamedTuple):
    """Milliseconds of a step: all of it, and what is outside loss and gradient."""

    whole: float
    outside: float


def cost(arguments: dict[str, object]) -> Cost:
    """Mean over one run's steps."""
    network, data = setting(TASK)
    fun = Timed(network.loss_and_gradient)
    w0 = network.start(np.random.default_rng(1_000))
    began = time.perf_counter()
    result = mblsr1.minimize(
        fun, True, w0, mblsr1.ArraySampler(data.X, data.y), rng=0,
        max_samples=TASKS[TASK].epochs * len(data.y), **arguments,
    )  # fmt: skip
    whole = time.perf_counter() - began
    return Cost(whole / result.nit * 1e3, (whole - fun.seconds) / result.nit * 1e3)


def main() -> dict[str, float]:
    """Print the table; return each method's median ratio to SGD."""
    setting(TASK)
    turns = [(repeat, name) for repeat in range(REPEATS) for name in RUNS]
    costs = {turn: cost(RUNS[turn[1]]) for turn in tqdm(turns, desc="step time")}
    print(f"{machine()}; seed 0; {TASKS[TASK].epochs} passes at batch {FIXED.batch_size:,}, median of {REPEATS} runs")
    ratios = {}
    for name in RUNS:
        rows = [costs[repeat, name] for repeat in range(REPEATS)]
        against = [row.whole / costs[repeat, BASE].whole for repeat, row in enumerate(rows)]
        ratios[name] = statistics.median(against)
        whole, outside = (statistics.median(part) for part in zip(*rows, strict=True))
        print(
            f"  {name:20}{whole:8.2f} ms a step{outside:8.2f} outside{ratios[name]:8.2f} of {BASE}'s "
            f"({min(against):.2f} to {max(against):.2f})"
        )
    return ratios


if __name__ == "__main__":
    main()
