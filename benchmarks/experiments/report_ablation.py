"""The ablation as a table and a dot plot: final training loss without an element over that with it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from benchmarks.experiments import report
from benchmarks.experiments.ablation import BUDGETS, SEEDS, STORE, variants
from benchmarks.experiments.common import Claim, described, spent
from scipy import stats

#: Losses below are equal to it in the ratios.
FLOOR = 1e-6
REMEDIES = {
    "no progressive radius": "the progressive radius update helps",
    "check on the whole set": "checking progress on a batch, not on the whole set, helps",
    "no restart": "restarting the memory helps",
    "L-SSR1-TR": "MB-LSR1 improves on L-SSR1-TR",
}
#: What is off in the variants of the default.
OFF = {
    "raw SR1": "smoothed model: SR1 instead",
    "signed eigenvalues": "absolute eigenvalues",
    "no reset": "ratio forgotten with the radius",
    "no overlap": "overlap of the batches",
    "no annealing": "annealed radius",
    "batch fixed": "growing batch",
    "batch by Algorithm 6": "growth by noise: Algorithm 6 instead",
    "16 pairs": "64 pairs: 16 instead",
    "no running mean": "running mean of gradients",
}
Runs = dict[str, dict[str, list[dict[str, Any]]]]


class Effect(NamedTuple):
    """Geometric mean over the tasks of loss without / loss with, its 95 % interval, and the ratios by task."""

    mean: float
    low: float
    high: float
    ratios: dict[str, float]
    accuracy: float

    @property
    def verdict(self) -> str:
        """Whether the element lowers the loss."""
        return "yes" if self.low > 1.0 else "no" if self.high < 1.0 else "not shown"


def records(preset: str, scale: str = "small") -> list[dict[str, Any]]:
    """Newest stored jobs of a preset."""
    wanted = (preset, list(BUDGETS[scale]))
    return [r for r in STORE.newest().values() if (r["settings"]["preset"], r["settings"]["budget"]) == wanted]


def runs(preset: str) -> Runs:
    """Runs by task and variant."""
    found = {f"{r['settings']['set']}, batch {r['settings']['batch']}": r["result"]["runs"] for r in records(preset)}
    return dict(sorted(found.items()))


def log_loss(rows: Iterable[dict[str, Any]]) -> float:
    """Mean over the seeds of the logarithm of the final training loss; one that is not finite is infinite."""
    return statistics.fmean(math.inf if r["loss"] is None else math.log(max(r["loss"], FLOOR)) for r in rows)


def effect(found: Runs, base: str, name: str) -> Effect:
    """Compare a variant with its base."""
    logs = {task: log_loss(row[name]) - log_loss(row[base]) for task, row in found.items()}
    values = np.array([x for x in logs.values() if math.isfinite(x)])
    mean, half = values.mean(), math.inf
    if len(values) > 1:
        half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    low, middle, high = (float(np.exp(x)) for x in (mean - half, mean, mean + half))
    gains = [accuracy(row[base]) - accuracy(row[name]) for row in found.values()]
    return Effect(middle, low, high, {t: math.exp(x) for t, x in logs.items()}, statistics.fmean(gains))


def accuracy(rows: Iterable[dict[str, Any]]) -> float:
    """Mean test accuracy over the seeds."""
    return statistics.fmean(r["accuracy"] for r in rows)


def claims() -> list[Claim]:
    """Return a row for each remedy, and one for all of them."""
    found = runs("paper")
    return [claim(name, text, effect(found, "paper", name)) for name, text in REMEDIES.items()] if found else []


def claim(name: str, text: str, e: Effect) -> Claim:
    """Judge by the interval of the mean ratio."""
    measured = f"loss of `{name}` / of `Options.paper()`: {interval(e)}, {len(e.ratios)} tasks"
    return Claim("Ablation", text, measured, e.verdict)


def interval(e: Effect) -> str:
    """Return mean and interval."""
    return f"{e.mean:.2f} ({e.low:.2f} to {e.high:.2f})"


def section() -> str:
    """Return the section of the page."""
    parts = [caption()]
    for preset, names in (("paper", REMEDIES), ("default", OFF)):
        found = runs(preset)
        if found:
            parts.append(table(found, preset, names))
    parts.append(f"![Loss without an element over loss with it, {budget()}](_static/experiments/ablation.png)\n")
    return "\n".join(parts)


def budget() -> str:
    """Return what a picture's runs spend, in a few words."""
    return f"at most {BUDGETS['small'].passes:g} N sample-gradients, {len(SEEDS)} seeds"


