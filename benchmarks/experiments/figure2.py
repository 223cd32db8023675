"""Figure 2: NetDNN on MNIST and ResNet20 on CIFAR-10, each method with the best of its grid in Table 2.

The grid is tuned in rounds on images of the training set: after each the settings with the highest accuracy on held-out
training images stay, of equal ones those with the smaller training loss. The best setting of each method is then run
on the whole training set of the scale, with several seeds, beside the recommended method, which is not tuned.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.experiments import table2, training
from benchmarks.experiments.common import chosen
from benchmarks.experiments.training import RECOMMENDED, STORE, version_of
from benchmarks.store import Settings, key

work = training.work
TUNED = (
    "SGD (large batch)",
    "Adam (large batch)",
    "SVRG (large batch)",
    "RMSprop (large batch)",
    "L-SSR1-TR",
    "MB-LSR1",
)
CURVES = (*TUNED, *RECOMMENDED)
#: Points of the curve of a final run after its start.
POINTS = 12


class Round(NamedTuple):
    """Passes over the tuning images, and how many settings stay after them."""

    epochs: float
    kept: int


class Plan(NamedTuple):
    """Sizes of one data set at one scale.

    Table 2's batches are divided by `tune_divisor` and `divisor`. `points` is how many points of its curve a tuning run
    records; where there are any, it also ends with the test accuracy, which takes no part in the choice.
    """

    n_tune: int
    n_held_out: int
    tune_divisor: int
    rounds: tuple[Round, ...]
    n_train: int
    divisor: int
    epochs: float
    seeds: int
    side: int
    device: str
    points: int


PLANS: dict[str, dict[str, Plan]] = {
    "small": {
        "mnist": Plan(6_000, 2_000, 10, (Round(1, 2), Round(3, 1)), 60_000, 1, 5, 3, 28, "cpu", 0),
        "cifar10": Plan(4_096, 2_000, 4, (Round(3, 1),), 4_096, 4, 10, 3, 8, "cpu", 5),
    },
    "full": {
        "mnist": Plan(50_000, 10_000, 1, (Round(5, 1),), 60_000, 1, 20, 10, 28, "cuda", 0),
        "cifar10": Plan(45_000, 5_000, 1, (Round(20, 1),), 50_000, 1, 60, 10, 32, "cuda", 5),
    },
}


def tuning(data: str, plan: Plan, row: str, options: dict[str, Any], epochs: float) -> Settings:
    """A run of the grid, on the first seed."""
    return {
        "data": data, "role": "tuning", "row": row, "options": options, "seed": 0, "n_train": plan.n_tune,
        "n_held_out": plan.n_held_out, "side": plan.side, "divisor": plan.tune_divisor, "epochs": epochs,
        "device": plan.device, "points": plan.points, "version": version_of(row),
    }  # fmt: skip


def final(data: str, plan: Plan, row: str, options: dict[str, Any], seed: int) -> Settings:
    """A run of a chosen setting."""
    return {
        "data": data, "role": "final", "row": row, "options": options, "seed": seed, "n_train": plan.n_train,
        "n_held_out": 0, "side": plan.side, "divisor": plan.divisor, "epochs": plan.epochs, "device": plan.device,
        "points": POINTS, "version": version_of(row),
    }  # fmt: skip


def jobs(scale: str, only: list[str] | None = None) -> list[Settings]:
    """Runs that are missing and can be told: the next round of each grid, or the final runs, seed by seed."""
    have, newest = STORE.finished(), STORE.newest()
    plans = PLANS[scale]
    found: list[Settings] = []
    for data in chosen(plans, only):
        wanted = list(_wanted(data, plans[data], newest))
        found += sorted((r for r in wanted if key(r) not in have), key=lambda r: r["seed"])
    return found


def _wanted(data: str, plan: Plan, newest: dict[str, Any]) -> Iterator[Settings]:
    for row in TUNED:
        options, missing = choice(data, plan, row, newest)
        yield from missing
        if options is not None:
            yield from (final(data, plan, row, options, seed) for seed in range(plan.seeds))
    for row in RECOMMENDED:
        yield from (final(data, plan, row, {}, seed) for seed in range(plan.seeds))


def choice(data: str, plan: Plan, row: str, newest: dict[str, Any]) -> tuple[dict[str, Any] | None, list[Settings]]:
    """Return the best setting of a row, or None with the runs that are still needed to tell it."""
    settings = table2.grid(row)
    for epochs, kept in plan.rounds:
        runs = [tuning(data, plan, row, options, epochs) for options in settings]
        results = [newest.get(key(run, versioned=False)) for run in runs]
        missing = [run for run, result in zip(runs, results, strict=True) if result is None]
        if missing:
            return None, missing
        order = sorted(range(len(runs)), key=lambda i: _rank(results[i]["result"]), reverse=True)
        settings = [settings[i] for i in order[:kept]]
    return settings[0], []


def _rank(result: dict[str, Any]) -> tuple[bool, float, float]:
    loss = result["loss"]
    return result["finite"], result["held_out_accuracy"], -math.inf if loss is None else -loss
