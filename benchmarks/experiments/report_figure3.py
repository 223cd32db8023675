"""Figure 3 as bands and quantiles: what the choice of a setting does to the test accuracy."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.experiments import report
from benchmarks.experiments.common import Claim, described
from benchmarks.experiments.figure2 import PLANS
from benchmarks.experiments.figure3 import DATA, ROWS, STORE, runs
from benchmarks.experiments.report_figure2 import COST, SCALE, TEST, along, size
from benchmarks.experiments.training import WATCHED
from benchmarks.store import key

QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
NAMES = ("smallest", "10 %", "25 %", "median", "75 %", "90 %", "largest")
SGD = ("SGD", "SGD (large batch)")
ALL_SGD = "SGD, all batches"
COLORS = {"SGD": "#ffa600", "SGD (large batch)": "#b36b00", "MB-LSR1": "#0b6e99", "default": "#000000"}
TITLES = {"SGD": "SGD, small batches", "MB-LSR1": "MB-LSR1 (paper)", "default": "MB-LSR1 (default, same grid)"}


def records(row: str) -> list[dict[str, Any]]:
    """Stored runs of a row, a setting each."""
    newest = STORE.newest()
    settings = [run for name in (SGD if row == ALL_SGD else (row,)) for run in runs(SCALE, name)]
    return [newest[k] for k in (key(run, versioned=False) for run in settings) if k in newest]


def complete() -> list[str]:
    """Rows of which every setting has been run."""
    return [row for row in ROWS if len(records(row)) == len(runs(SCALE, row))]


def distinct(row: str) -> list[dict[str, Any]]:
    """Results of a row, those of equal runs once: a memory that never fills makes no difference."""
    found: dict[str, dict[str, Any]] = {}
    for record in records(row):
        found.setdefault(_numbers(record["result"]), record["result"])
    return list(found.values())


def _numbers(result: dict[str, Any]) -> str:
    """All that is stored of a run but its times and where it was made."""
    kept = {name: value for name, value in result.items() if name not in ("curve", "cpu_seconds", "machine")}
    return json.dumps([kept, [[cost, *rest] for cost, _seconds, *rest in result["curve"]]], sort_keys=True)


def accuracies(row: str) -> Any:
    """Final test accuracies of the distinct runs, sorted."""
    return np.sort([result["test_accuracy"] for result in distinct(row)])


def spread(values: Any) -> float:
    """Return the distance of the 10 % and the 90 % quantile."""
    low, high = np.quantile(values, (0.1, 0.9))
    return float(high - low)


def claims() -> list[Claim]:
    """Return the rows of the page's first table."""
    done = complete()
    if not set(SGD) <= set(done):
        return []
    sgd = {"all batches": accuracies(ALL_SGD), "small batches": accuracies("SGD")}
    ours = {row: accuracies(row) for row in ("MB-LSR1", "default") if row in done}
    return [claim(row, values, sgd) for row, values in ours.items() for claim in (robust, easy)]


def robust(row: str, ours: Any, sgd: dict[str, Any]) -> Claim:
    """Section 5.3: a thinner spectrum, by the quantiles of 10 % and 90 %; says nothing of its height."""
    theirs = {name: spread(values) for name, values in sgd.items()}
    shown = " and ".join(f"{100 * value:.1f} ({name})" for name, value in theirs.items())
    return Claim(
        "Figure 3",
        f"{TITLES[row]} is robust to its hyper-parameters compared with SGD",
        f"test accuracy from the 10 % to the 90 % quantile: {100 * spread(ours):.1f} points against SGD's {shown}",
        judged({name: spread(ours) < value for name, value in theirs.items()}),
    )


def easy(row: str, ours: Any, sgd: dict[str, Any]) -> Claim:
    """Section 5.3: less tuning is required, by the median run."""
    middle = float(np.median(ours))
    theirs = {name: float(np.median(values)) for name, values in sgd.items()}
    shown = " and ".join(f"{value:.3f} ({name})" for name, value in theirs.items())
    best = max(values[-1] for values in sgd.values())
    return Claim(
        "Figure 3",
        f"{TITLES[row]} requires less tuning than SGD",
        f"test accuracy of the median run {middle:.3f} against SGD's {shown}; of the best one {ours[-1]:.3f} against "
        f"{best:.3f}",
        judged({name: middle > value for name, value in theirs.items()}),
    )


def judged(holds: dict[str, bool]) -> str:
    """Return "yes" or "no", or each with what it is against where they differ."""
    words = {name: "yes" if value else "no" for name, value in holds.items()}
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return ", ".join(f"{word} ({name})" for name, word in words.items())


def section() -> str:
    """Return the section of the page."""
    done = complete()
    if not done:
        return ""
    picture = f"![Test accuracy over the settings: {title()}](_static/experiments/figure3.png)\n"
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
{repeated(done)}
Verdicts: robust where the 10 % and 90 % quantiles are closer than SGD's; less tuning where the median run is better
than SGD's. Both against all of SGD's settings and against those at Table 2's small batches alone, since at its large
ones SGD takes too few steps here to leave guessing.
Curves in the picture: {WATCHED[1]:,} test images. Bars at the end and the last panel: all test images, as in the table.