def caption() -> str:
    """Return what was run, at what cost, and on what."""
    limits, rows = spent(BUDGETS["small"]), [*records("paper"), *records("default")]
    seconds = sum(r["result"]["cpu_seconds"] for r in rows)
    return f"""\
## Ablation

One element off, all others as they are. Eight imbalanced sets that took no part in the choice of the default, batches
64 and N/8, and MNIST (all 60,000 images, batch 1,024); one hidden layer of 50 tanh units. {limits} Seeds 0 to
{SEEDS[-1]}, last iterate. Geometric mean over tasks and seeds of the final training loss without the element over that
with it, and its 95 % interval (t, over the tasks): above 1 the element helps; "not shown" where the interval has 1 in
it. Losses below {FLOOR:g} count as {FLOOR:g}; a task with a run that did not stay finite is left out of the mean.
{described(rows)}. {seconds / 60:.0f} minutes of CPU time. `python -m nox -s experiments -- ablation`.
"""


def table(found: Runs, preset: str, names: dict[str, str]) -> str:
    """Return a preset's effects."""
    body = []
    for name, text in names.items():
        e = effect(found, preset, name)
        worst = f"{min(e.ratios.values()):.2f} to {max(e.ratios.values()):.2f}"
        body.append([name, text, interval(e), worst, f"{100 * e.accuracy:+.2f}", e.verdict])
    head = [
        "variant",
        "claim" if preset == "paper" else "off",
        "loss without / with",
        "tasks",
        "accuracy, points",
        "helps?",
    ]
    start = "`Options.paper()`" if preset == "paper" else "`Options()`"
    return (
        f"From {start}; accuracy is that of the base less that of the variant, mean over the tasks:\n\n"
        + report.rows(head, body)
    )


def pictures(folder: Path) -> None:
    """Draw the dot plot."""
    report.save(dots(), folder, "ablation")


def dots() -> Any:
    """Return the figure: a row for each variant, a dot for each task, the mean with its interval."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = [(p, runs(p), [n for n in variants(p) if n != p]) for p in ("paper", "default") if runs(p)]
    heights = [len(names) for _, _, names in panels]
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(9, 1.4 * len(panels) + 0.36 * sum(heights)), squeeze=False, layout="constrained",
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    for axis, (preset, found, names) in zip(axes.flat, panels, strict=True):
        _panel(axis, [effect(found, preset, name) for name in names], names)
        base = f"Options{'.paper' if preset == 'paper' else ''}()"
        axis.set_title(f"from {base}: {len(found)} tasks, {budget()}", loc="left", fontsize=10)
    axes.flat[-1].set_xlabel(
        "final training loss without the element / with it (right of 1: the element helps)\n"
        "grey: a task, mean over the seeds; blue: mean over the tasks and its 95 % interval"
    )
    return figure


def _panel(axis: Any, effects: list[Effect], names: list[str]) -> None:
    for i, e in enumerate(effects):
        axis.scatter(list(e.ratios.values()), [i - 0.22] * len(e.ratios), s=18, color="#8a8a8a", alpha=0.8, lw=0)
        axis.plot([e.low, e.high], [i, i], color="#0b6e99", lw=2.5)
        axis.scatter([e.mean], [i], s=45, color="#0b6e99", zorder=3)
    axis.axvline(1.0, color="0.4", lw=1)
    axis.set(xscale="log", yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.6))
    low, high = axis.get_xlim()
    ticks = [t for t in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low <= t <= high]
    axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axis.minorticks_off()
    axis.grid(True, axis="x", color="0.92")
    axis.spines[["top", "right"]].set_visible(False)
