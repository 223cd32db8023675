"""Wall time of a step on MNIST, 784-50-10, batch 4,096: the default beside SGD, with blocks beside SOAP; batch fixed.

``python -m benchmarks.micro.step_time [RUNS]``: one process, one thread; the methods make one step each in turn, so
that a load on the machine meets all of them. Each row is over the steps after the memory is full, those of a round
compared with SGD's and SOAP's of that round; "mean" is the mean over SOAP's, for both have dear steps now and then.
"outside" is the time that is not spent in loss and gradient.
"""

from __future__ import annotations

import copy
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
from benchmarks.micro.timing import Timed  # noqa: E402
from benchmarks.tune import torch_methods  # noqa: E402
from benchmarks.tune.report import machine  # noqa: E402
from benchmarks.tune.tasks import TASKS, setting  # noqa: E402
from tqdm import tqdm  # noqa: E402

import mblsr1  # noqa: E402

TASK, BASE, STRUCTURED = "mnist", "SGD", "SOAP"
REPEATS, FULL, STEPS = 3, 70, 210
FIXED = mblsr1.Options(batch_size=TASKS[TASK].batch, gtol=0.0, largest_share=1e-9)
SHAPES = [(784, 50), (50,), (50, 10), (10,)]
RUNS: dict[str, dict[str, Any]] = {
    BASE: {"method": mblsr1.sgd(0.1, momentum=0.9), "options": FIXED},
    "Options()": {"options": FIXED},
    "Options(memory=16)": {"options": FIXED.replace(memory=16)},
    "Options(blocks)": {"options": FIXED.replace(blocks=SHAPES)},
    "Options(blocks, memory=16)": {"options": FIXED.replace(blocks=SHAPES, memory=16)},
    STRUCTURED: {"rate": 0.03},
}


class Clocked:
    """A run that makes one step at a time and keeps what each took: all of it, and what is outside the function."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        network, data = setting(TASK)
        self.fun, self.times = Timed(network.loss_and_gradient), []
        w, sampler = network.start(np.random.default_rng(1_000)), mblsr1.ArraySampler(data.X, data.y)
        self.steps = self._peer(network, w, sampler, arguments) if "rate" in arguments else mblsr1.iterate(
            self.fun, True, w, sampler, rng=0, max_samples=TASKS[TASK].epochs * len(data.y), **arguments
        )  # fmt: skip

    def _peer(self, network: Any, w: Any, sampler: Any, arguments: dict[str, Any]) -> Iterator[None]:
        torch_methods.warm_up(STRUCTURED)
        timed = copy.copy(network)
        timed.loss_and_gradient = self.fun
        return torch_methods.iterate(STRUCTURED, arguments, timed, w, sampler, TASKS[TASK].batch, STEPS, 0)

    def step(self) -> None:
        """Make one."""
        inside, began = self.fun.seconds, time.perf_counter()
        next(self.steps)
        whole = time.perf_counter() - began
        self.times.append((whole, whole - (self.fun.seconds - inside)))


def times(repeats: int) -> dict[str, Any]:
    """By method: steps of all repeats x (all, outside), in ms."""
    rows: dict[str, list[Any]] = {name: [] for name in RUNS}
    for _ in tqdm(range(repeats), desc="step time"):
        runs = {name: Clocked(arguments) for name, arguments in RUNS.items()}
        for _ in range(STEPS):
            for run in runs.values():
                run.step()
        for name, run in runs.items():
            rows[name] += run.times[FULL:]
    return {name: 1e3 * np.array(row) for name, row in rows.items()}


def row(name: str, found: dict[str, Any]) -> tuple[str, ...]:
    """Cells of one method."""
    rows = found[name]
    low, ratio, high = np.quantile(rows[:, 0] / found[BASE][:, 0], [0.25, 0.5, 0.75])
    peer, mean = np.median(rows[:, 0] / found[STRUCTURED][:, 0]), rows[:, 0].mean() / found[STRUCTURED][:, 0].mean()
    median = np.median(rows, axis=0)
    texts = [f"{x:.2f}" for x in (*median, ratio, peer, mean)]
    return (*texts[:3], f"{low:.2f} to {high:.2f}", *texts[3:])


def main(repeats: int = REPEATS) -> dict[str, float]:
    """Print the table; return each method's median ratio to SGD."""
    found = times(repeats)
    print(f"{machine()}; seed 0; batch {FIXED.batch_size:,}, steps {FULL + 1} to {STEPS} of {repeats} runs")
    heads = ("median", "outside", f"/ {BASE}", "quartiles", f"/ {STRUCTURED}", "mean")
    print(f"  {'wall time of a step, ms':28}{''.join(f'{head:>14}' for head in heads)}")
    rows = {name: row(name, found) for name in found}
    for name, cells in rows.items():
        print(f"  {name:28}{''.join(f'{cell:>14}' for cell in cells)}")
    return {name: float(cells[2]) for name, cells in rows.items()}


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
