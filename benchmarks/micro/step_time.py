"""Wall time of a step on MNIST, 784-50-10, batch 4,096: the default beside SGD, the batch held fixed for both.

``python -m benchmarks.micro.step_time``: one process, one thread; the methods make one step each in turn, so that
a load on the machine meets all of them. Each row is over the steps after the memory is full, those of a round
compared with SGD's step of that round. "outside" is the time that is not spent in loss and gradient.
"""

from __future__ import annotations

import os
import time
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
from benchmarks.micro.timing import Timed  # noqa: E402
from benchmarks.tune.report import machine  # noqa: E402
from benchmarks.tune.tasks import TASKS, setting  # noqa: E402
from tqdm import tqdm  # noqa: E402

import mblsr1  # noqa: E402

TASK, BASE = "mnist", "SGD"
REPEATS, FULL, STEPS = 3, 70, 210
FIXED = mblsr1.Options(batch_size=TASKS[TASK].batch, gtol=0.0, largest_share=1e-9)
RUNS: dict[str, dict[str, Any]] = {
    BASE: {"method": mblsr1.sgd(0.1, momentum=0.9), "options": FIXED},
    "Options()": {"options": FIXED},
    "Options(memory=16)": {"options": FIXED.replace(memory=16)},
}


class Clocked:
    """A run that makes one step at a time and keeps what each took: all of it, and what is outside the function."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        network, data = setting(TASK)
        self.fun, self.times = Timed(network.loss_and_gradient), []
        self.steps = mblsr1.iterate(
            self.fun, True, network.start(np.random.default_rng(1_000)), mblsr1.ArraySampler(data.X, data.y), rng=0,
            max_samples=TASKS[TASK].epochs * len(data.y), **arguments,
        )  # fmt: skip

    def step(self) -> None:
        """Make one."""
        inside, began = self.fun.seconds, time.perf_counter()
        next(self.steps)
        whole = time.perf_counter() - began
        self.times.append((whole, whole - (self.fun.seconds - inside)))


def times() -> dict[str, Any]:
    """By method: steps of all repeats x (all, outside), in ms."""
    rows: dict[str, list[Any]] = {name: [] for name in RUNS}
    for _ in tqdm(range(REPEATS), desc="step time"):
        runs = {name: Clocked(arguments) for name, arguments in RUNS.items()}
        for _ in range(STEPS):
            for run in runs.values():
                run.step()
        for name, run in runs.items():
            rows[name] += run.times[FULL:]
    return {name: 1e3 * np.array(row) for name, row in rows.items()}


def main() -> dict[str, float]:
    """Print the table; return each method's median ratio to SGD."""
    found = times()
    print(f"{machine()}; seed 0; batch {FIXED.batch_size:,}, steps {FULL + 1} to {STEPS} of {REPEATS} runs")
    heads = ("median", "outside", f"/ {BASE}", "quartiles")
    print(f"  {'wall time of a step, ms':24}{''.join(f'{head:>16}' for head in heads)}")
    ratios = {}
    for name, rows in found.items():
        median = np.median(rows, axis=0)
        low, ratios[name], high = np.quantile(rows[:, 0] / found[BASE][:, 0], [0.25, 0.5, 0.75])
        print(f"  {name:24}{median[0]:16.2f}{median[1]:16.2f}{ratios[name]:16.2f}{f'{low:.2f} to {high:.2f}':>16}")
    return ratios


if __name__ == "__main__":
    main()
