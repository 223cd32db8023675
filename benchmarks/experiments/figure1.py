"""Figure 1: MB-LSR1 against tuned SGD with momentum on 27 imbalanced sets at 7 batch sizes.

A job is a cell, one set at one batch: all runs on it, at one budget of sample-gradients. SGD's grid is run with the
first seed; then the settings that are best there by test accuracy, balanced accuracy or average precision, in the
paper's grid and in the wide one, with the other seeds too. The choice by test data favours SGD. MB-LSR1 has one setting
for all cells.
"""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
from benchmarks import data
from benchmarks.experiments import RESULTS
from benchmarks.experiments.common import Budget, chosen, made_on, version
from benchmarks.imbalanced import PART, PARTS, TABLE
from benchmarks.store import Settings, Store, key
from benchmarks.tune.networks import Network, Perceptron

import mblsr1

STORE = Store("figure1", RESULTS)
SETS = tuple(PART if name == "isolet" else name for name in TABLE)
BATCHES = ("16", "32", "64", "128", "N/10", "N/8", "N/4")
SEEDS = (0, 1, 2, 3, 4)
MEASURES = ("accuracy", "balanced_accuracy", "average_precision")
#: Table 2, SGD.
PAPER_RATES, MOMENTA = (0.01, 0.001, 0.0001), (0.9, 0.95, 0.99)
#: The wide grid has these too.
LARGER_RATES = (0.1, 0.3, 1.0)
#: One setting each for all cells; the batch is the cell's.
OURS = {"default": mblsr1.Options(), "paper": mblsr1.Options.paper()}
HIDDEN = 50

BUDGETS = {"small": Budget(30, 1_000, 150_000, 4), "full": Budget(200, 20_000, 2_000_000, 50)}


def cost(budget: Budget, n_samples: int, batch: int) -> int:
    """Sample-gradients of every run of a cell."""
    whole = min(budget.passes * n_samples, max(budget.samples, budget.least_passes * n_samples))
    return int(min(whole, budget.batches * batch))


