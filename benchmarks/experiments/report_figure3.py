"""Figure 3 as bands and quantiles: what the choice of a setting does to the test accuracy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.experiments import report
from benchmarks.experiments.common import Claim, described
from benchmarks.experiments.figure2 import PLANS
from benchmarks.experiments.figure3 import DATA, ROWS, STORE, runs
from benchmarks.experiments.report_figure2 import COST, SCALE, TEST, along
from benchmarks.store import key

QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
NAMES = ("smallest", "10 %", "25 %", "median", "75 %", "90 %", "largest")
ALL_SGD = "SGD, all batches"
COLORS = {"SGD": "#ffa600", "SGD (large batch)": "#b36b00", "MB-LSR1": "#0b6e99", "default": "#000000"}
TITLES = {"MB-LSR1": "MB-LSR1 (paper)", "default": "MB-LSR1 (default, same grid)"}


def records(row: str) -> list[dict[str, Any]]:
    """Stored runs of a row."""
    newest = STORE.newest()
    keys = [key(run, versioned=False) for run in runs(SCALE, row)]
    return [newest[k] for k in keys if k in newest]


def complete() -> list[str]:
    """Rows of which every setting has been run."""
    return [row for row in ROWS if len(records(row)) == len(runs(SCALE, row))]


def accuracies(row: str) -> Any:
    """Final test accuracies, sorted."""
    rows = ("SGD", "SGD (large batch)") if row == ALL_SGD else (row,)
    return np.sort([r["result"]["test_accuracy"] for name in rows for r in records(name)])


def spread(values: Any) -> float:
    """Return the distance of the 10 % and the 90 % quantile."""
    low, high = np.quantile(values, (0.1, 0.9))
    return float(high - low)


def claims() -> list[Claim]:
    """Return the rows of the page's first table."""
    done = complete()
    if not {"SGD", "SGD (large batch)"} <= set(done):
        return []
    ours = [row for row in ("MB-LSR1", "default") if row in done]
    sgd = accuracies(ALL_SGD)
    return [claim for row in ours for claim in (robust(row, accuracies(row), sgd), easy(row, accuracies(row), sgd))]


def robust(row: str, ours: Any, sgd: Any) -> Claim:
    """Section 5.3: a thinner spectrum, by the quantiles of 10 % and 90 %; says nothing of its height."""
    return Claim(
        "Figure 3",
        f"{TITLES[row]} is robust to its hyper-parameters compared with SGD",
        f"test accuracy from the 10 % to the 90 % quantile of the grid: {100 * spread(ours):.1f} points "
        f"against {100 * spread(sgd):.1f}",
        "yes" if spread(ours) < spread(sgd) else "no",
    )


def easy(row: str, ours: Any, sgd: Any) -> Claim:
    """Section 5.3: less tuning is required, by the median setting."""
    middle, theirs = float(np.median(ours)), float(np.median(sgd))
    return Claim(
        "Figure 3",
        f"{TITLES[row]} requires less tuning than SGD",
        f"test accuracy of the median setting {middle:.3f} against {theirs:.3f}; of the best one "
        f"{ours[-1]:.3f} against {sgd[-1]:.3f}",
        "yes" if middle > theirs else "no",
    )


def section() -> str:
    """Return the section of the page."""
    done = complete()
    if not done:
        return ""
    picture = "![Test accuracy over the settings of the grids](_static/experiments/figure3.png)\n"
    return "\n".join([caption(done), table(done), picture])


def caption(done: list[str]) -> str:
    """Return what was run, at what cost, and on what."""
    plan = PLANS[SCALE][DATA]
    found = [r for row in done for r in records(row)]
    seconds = sum(r["result"]["cpu_seconds"] for r in found)
    missing = [row for row in ROWS if row not in done]
    late = f" Not yet run: {', '.join(missing)}." if missing else ""
    return f"""\
## Figure 3: sensitivity

Every setting of Table 2 for SGD and MB-LSR1, ResNet20 on {plan.n_tune:,} CIFAR-10 images of exact pixels,
averaged to {plan.side} x {plan.side}, {plan.rounds[0].epochs:g} epochs of sample-gradients, all batches of Table 2
divided by {plan.tune_divisor}, one seed. The runs at large batch and those of MB-LSR1 are figure 2's tuning runs.
"default" is `Options()` with memory, batch and first radius of MB-LSR1's grid: its own first radius, 1, is not among
them.{late} Guessing has accuracy .1; a thin band near it is no merit.
Verdicts: robust where the 10 % and 90 % quantiles are closer than those of all SGD settings; less tuning where the
median setting is better than SGD's.

- {described(found)}. {seconds / 60:.0f} minutes of CPU time. `python -m nox -s experiments -- figure3`.
"""


def table(done: Iterable[str]) -> str:
    """Return quantiles of the final test accuracy over the settings."""
    done = list(done)
    shown = [*done, ALL_SGD] if {"SGD", "SGD (large batch)"} <= set(done) else done
    body = []
    for row in shown:
        values = accuracies(row)
        body.append([TITLES.get(row, row), str(len(values)), *(f"{q:.3f}" for q in np.quantile(values, QUANTILES))])
    return "Final test accuracy over the settings, quantiles:\n\n" + report.rows(["method", "settings", *NAMES], body)


def pictures(folder: Path) -> None:
    """Draw the figure."""
    if complete():
        report.save(bands(), folder, "figure3")


def bands() -> Any:
    """Return the figure: range, quartiles and median along the run, and the final accuracies in order."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    done, n_train = complete(), PLANS[SCALE][DATA].n_tune
    figure, grid = plt.subplots(2, 3, figsize=(11, 6.6), sharey=True, layout="constrained")
    axes = grid.flat[: len(done) + 1]
    for axis in grid.flat[len(axes) :]:
        axis.set_visible(False)
    for axis, row in zip(axes, done, strict=False):
        x, values = along([r["result"] for r in records(row)], TEST, lambda point: point[COST] / n_train)
        low, first, middle, third, high = np.quantile(values, (0.0, 0.25, 0.5, 0.75, 1.0), axis=0)
        axis.fill_between(x, low, high, color=COLORS[row], alpha=0.2, lw=0)
        axis.fill_between(x, first, third, color=COLORS[row], alpha=0.4, lw=0)
        axis.plot(x, middle, color=COLORS[row], lw=2)
        axis.set_title(f"{TITLES.get(row, row)}\n{len(values)} settings", fontsize=9)
        axis.set_xlabel("epochs")
    _ordered(axes[-1], done)
    for axis in grid[:, 0]:
        axis.set_ylabel("test accuracy")
    for axis in axes:
        axis.set_axisbelow(True)
        axis.grid(True, color="0.92")
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        "ResNet20 on CIFAR-10; all settings (light), middle half (dark), median (line)", fontsize=10, x=0.01, ha="left"
    )
    return figure


def _ordered(axis: Any, done: Iterable[str]) -> None:
    """Draw the final accuracies, the worst setting first."""
    for row in done:
        values = accuracies(row)
        share = (np.arange(len(values)) + 0.5) / len(values)
        axis.plot(share, values, "o-", color=COLORS[row], ms=3, lw=1, label=TITLES.get(row, row))
    axis.set_title("at the end", fontsize=9)
    axis.set_xlabel("share of the settings")
    legend = axis.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.05, 0.5))
    legend.set_in_layout(False)  # in the free place beside the panel
