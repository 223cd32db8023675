"""Tables of the methods that see which weights form a matrix, and of the metric with one element changed."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
from benchmarks.tune import stochastic
from benchmarks.tune.report import BLOCKS, Best, Table, described, spread

TASKS = ("mnist", "cifar10 8x8", "netdnn", "resnet20")
BASE = "SOAP"


def parts(found: Table, seed_0: Table) -> list[str]:
    """Return the section of the report."""
    return [
        "### Methods that see matrices",
        "The default with blocks is told the shapes of the weights and has one setting for all tasks; SOAP and Muon "
        "are tuned. Muon: hidden matrices and kernels, at Moonlight's factor; AdamW at the same rate for the output's "
        "and the rest; cosine schedule. At equal loss: test accuracy where the training loss first falls to the least "
        f"that all runs of the table reach on the task, both on {stochastic.WATCHED:,} samples, interpolated in the "
        "logarithm of the loss between points that are a twentieth of the run apart.",
        table(found),
        "Metric, one element changed; seed 0. Training loss over that of the default with blocks, and test accuracy "
        "minus its:",
        ablation(seed_0),
    ]


def level(rows: dict[str, Best]) -> float:
    """Return the smallest training loss that all runs reach, as watched."""
    least = [_losses(run).min() for best in rows.values() for run in best.runs]
    return float(max(least, default=math.nan))


def _losses(run: dict[str, Any]) -> np.ndarray:
    return np.array([point[1] for point in run["curve"] if point[1] is not None])


def accuracy_at(run: dict[str, Any], loss: float) -> float:
    """Return the test accuracy where the training loss first falls to `loss`; nan where the run did not record it."""
    points = [point for point in run["curve"] if point[1] is not None]
    if any(len(point) < 3 for point in points):
        return math.nan
    below = next((i for i, point in enumerate(points) if point[1] <= loss), None)
    if not below:
        return math.nan
    (_, f0, a0), (_, f1, a1) = points[below - 1 : below + 1]
    share = math.log(f0 / loss) / math.log(f0 / f1)
    return float(a0 + share * (a1 - a0))


def table(found: Table) -> str:
    """Return loss, accuracy, accuracy at equal loss, steps and time by task and method."""
    lines = [
        "| task | method | setting | train loss | test accuracy | at equal loss (loss) | steps "
        f"| CPU time a step / {BASE}'s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for task in TASKS:
        rows = {f: found[task][f] for f in stochastic.STRUCTURED if f in found.get(task, {})}
        common = level(rows)
        lines += [_row(task, family, best, common, rows.get(BASE)) for family, best in rows.items()]
    return "\n".join(lines)


def _row(task: str, family: str, best: Best, common: float, base: Best | None) -> str:
    at = [accuracy_at(run, common) for run in best.runs]
    cells = (
        task,
        family,
        described(family, best),
        spread(best.values("loss"), ".4g"),
        spread(best.values("accuracy"), ".4f"),
        "not recorded" if any(map(math.isnan, at)) else f"{spread(at, '.4f')} ({common:.3g})",
        f"{best.steps:,.0f}",
        "-" if base is None else f"{best.step_seconds / base.step_seconds:.2f}",
    )
    return f"| {' | '.join(cells)} |"


def ablation(seed_0: Table) -> str:
    """Return training loss over that of the default with blocks, and the difference of the accuracies, by task."""
    tasks = [task for task in TASKS if BLOCKS in seed_0.get(task, {})]
    lines = [f"| one element changed | {' | '.join(tasks)} |", f"| --- |{' --- |' * len(tasks)}"]
    for name in stochastic.METRICS:
        cells = [_against(seed_0[task], f"mblsr1 {name}", BLOCKS) for task in tasks]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _against(row: dict[str, Best], family: str, base: str) -> str:
    if family not in row:
        return "-"
    loss, accuracy = (statistics.fmean(row[family].values(name)) for name in ("loss", "accuracy"))
    if family == base:
        return f"{loss:.4g}, {accuracy:.4f}"
    return f"{loss / row[base].loss:.2f}, {accuracy - statistics.fmean(row[base].values('accuracy')):+.4f}"