- {described(found)}. {seconds / 60:.0f} minutes of CPU time. `python -m nox -s experiments -- figure3`.
"""


def repeated(done: Iterable[str]) -> str:
    """Say how many of our settings make different runs, and why."""
    ours = [row for row in ("MB-LSR1", "default") if row in done]
    if not ours:
        return ""
    steps = [r["result"]["steps"] for row in ours for r in records(row)]
    counts = " and ".join(f"the {len(records(row))} of {TITLES[row]} make {len(distinct(row))}" for row in ours)
    return (
        f"Not every setting makes a run of its own. MB-LSR1 takes {min(steps)} to {max(steps)} steps here, and a "
        f"memory that does not fill\nmakes no difference: {counts}.\nEqual runs count once, in table, picture and "
        "verdicts."
    )


def table(done: Iterable[str]) -> str:
    """Return quantiles of the final test accuracy over the distinct runs."""
    done = list(done)
    body = []
    for row in [*done, ALL_SGD] if set(SGD) <= set(done) else done:
        values = accuracies(row)
        counts = f"{len(records(row))} ({len(values)})"
        body.append([TITLES.get(row, row), counts, *(f"{q:.3f}" for q in np.quantile(values, QUANTILES))])
    head = ["method", "settings (distinct runs)", *NAMES]
    return "Final test accuracy over the distinct runs, quantiles:\n\n" + report.rows(head, body)


def title() -> str:
    """Return what was run, in a line."""
    plan = PLANS[SCALE][DATA]
    return f"ResNet20 on CIFAR-10, {size(DATA, plan, plan.n_tune)}, {plan.rounds[0].epochs:g} epochs, one seed"


def pictures(folder: Path) -> None:
    """Draw the figure."""
    if complete():
        report.save(bands(), folder, "figure3")


def bands() -> Any:
    """Return the figure: range, quartiles and median along the run, and the final accuracies in order."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    done = complete()
    figure, grid = plt.subplots(2, 3, figsize=(9, 6.2), sharey=True, layout="constrained")
    axes = grid.flat[: len(done) + 1]
    for axis in grid.flat[len(axes) :]:
        axis.set_visible(False)
    for axis, row in zip(axes, done, strict=False):
        _band(axis, row)
    _ordered(axes[-1], done)
    for axis in grid[:, 0]:
        axis.set_ylabel("test accuracy")
    for axis in axes:
        axis.set_axisbelow(True)
        axis.grid(True, color="0.92")
        axis.spines[["top", "right"]].set_visible(False)
    head = f"{title()}\nlight: all distinct runs; dark: their middle half; line and dot: median; bar: at the end"
    figure.suptitle(head, fontsize=10, x=0.01, ha="left")
    return figure


def _band(axis: Any, row: str) -> None:
    """Draw range, quartiles and median of a row along the run, and as a bar at the end, on all test images."""
    plan, found, color = PLANS[SCALE][DATA], distinct(row), COLORS[row]
    x, values = along([result["curve"] for result in found], TEST, lambda point: point[COST] / plan.n_tune)
    low, first, middle, third, high = np.quantile(values, (0.0, 0.25, 0.5, 0.75, 1.0), axis=0)
    axis.fill_between(x, low, high, color=color, alpha=0.2, lw=0)
    axis.fill_between(x, first, third, color=color, alpha=0.4, lw=0)
    axis.plot(x, middle, color=color, lw=2)
    low, first, middle, third, high = np.quantile(accuracies(row), (0.0, 0.25, 0.5, 0.75, 1.0))
    ends = [plan.rounds[0].epochs] * 2
    axis.plot(ends, (low, high), color=color, alpha=0.4, lw=5, solid_capstyle="butt")
    axis.plot(ends, (first, third), color=color, lw=5, solid_capstyle="butt")
    axis.plot(ends[:1], [middle], "o", color=color, mec="white", ms=7, zorder=4)
    counts = f"{len(records(row))} settings, {len(found)} distinct runs"
    axis.set_title(f"{TITLES.get(row, row)}\n{counts}", fontsize=9)
    axis.set_xlabel("epochs of sample-gradients", fontsize=9)


def _ordered(axis: Any, done: Iterable[str]) -> None:
    """Draw the final accuracies, the worst run first."""
    for row in done:
        values = accuracies(row)
        share = (np.arange(len(values)) + 0.5) / len(values)
        axis.plot(share, values, "o-", color=COLORS[row], ms=3, lw=1, label=TITLES.get(row, row))
    axis.set_title("at the end, in order", fontsize=9)
    axis.set_xlabel("share of the distinct runs", fontsize=9)
    legend = axis.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.05, 0.5))
    legend.set_in_layout(False)  # in the free place beside the panel
