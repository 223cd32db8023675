"""Figure 2 as curves and tables: accuracy against epochs of sample-gradients and against time."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from benchmarks.experiments import report
from benchmarks.experiments.common import Claim, Gap, described, paired
from benchmarks.experiments.figure2 import CURVES, PLANS, TUNED, Plan, choice, final
from benchmarks.experiments.training import FIRST_ORDER, MEASURED, STORE, WATCHED, method_of
from benchmarks.store import key

SCALE = "small"
NETWORKS = {"mnist": "NetDNN (59,946 parameters) on MNIST", "cifar10": "ResNet20 (272,474 parameters) on CIFAR-10"}
COLORS = {
    "SGD (large batch)": "#ffa600", "Adam (large batch)": "#ef5675", "SVRG (large batch)": "#8a8a8a",
    "RMSprop (large batch)": "#7a5195", "L-SSR1-TR": "#3d7a5a", "MB-LSR1": "#0b6e99", "default": "#000000",
    "blocks": "#00b4d8",
}  # fmt: skip
TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
OURS = {"MB-LSR1": "MB-LSR1 (paper, tuned)", "default": "MB-LSR1 (default)", "blocks": "MB-LSR1 (blocks)"}
#: Columns of a point of a curve.
COST, SECONDS, TRAIN, TEST = 0, 1, 3, 4
#: Generalises well: the gap between training and test accuracy is not more than this above the best first-order's, and
#: the test accuracy is not below that method's, for a network that has hardly fitted anything has no gap either.
MARGIN = 0.01


class Curve(NamedTuple):
    """A row of the figure: the chosen options, and the runs by seed."""

    options: dict[str, Any]
    runs: list[dict[str, Any]]

    def values(self, name: str) -> list[float]:
        """One number of each run."""
        return [run[name] for run in self.runs]

    def mean(self, name: str) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.values(name))


def results(data: str) -> dict[str, Curve]:
    """Return the rows whose setting is chosen and that have runs, in the figure's order."""
    plan, newest = PLANS[SCALE][data], STORE.newest()
    found = {}
    for row in CURVES:
        options = choice(data, plan, row, newest)[0] if row in TUNED else {}
        if options is None:
            continue
        keys = [key(final(data, plan, row, options, seed), versioned=False) for seed in range(plan.seeds)]
        runs = [newest[k]["result"] for k in itertools.takewhile(newest.__contains__, keys)]
        if runs:
            found[row] = Curve(options, runs)
    return found


def best_first_order(found: dict[str, Curve]) -> str:
    """Return the first-order row with the highest mean test accuracy: chosen by the test set, which favours it."""
    rows = [row for row in found if method_of(row) in FIRST_ORDER]
    return max(rows, key=lambda row: found[row].mean("test_accuracy"))


def claims() -> list[Claim]:
    """Return the rows of the page's first table."""
    made: list[Claim] = []
    for data in NETWORKS:
        found = results(data)
        if not set(TUNED) <= set(found):
            continue
        peer = best_first_order(found)
        ours = [row for row in OURS if row in found]
        made += [outperforms(found, data, row, peer) for row in ours]
        made += [improves(found, data), *(generalises(found, data, row, peer) for row in ours)]
    return made


def outperforms(found: dict[str, Curve], data: str, ours: str, peer: str) -> Claim:
    """Section 5.2: higher test accuracy than the best first-order method at large batch."""
    return Claim(
        f"Figure 2, {data}",
        f"{OURS[ours]} outperforms the best tuned first-order methods with large batches",
        *_compared(found, ours, peer),
    )


def improves(found: dict[str, Curve], data: str) -> Claim:
    """Section 5.2: higher test accuracy than L-SSR1-TR."""
    return Claim(
        f"Figure 2, {data}",
        "MB-LSR1 (paper, tuned) improves on L-SSR1-TR noticeably",
        *_compared(found, "MB-LSR1", "L-SSR1-TR"),
    )


def _compared(found: dict[str, Curve], ours: str, peer: str) -> tuple[str, str]:
    """Return what was measured, and the verdict by the 95 % interval of the paired differences."""
    gap = paired(found[ours].values("test_accuracy"), found[peer].values("test_accuracy"))
    measured = (
        f"test accuracy {found[ours].mean('test_accuracy'):.3f} against {found[peer].mean('test_accuracy'):.3f} "
        f"({peer}), difference {interval(gap)} points"
    )
    return measured, {1: "yes", 0: "not shown", -1: "no"}[gap.sign]


def interval(gap: Gap) -> str:
    """Return a difference in points with its half width."""
    half = f" ± {100 * gap.half:.1f}" if np.isfinite(gap.half) else " (one seed)"
    return f"{100 * gap.mean:+.1f}{half}"


