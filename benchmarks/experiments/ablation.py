"""Ablation: each of the paper's three remedies off alone, and each measure of the default off alone.

The imbalanced sets are those that took no part in the choice of the default (`benchmarks.tune.tasks`). A job is one
set, one batch and one preset with all its variants, on one budget of sample-gradients.
"""

from __future__ import annotations

import functools
import time
from typing import Any

from benchmarks import data
from benchmarks.experiments import RESULTS
from benchmarks.experiments.common import Budget, chosen, made_on, version
from benchmarks.experiments.figure1 import HIDDEN, Cell, size
from benchmarks.store import Settings, Store, key
from benchmarks.tune.networks import Network, Perceptron
from benchmarks.tune.stochastic import VARIANTS
from benchmarks.tune.tasks import REPORTING_SETS

import mblsr1

STORE = Store("ablation", RESULTS)
MNIST = "mnist"
#: Batches by data.
BATCHES = {**dict.fromkeys(REPORTING_SETS, ("64", "N/8")), MNIST: ("1024",)}
SEEDS = (0, 1, 2, 3, 4)
BUDGETS = {"small": Budget(15, 400, 60_000, 1), "full": Budget(200, 20_000, 2_000_000, 20)}

#: Changes to `Options.paper()`; the first row is the base.
PAPER: dict[str, dict[str, Any]] = {
    "paper": {},
    "no progressive radius": {"ratio_memory": 0.0},
    "check on the whole set": {"check_size": "all"},
    "no restart": {"restart_memory": None},
}
#: Changes to `Options()`, by the names of the development bench; the first row is the base.
DEFAULT: dict[str, dict[str, Any]] = {
    name: VARIANTS[name]
    for name in (
        "default", "raw SR1", "signed eigenvalues", "no reset", "no overlap", "no annealing", "batch fixed",
        "batch by Algorithm 6", "16 pairs", "no running mean",
    )
}  # fmt: skip
PRESETS = {"paper": PAPER, "default": DEFAULT}


def variants(preset: str) -> dict[str, mblsr1.Options]:
    """Options of the base and its variants; the paper's have L-SSR1-TR, from the same radius, beside them."""
    start = mblsr1.Options.paper() if preset == "paper" else mblsr1.Options()
    found = {name: start.replace(**changes) for name, changes in PRESETS[preset].items()}
    return {**found, "L-SSR1-TR": mblsr1.Options.l_ssr1_tr()} if preset == "paper" else found


def settings(name: str, batch: str, preset: str, scale: str) -> Settings:
    """Everything that makes the job what it is."""
    return {
        "set": name, "batch": batch, "preset": preset, "budget": list(BUDGETS[scale]), "seeds": list(SEEDS),
        "variants": list(variants(preset)), "hidden": HIDDEN, "version": version(),
    }  # fmt: skip


def jobs(scale: str, only: list[str] | None = None) -> list[Settings]:
    """Jobs that are missing."""
    have = STORE.finished()
    wanted = [
        settings(name, batch, preset, scale)
        for name in chosen(BATCHES, only)
        for batch in BATCHES[name]
        for preset in PRESETS
    ]
    return [job for job in wanted if key(job) not in have]


@functools.lru_cache(maxsize=1)
def task(name: str) -> tuple[Network, data.Split]:
    """Return network and data."""
    split = data.mnist() if name == MNIST else data.imbalanced(name)
    return Perceptron(split.X.shape[1], HIDDEN, 10 if name == MNIST else 2), split


def work(job: Settings) -> None:
    """Run the base and its variants and store them."""
    network, split = task(job["set"])
    bench = Cell(network, split, size(job["batch"], len(split.y)), Budget(*job["budget"]))
    began = time.process_time()
    runs = bench.variants(variants(job["preset"]), job["seeds"])
    STORE.save(job, {
        "n_samples": len(split.y), "batch": bench.batch, "cost": bench.budget, "runs": runs,
        "cpu_seconds": round(time.process_time() - began, 2), "machine": made_on(),
    })  # fmt: skip
