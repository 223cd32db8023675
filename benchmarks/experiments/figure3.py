"""Figure 3: how much the final test accuracy of ResNet20 on CIFAR-10 depends on the setting.

Every setting of Table 2 for SGD, at small and at large batches, and for MB-LSR1, one seed, one budget; the runs at
large batches and of MB-LSR1 are those that figure 2 tunes with. Beside them the recommended method with
MB-LSR1's grid.
"""

from __future__ import annotations

from typing import Any

from benchmarks.experiments import table2, training
from benchmarks.experiments.figure2 import PLANS, tuning
from benchmarks.experiments.training import STORE
from benchmarks.store import Settings, key

DATA = "cifar10"
ROWS = ("SGD", "SGD (large batch)", "MB-LSR1", "default")
work = training.work


def grid(row: str) -> list[dict[str, Any]]:
    """Return the settings of a row of the figure."""
    return table2.grid("MB-LSR1" if row == "default" else row)


def runs(scale: str, row: str) -> list[Settings]:
    """Return the runs of a row, whether made or not."""
    plan = PLANS[scale][DATA]
    return [tuning(DATA, plan, row, options, plan.rounds[0].epochs) for options in grid(row)]


def jobs(scale: str, only: list[str] | None = None) -> list[Settings]:
    """Runs that are missing; `only` does not apply, there is one data set."""
    have = STORE.finished()
    return [run for row in ROWS for run in runs(scale, row) if key(run) not in have]