def generalises(found: dict[str, Curve], data: str, ours: str, peer: str) -> Claim:
    """Section 5.2: "generalizes very well for unseen data", by the gap and by the test accuracy itself."""
    (train, test), (their_train, their_test) = (
        (found[row].mean("train_accuracy"), found[row].mean("test_accuracy")) for row in (ours, peer)
    )
    gap, theirs = train - test, their_train - their_test
    return Claim(
        f"Figure 2, {data}",
        f"{OURS[ours]} generalises very well",
        f"training less test accuracy {100 * gap:+.1f} points ({train:.3f} - {test:.3f}) against {100 * theirs:+.1f} "
        f"({their_train:.3f} - {their_test:.3f}, {peer})",
        "no" if gap > theirs + MARGIN else "yes" if test >= their_test else "not shown: the test accuracy is lower",
    )


def section() -> str:
    """Return the section of the page."""
    parts = [part(data) for data in NETWORKS if results(data)]
    return "\n".join(["## Figure 2: large batches\n", HEAD, *parts]) if parts else ""


HEAD = """\
The networks' layers are read from the parameter counts in Table 1; the paper does not give them. Tuning: each method's
grid of Table 2 on training images, in rounds; those settings stay that have the highest accuracy on training images
that are held out. The test set takes no part in it. The best setting is run on all images of the scale, a seed for each
start and order of batches. `default` is `Options()` and `blocks` is `Options(blocks=shapes)`, with no tuning and with
their own batch of 256, which grows. MB-LSR1 and L-SSR1-TR are `Options.paper()` and `Options.l_ssr1_tr()` with
memory, batch and radius of Table 2; they have loss and gradient apart, so a trial of their line search costs a third of
a gradient. Cost counts everything: gradients, losses of trials and checks, SVRG's whole gradients. ResNet20's batch
norm has the moments of the batch in training and of 500 fixed training images in an evaluation.

Verdicts: better or worse where the 95 % interval of the differences, paired by seed (t), leaves zero out, else not
shown. The best first-order method is the one with the highest mean test accuracy, which favours it. "Generalises" is
judged by the gap between training and test accuracy, which may be 1 point above that method's; where the test accuracy
is below that method's, a small gap shows nothing: such a network may hardly have fitted the training images.

`--scale full` has the paper's sizes on a GPU, with the same code and 10 seeds; it has not been run.
"""


def part(data: str) -> str:
    """Return caption, table and picture of one data set."""
    plan, found = PLANS[SCALE][data], results(data)
    picture = f"![Error of {title(data, plan, found)}](_static/experiments/figure2_{data}.png)\n"
    return "\n".join([f"### {NETWORKS[data]}\n", caption(data, plan, found), table(found), picture])


def caption(data: str, plan: Plan, found: dict[str, Curve]) -> str:
    """Return what was run, at what cost, and on what."""
    records = [r for r in STORE.newest().values() if r["settings"]["data"] == data]
    seconds = sum(r["result"]["cpu_seconds"] for r in records)
    missing = [row for row in CURVES if row not in found]
    late = f" Not yet run: {', '.join(missing)}." if missing else ""
    rounds = ", then ".join(
        f"{r.epochs:g} epoch{'s' * (r.epochs != 1)} ({r.kept} stay{'s' * (r.kept == 1)})" for r in plan.rounds
    )
    sides = "" if data == "mnist" else f" of exact pixels, averaged to {plan.side} x {plan.side}"
    return f"""\
- *Final runs*: {plan.n_train:,} training images{sides}, {plan.epochs:g} epochs of sample-gradients, batches of Table 2
  {_divided(plan.divisor)}. Seeds a method: {seeds(found)} of {plan.seeds}.{late}
- *Tuning*: {plan.n_tune:,} of the training images, {plan.n_held_out:,} held out, batches of Table 2
  {_divided(plan.tune_divisor)}; {rounds}; one seed.
- The picture has the error, 1 less the accuracy. Bands: smallest and largest of the seeds. Curves: {WATCHED[0]:,}
  training and {WATCHED[1]:,} test images, where no error counts as half an image. Dots: the ends as in the table, on
  {MEASURED:,} training images and all test images. Time is CPU time of one thread without evaluations, on a machine
  with other work on it.
- {described(records)}. {seconds / 60:.0f} minutes of CPU time. `python -m nox -s experiments -- figure2 --only {data}`.
"""


def seeds(found: dict[str, Curve]) -> str:
    """Return the number of seeds of the methods, or the smallest and the largest."""
    counts = {len(curve.runs) for curve in found.values()}
    return " to ".join(map(str, sorted({min(counts), max(counts)})))