def size(batch: str, n_samples: int) -> int:
    """A batch size by its name, for `n_samples` training rows."""
    return max(1, n_samples // int(batch[2:])) if batch.startswith("N/") else min(int(batch), n_samples)


def grid() -> list[dict[str, float]]:
    """The wide grid; the paper's are those of its rates."""
    return [{"rate": r, "momentum": m} for r, m in itertools.product((*PAPER_RATES, *LARGER_RATES), MOMENTA)]


def settings(name: str, batch: str, scale: str) -> Settings:
    """Everything that makes the cell what it is."""
    return {
        "set": name, "batch": batch, "budget": list(BUDGETS[scale]), "seeds": list(SEEDS), "hidden": HIDDEN,
        "version": version(),
    }  # fmt: skip


def jobs(scale: str, only: list[str] | None = None) -> list[Settings]:
    """Cells that are missing, smallest sets first."""
    sizes = {**TABLE, **PARTS}
    names = chosen([*SETS, "isolet"], only) if only else list(SETS)
    have = STORE.finished()
    ordered = sorted(names, key=lambda name: sizes[name].rows * sizes[name].columns)
    cells = [settings(name, batch, scale) for name in ordered for batch in BATCHES]
    return [cell for cell in cells if key(cell) not in have]


@functools.lru_cache(maxsize=1)
def task(name: str) -> tuple[Perceptron, data.Split]:
    """Return network and data of a set."""
    split = data.imbalanced(name)
    return Perceptron(split.X.shape[1], HIDDEN, 2), split


def work(cell: Settings) -> None:
    """Make all runs of a cell and store them."""
    network, split = task(cell["set"])
    bench = Cell(network, split, size(cell["batch"], len(split.y)), Budget(*cell["budget"]))
    began = time.process_time()
    ours = bench.variants(OURS, cell["seeds"])
    sgd = tuned(bench, cell["seeds"])
    STORE.save(cell, {
        "n_samples": len(split.y), "n_test": len(split.y_test), "test_minority": int(split.y_test.sum()),
        "batch": bench.batch, "cost": bench.budget, **ours, "sgd": sgd,
        "cpu_seconds": round(time.process_time() - began, 2), "machine": made_on(),
    })  # fmt: skip


class Cell:
    """The runs on one set at one batch size.

    Parameters
    ----------
    network : Network
    split : data.Split
    batch : int
        Rows of a batch.
    budget : Budget
    """

    def __init__(self, network: Network, split: data.Split, batch: int, budget: Budget) -> None:
        self.network, self.split, self.batch = network, split, batch
        self.sampler = mblsr1.ArraySampler(split.X, split.y)
        self.budget = cost(budget, len(split.y), batch)

    def options(self, options: mblsr1.Options) -> mblsr1.Options:
        """With the cell's batch; no run ends before its budget does."""
        return options.replace(batch_size=self.batch, gtol=0.0)

    def run(self, seed: int, **arguments: Any) -> dict[str, Any]:
        """Measures of the last iterate of one run; the seed decides start and batches, the same for all methods."""
        w0 = self.network.start(np.random.default_rng(1_000 + seed))
        with np.errstate(all="ignore"):
            result = mblsr1.minimize(
                self.network.loss_and_gradient, True, w0, self.sampler, rng=seed, max_samples=self.budget, **arguments
            )
            found = self.measured(result.x)
        return {**found, "steps": result.nit, "cost": round(float(result.n_samples))}

    def variants(self, given: dict[str, mblsr1.Options], seeds: Iterable[int]) -> dict[str, list[dict[str, Any]]]:
        """Run each of the options with each of the seeds."""
        return {
            name: [self.run(seed, options=self.options(options)) for seed in seeds] for name, options in given.items()
        }

    def sgd(self, seed: int, setting: dict[str, float]) -> dict[str, Any]:
        """One run of SGD with momentum."""
        method = mblsr1.sgd(setting["rate"], setting["momentum"])
        return self.run(seed, method=method, options=self.options(mblsr1.Options()))

    def measured(self, w: Any) -> dict[str, Any]:
        """Training loss and the three measures on the test set; None for a loss that is not finite."""
        loss = self.network.loss(w, self.split.X, self.split.y)
        scores, y = self.network.scores(w, self.split.X_test), self.split.y_test
        found = measures(scores, y)
        return {"loss": float(f"{loss:.5g}") if math.isfinite(loss) else None, **found}


def measures(scores: Any, y: Any) -> dict[str, float]:
    """Return accuracy, balanced accuracy and average precision of the minority, class 1; of more classes accuracy.

    Scores that are not finite count as no answer: of two classes the share of the majority, 1/2 and the share of the
    minority.
    """
    if not np.isfinite(scores).all():
        scores = np.zeros(scores.shape)  # the first class, in ties
    if scores.shape[1] > 2:
        return {"accuracy": round(float((scores.argmax(axis=1) == y).mean()), 6)}
    right, margin = scores.argmax(axis=1) == y, scores[:, 1] - scores[:, 0]
    found = (right.mean(), (right[y == 0].mean() + right[y == 1].mean()) / 2.0, average_precision(margin, y))
    return {name: round(float(value), 6) for name, value in zip(MEASURES, found, strict=True)}


def average_precision(margin: Any, y: Any) -> float:
    """Return the sum over thresholds of the precision times the gain in recall; equal margins share a threshold."""
    order = np.argsort(-margin, kind="stable")
    last = np.flatnonzero(np.append(np.diff(margin[order]) != 0.0, True))  # of each threshold
    hits = np.cumsum(y[order])[last]
    return float(np.sum(hits / (last + 1.0) * np.diff(hits, prepend=0)) / hits[-1])


def tuned(bench: Cell, seeds: Iterable[int]) -> list[dict[str, Any]]:
    """Return every setting of the grid with its runs: all seeds for those that the first seed says are best."""
    first, *others = seeds
    rows: list[dict[str, Any]] = [{**setting, "runs": [bench.sgd(first, setting)]} for setting in grid()]
    rates = (PAPER_RATES, (*PAPER_RATES, *LARGER_RATES))
    for i in sorted({best(rows, which, measure) for which in rates for measure in MEASURES}):
        rows[i]["runs"] += [bench.sgd(seed, rows[i]) for seed in others]
    return rows


def best(rows: list[dict[str, Any]], rates: tuple[float, ...], measure: str) -> int:
    """Return which setting of these rates is best on the first seed; of equal ones the one with the smallest loss."""
    inside = [i for i, row in enumerate(rows) if row["rate"] in rates]
    return max(inside, key=lambda i: _rank(rows[i]["runs"][0], measure))


def _rank(run: dict[str, Any], measure: str) -> tuple[float, float]:
    return run[measure], -math.inf if run["loss"] is None else -run["loss"]
