"""Pictures of the stochastic runs: loss against cost, and the ratio to the best first-order method."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.tune import stochastic
from benchmarks.tune.report import BLOCKS, OURS, Best, Table, against
from benchmarks.tune.tasks import TASKS

SHOWN = ("mnist", "cifar10 8x8", "netdnn", "resnet20", "letter_img", "satimage")
COLORS = {
    OURS: "#0b6e99", "mblsr1 paper": "#7fc4b8", "mblsr1 L-SSR1-TR": "#3d7a5a",
    "SGD": "#ffa600", "Adam": "#ef5675", "AdamW cosine": "#b34766",
    "schedule-free AdamW": "#7a5195", "SOAP": "#8a8a8a", "Muon": "#3f3f3f", "K-FAC": "#8c510a", BLOCKS: "#00b4d8",
}  # fmt: skip


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def mean_curve(best: Best) -> tuple[np.ndarray, np.ndarray]:
    """Cost in passes, and the geometric mean of the loss over the seeds."""
    passes = np.linspace(0.0, min(r["curve"][-1][0] for r in best.runs), stochastic.POINTS + 1)
    logs = []
    for run in best.runs:
        at, loss = np.array([point[:2] for point in run["curve"] if point[1] is not None], dtype=float).T
        logs.append(np.interp(passes, at, np.log(np.maximum(loss, 1e-9))))
    return passes / best.runs[0]["n_samples"], np.exp(np.mean(logs, axis=0))


def curves(found: Table, path: Path) -> None:
    """Draw loss against cost on six tasks."""
    plt = _pyplot()
    tasks = [t for t in SHOWN if t in found]
    fig, axes = plt.subplots(3, 2, figsize=(9, 10.5), layout="constrained")
    for ax, task in zip(axes.flat, tasks, strict=False):
        for family, best in found[task].items():
            bold = family in (OURS, BLOCKS)
            ax.semilogy(
                *mean_curve(best), label=family, color=COLORS[family], lw=2.6 if bold else 1.5,
                ls="--" if family in stochastic.STRUCTURED else "-", zorder=3 if bold else 2,
            )  # fmt: skip
        ax.set_title(task, loc="left", fontsize=11)
        _plain_ticks(ax)
        ax.grid(True, color="0.92")
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes.flat[len(tasks) :]:
        ax.set_visible(False)
    lines = {line.get_label(): line for ax in axes.flat for line in ax.get_lines()}
    fig.legend(
        lines.values(),
        lines.keys(),
        frameon=False,
        fontsize=9,
        loc="outside upper center",
        ncols=4,
    )
    fig.supxlabel("cost: passes over the data (sample-gradients / N)")
    fig.supylabel("training loss (2,000 samples, mean over seeds)")
    fig.savefig(path, dpi=150)
    plt.close(fig)


def _plain_ticks(ax: Any) -> None:
    """Give a logarithmic axis of less than a decade plain numbers: there is at most one power of ten on it."""
    low, high = ax.get_ylim()
    if high < 10 * low:
        ticks = [m * 10.0**k for k in range(-9, 3) for m in (1.0, 1.2, 1.5, 2.0, 3.0, 5.0)]
        shown = [t for t in ticks if low <= t <= high]
        ax.set_yticks(shown, [f"{t:g}" for t in shown])
        ax.minorticks_off()


def ratios(found: Table, path: Path) -> None:
    """Draw each family's final training loss over that of the best first-order method, a row for each task."""
    plt = _pyplot()
    tasks = list(found)[::-1]
    fig, ax = plt.subplots(figsize=(9, 1.2 + 0.34 * len(tasks)), layout="constrained")
    for family in stochastic.grids():
        points = [(against(found[t], family), i) for i, t in enumerate(tasks)]
        points = [(x, i) for x, i in points if math.isfinite(x)]
        if points:
            bold = family in (OURS, BLOCKS)
            color = COLORS[family]
            look = {"s": 90, "fc": "none", "ec": color, "lw": 2.5} if bold else {"s": 26, "fc": color, "lw": 0}
            marker = "s" if family in stochastic.STRUCTURED else "o"
            ax.scatter(*zip(*points, strict=True), label=family, marker=marker, zorder=3 - bold, **look)
    ax.axvline(1.0, color="0.4", lw=1, zorder=1)
    names = [f"{t} (reporting)" if TASKS[t].role == "reporting" else t for t in tasks]
    ax.set_yticks(range(len(tasks)), names)
    ax.set(xscale="log", xlabel="final training loss / best first-order method's (left is better)")
    ax.set_axisbelow(True)
    ax.grid(True, axis="x", color="0.92")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)
    fig.savefig(path, dpi=150)
    plt.close(fig)
