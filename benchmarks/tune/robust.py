"""How much the settings matter: the default with random settings, beside the grid of SGD.

``python -m benchmarks.tune.robust``: 100 draws of nine knobs, each a run on every small selection task; prints
the final training losses, and writes robust.md beside the report. SGD's runs must be stored already.
"""

from __future__ import annotations

import multiprocessing
import statistics
from typing import Any

import numpy as np
from benchmarks.store import key
from benchmarks.tune import RESULTS, stochastic
from benchmarks.tune.report import machine
from benchmarks.tune.tasks import SELECTION_SETS, TASKS, setting
from tqdm import tqdm

import mblsr1

DRAWS = 100


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """Return nine knobs, drawn within ranges that a user may think of; the batch as a factor."""
    return {
        "memory": int(2 ** rng.uniform(3, 7)),
        "initial_radius": float(10 ** rng.uniform(-3, 1)),
        "ratio_memory": float(rng.uniform(0.5, 0.99)),
        "overlap": float(rng.uniform(0.05, 0.4)),
        "gradient_memory": float(rng.uniform(0.0, 0.7)),
        "poor_ratio": float(rng.uniform(0.1, 0.5)),
        "good_ratio": float(rng.uniform(0.6, 0.9)),
        "noise_limit": float(rng.uniform(0.4, 0.8)),
        "batch": float(2 ** rng.uniform(-2, 1)),
    }


def run(job: tuple[str, int]) -> float:
    """Final training loss of one draw on one task; seed and draw have the same number."""
    task, number = job
    knobs = draw(np.random.default_rng(number))
    network, data = setting(TASKS[task].data)
    batch = max(1, round(len(data.y) / 8 * knobs.pop("batch")))
    result = mblsr1.minimize(
        network.loss_and_gradient, True, network.start(np.random.default_rng(1_000)),
        mblsr1.ArraySampler(data.X, data.y), rng=0, max_samples=TASKS[task].epochs * len(data.y),
        options=mblsr1.Options(batch_size=batch, gtol=0.0, **knobs),
    )  # fmt: skip
    return float(network.loss(result.x, data.X, data.y))


def sgd_grid(task: str) -> list[float]:
    """Final training losses of SGD's grid on seed 0; infinite where a run did not stay finite."""
    newest = stochastic.STORE.newest()
    runs = [stochastic.settings(task, "SGD", options, 0) for options in stochastic.grids()["SGD"]]
    losses = [newest[key(r, versioned=False)]["result"]["loss"] for r in runs]
    return [np.inf if loss is None else loss for loss in losses]


def main() -> None:
    """Run, print and write."""
    jobs = [(task, number) for task in SELECTION_SETS for number in range(DRAWS)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        losses = list(tqdm(pool.imap(run, jobs), total=len(jobs), desc="robust"))
    lines = [
        "# Random settings",
        "",
        f"{machine()}. Final training losses of {DRAWS} random settings of nine knobs of the default, and of SGD's "
        f"grid of {len(stochastic.SGD_RATES)} rates with momentum 0.9. Seed 0 for start and batches; draw k has the "
        "generator of seed k. Written by `python -m benchmarks.tune.robust`.",
        "",
        "| task | default: least | median | largest | SGD: least | median | largest |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for i, task in enumerate(SELECTION_SETS):
        ours, theirs = losses[i * DRAWS : (i + 1) * DRAWS], sgd_grid(task)
        cells = [f"{f(v):.2e}" for v in (ours, theirs) for f in (min, statistics.median, max)]
        lines.append(f"| {task} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    (RESULTS / "robust.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