def size(data: str, plan: Plan, images: int) -> str:
    """Return how many training images there are, and of how many pixels where they were made smaller."""
    return f"{images:,} training images" + ("" if data == "mnist" else f" at {plan.side} x {plan.side}")


def title(data: str, plan: Plan, found: dict[str, Curve]) -> str:
    """Return what was run, in a line."""
    return f"{NETWORKS[data]}, {size(data, plan, plan.n_train)}, {plan.epochs:g} epochs, {seeds(found)} seeds"


def _divided(divisor: int) -> str:
    return "as they are" if divisor == 1 else f"divided by {divisor}"


def table(found: dict[str, Curve]) -> str:
    """Return the chosen settings and how the runs end."""
    body = [
        [
            row, ", ".join(f"{name} {value:g}" for name, value in curve.options.items()) or "as it is",
            *(_spread(curve.values(f"{name}_accuracy")) for name in ("train", "test")),
            f"{curve.mean('steps'):,.0f}", f"{curve.mean('cpu_seconds'):,.0f}",
        ]
        for row, curve in found.items()
    ]  # fmt: skip
    head = ["method", "chosen from Table 2", "training accuracy", "test accuracy", "steps", "CPU seconds"]
    return "Mean over the seeds (smallest to largest), last iterate:\n\n" + report.rows(head, body)


def _spread(values: Iterable[float]) -> str:
    values = list(values)
    return f"{statistics.fmean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def pictures(folder: Path) -> None:
    """Draw a picture for each data set."""
    for data in NETWORKS:
        if results(data):
            report.save(curves(data), folder, f"figure2_{data}")


def curves(data: str) -> Any:
    """Return the figure of one data set: training and test error against epochs and against time."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plan, found = PLANS[SCALE][data], results(data)
    figure, axes = plt.subplots(2, 2, figsize=(9, 7.2), sharey="row", sharex="col", layout="constrained")
    for row, curve in found.items():
        ours = method_of(row) not in FIRST_ORDER
        look = {"color": COLORS[row], "lw": 2.2 if ours else 1.3, "zorder": 3 if ours else 2, "label": row}
        for down, column in enumerate((TRAIN, TEST)):
            _draw(axes[down, 0], curve, column, lambda p: p[COST] / plan.n_train, look)
            _draw(axes[down, 1], curve, column, lambda p: p[SECONDS], look)
    for down, name in enumerate(("training", "test")):
        axes[down, 0].set_ylabel(f"{name} error (1 - accuracy)")
        _logarithmic(axes[down, 0])
    for axis in axes.flat:
        axis.set_axisbelow(True)
        axis.grid(True, color="0.92")
        axis.spines[["top", "right"]].set_visible(False)
    axes[1, 0].set_xlabel("epochs of sample-gradients")
    axes[1, 1].set_xlabel("CPU seconds, one thread")
    figure.suptitle(title(data, plan, found), x=0.01, ha="left", fontsize=10)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def _draw(axis: Any, curve: Curve, column: int, at: Callable[[list[float]], float], look: dict[str, Any]) -> None:
    """Draw mean and range over the seeds of the error on the watched images, and the mean of the ends as a dot."""
    x, values = along([run["curve"] for run in curve.runs], column, at)
    error = np.maximum(1.0 - values, 0.5 / WATCHED[column - TRAIN])
    axis.plot(x, error.mean(axis=0), **look)
    axis.fill_between(x, error.min(axis=0), error.max(axis=0), color=look["color"], alpha=0.12, lw=0)
    ends = np.array([(at(point), 1.0 - point[column]) for point in map(end, curve.runs)])
    axis.plot(*ends.mean(axis=0), "o", color=look["color"], mec="white", ms=7, zorder=4)


def _logarithmic(axis: Any) -> None:
    """Make the y axis logarithmic, with numbers as they are spoken."""
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    tenths = tuple(i / 10 for i in range(1, 11))
    ticks = [t for t in (tenths if high < 5 * low else TICKS) if low <= t <= high]
    axis.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axis.minorticks_off()


def along(curves: list[list[list[float]]], column: int, at: Callable[[list[float]], float]) -> tuple[Any, Any]:
    """Return common places up to where the shortest curve ends, and a column of each curve there, a row each."""
    places = [[at(point) for point in curve] for curve in curves]
    x = np.linspace(0.0, min(p[-1] for p in places), 60)
    rows = [np.interp(x, p, [point[column] for point in curve]) for p, curve in zip(places, curves, strict=True)]
    return x, np.array(rows)


def end(run: dict[str, Any]) -> list[Any]:
    """The end of a run like a point of its curve, measured on more images."""
    return [run[name] for name in ("cost", "cpu_seconds", "loss", "train_accuracy", "test_accuracy")]
