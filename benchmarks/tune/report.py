"""Markdown tables of all finished runs, and pictures of the stochastic ones.

A family's setting on a task is the one with the smallest mean final training loss over the seeds.
A run that did not stay finite counts as an infinite loss; a setting that lacks a seed is left out.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import machine as described_machine
from benchmarks.store import key
from benchmarks.tune import RESULTS, deterministic, report_deterministic, stochastic
from benchmarks.tune.tasks import TASKS

#: Losses below are equal to it in the ratios.
FLOOR = 1e-6
OURS, BLOCKS = "mblsr1 default", "mblsr1 blocks"
#: Rows of mblsr1 in the tables of tasks; the other variants are the ablation.
SHOWN = (OURS, BLOCKS, "mblsr1 paper", "mblsr1 L-SSR1-TR")
#: The task whose default meets the first-order methods of the tasks of this role.
LARGE, OWN = "mnist", "own batch"


class Best(NamedTuple):
    """A family's chosen setting on a task, and its runs, one a seed."""

    options: dict[str, Any]
    runs: list[dict[str, Any]]
    version: str
    complete: bool = True  # whether all of the grid has all seeds

    @property
    def loss(self) -> float:
        """Mean final training loss; infinite where a run did not stay finite."""
        return statistics.fmean(self.values("loss"))

    def values(self, name: str) -> list[float]:
        """Return one number a run."""
        return [math.inf if r[name] is None else r[name] for r in self.runs]

    @property
    def steps(self) -> float:
        """Median number of steps."""
        return statistics.median(self.values("steps"))

    @property
    def step_seconds(self) -> float:
        """Median CPU time of a step."""
        return statistics.median(r["cpu_seconds"] / max(r["steps"], 1) for r in self.runs)


Table = dict[str, dict[str, Best]]


def chosen(grid: Iterable[tuple[dict[str, Any], list[dict[str, Any]], str]], seeds: int) -> Best | None:
    """Return the best setting of a grid of (options, runs, version) that has all its seeds."""
    grid = list(grid)
    whole = [g for g in grid if len(g[1]) == seeds]
    whole = [Best(*g, complete=len(whole) == len(grid)) for g in whole]
    return min(whole, key=lambda b: b.loss, default=None)


def collect(seeds: int) -> Table:
    """By task and family: the chosen setting, where its runs are there."""
    newest = stochastic.STORE.newest()
    found: Table = {}
    for task in TASKS:
        for family, grid in stochastic.grids().items():
            rows = [_runs(newest, task, family, options, seeds) for options in grid]
            best = chosen(rows, seeds)
            if best is not None:
                found.setdefault(task, {})[family] = best
    return found


def at_equal_batch(found: Table) -> Table:
    """Leave out the tasks that first-order methods run alone, at batches of their own."""
    return {task: row for task, row in found.items() if TASKS[task].role != OWN}


def _runs(
    newest: dict[str, Any], task: str, family: str, options: dict[str, Any], seeds: int
) -> tuple[dict[str, Any], list[dict[str, Any]], str]:
    keys = [key(stochastic.settings(task, family, options, seed), versioned=False) for seed in range(seeds)]
    records = [newest[k] for k in keys if k in newest]
    return options, [r["result"] for r in records], ", ".join(sorted({r["settings"]["version"] for r in records}))


def best_first_order(row: dict[str, Best]) -> Best | None:
    """Return the best of the tuned methods that see one flat vector."""
    return min((row[f] for f in stochastic.FIRST_ORDER if f in row), key=lambda b: b.loss, default=None)


def against(row: dict[str, Best], family: str) -> float:
    """Final training loss of `family` over that of the best first-order method; nan where one is missing."""
    base = best_first_order(row)
    if base is None or family not in row:
        return math.nan
    return max(row[family].loss, FLOOR) / max(base.loss, FLOOR)


def spread(values: list[float], form: str) -> str:
    """Mean and standard deviation."""
    if not all(map(math.isfinite, values)):
        return "not finite"
    sd = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):{form}} ± {sd:.1g}"


def described(family: str, best: Best) -> str:
    """Return a setting as text; a star: its rate ends the grid, a dagger: seed 0 alone chose it."""
    options = best.options
    rates = sorted({o["rate"] for o in stochastic.grids().get(family, []) if "rate" in o})
    star = "*" if rates and options.get("rate") in (rates[0], rates[-1]) else ""
    texts = [f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in options.items()]
    return (", ".join(texts) or "-") + star + ("" if best.complete else "†")


def task_table(task: str, row: dict[str, Best]) -> str:
    """Return one task's families: setting, loss, accuracy, ratio and time."""
    t, any_run = TASKS[task], next(iter(row.values())).runs[0]
    title = f"{any_run['n_samples']:,} samples, batch {any_run['batch']:,}, {t.epochs:g} passes; {t.role}"
    lines = [
        f"### {task}",
        "",
        f"{title}.",
        "",
        "| method | setting | train loss | test accuracy | loss / best first-order | steps | CPU time a step / SGD |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for family, best in row.items():
        if is_ablation(family):
            continue
        time = best.step_seconds / row["SGD"].step_seconds if "SGD" in row else math.nan
        loss = spread(best.values("loss"), ".4g")
        accuracy = spread(best.values("accuracy"), ".4f")
        name = f"{family} (sees matrices)" if family in stochastic.STRUCTURED else family
        cells = (
            name,
            described(family, best),
            loss,
            accuracy,
            f"{against(row, family):.2f}",
            f"{best.steps:,.0f}",
            f"{time:.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def summary(found: Table) -> str:
    """Return the geometric mean of the ratios to the best first-order method, by role."""
    roles = ("selection", "reporting")
    heads = [f"{role} tasks: ratio (tasks, below 1)" for role in roles]
    lines = [f"| method | {' | '.join(heads)} |", "| --- | --- | --- |"]
    for family in stochastic.grids():
        if is_ablation(family):
            continue
        cells = []
        for role in roles:
            ratios = [against(row, family) for task, row in found.items() if TASKS[task].role == role]
            ratios = [r for r in ratios if not math.isnan(r)]
            mean = math.exp(statistics.fmean(math.log(r) for r in ratios)) if ratios else math.nan
            cells.append(f"{mean:.3f} ({len(ratios)}, {sum(r < 1 for r in ratios)})" if ratios else "not run")
        lines.append(f"| {family} | {' | '.join(cells)} |")
    return "\n".join(lines)


def own_batches(found: Table) -> str:
    """Return the default at a large batch beside first-order methods at batches of their own: loss, steps and time."""
    lines = [
        "| method | batch | setting | train loss | test accuracy | default's loss / its | steps | "
        "its steps / default's | CPU time |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    ours = found.get(LARGE, {}).get(OURS)
    own = [task for task in found if TASKS[task].role == OWN]
    for task in [LARGE, *own] if ours else []:
        shown = [OURS, "mblsr1 batch fixed", *stochastic.FIRST_ORDER] if task == LARGE else stochastic.FIRST_ORDER
        lines += [own_batch(family, found[task][family], ours) for family in shown if family in found[task]]
    return "\n".join(lines)


def own_batch(family: str, best: Best, ours: Best) -> str:
    """Return one row."""
    loss, steps = ours.loss / best.loss, best.steps / ours.steps
    cells = (
        family,
        f"{best.runs[0]['batch']:,}",
        described(family, best),
        spread(best.values("loss"), ".4g"),
        spread(best.values("accuracy"), ".4f"),
        f"{loss:.2f}",
        f"{best.steps:,.0f}",
        f"{steps:.1f}",
        f"{statistics.median(best.values('cpu_seconds')):.1f} s",
    )
    return f"| {' | '.join(cells)} |"


def losses(tasks: Iterable[str], families: Iterable[str], seeds: int) -> str:
    """Return the chosen settings' final training losses, and their ratios to the default's."""
    lines = ["| task | method | setting | train loss | / default's |", "| --- | --- | --- | --- | --- |"]
    found = collect(seeds)
    for task, family in itertools.product(tasks, families):
        row = found.get(task, {})
        if family in row:
            ratio = f"{row[family].loss / row[OURS].loss:.2f}" if OURS in row else "-"
            cells = (task, family, described(family, row[family]), spread(row[family].values("loss"), ".4g"), ratio)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def is_ablation(family: str) -> bool:
    """Whether a family is the default, or the default with blocks, with one element changed."""
    return family.startswith("mblsr1") and family not in SHOWN


def ablation(found: Table) -> str:
    """Return the final training loss of each variant over the default's: geometric mean and extremes over tasks."""
    lines = ["| one element changed | loss / default's (tasks) | smallest | largest |", "| --- | --- | --- | --- |"]
    for family in filter(is_ablation, (f"mblsr1 {name}" for name in stochastic.VARIANTS)):
        rows = [row for row in found.values() if family in row and OURS in row]
        ratios = [max(row[family].loss, FLOOR) / max(row[OURS].loss, FLOOR) for row in rows]
        if ratios:
            mean = math.exp(statistics.fmean(map(math.log, ratios)))
            name = family.removeprefix("mblsr1 ")
            lines.append(f"| {name} | {mean:.2f} ({len(ratios)}) | {min(ratios):.2f} | {max(ratios):.2f} |")
    return "\n".join(lines)


def drawn(found: Table) -> Table:
    """Return what the pictures show: tasks at equal batch, without the ablation."""
    return {t: {f: b for f, b in row.items() if not is_ablation(f)} for t, row in at_equal_batch(found).items()}


def late_drift(found: Table) -> str:
    """Return how far the last watched loss of the default lies above the least one, at worst."""
    drifts = {}
    for task, row in found.items():
        for run in row[OURS].runs if OURS in row else []:
            losses = [point[1] for point in run["curve"] if point[1] is not None]
            if losses:
                drifts[task] = max(drifts.get(task, 1.0), losses[-1] / min(losses))
    if not drifts:
        return "not run"
    worst = max(drifts, key=lambda task: drifts[task])
    above = sum(drift > 2.0 for drift in drifts.values())
    return f"at worst {drifts[worst]:.2f} ({worst}); above 2 on {above} of {len(drifts)} tasks"


def machine() -> str:
    """Return processor, versions and threads."""
    return described_machine(("mblsr1", "numpy", "scipy", "torch", "pytorch-optimizer", "jax", "sif2jax"))


def codes(found: Table) -> str:
    """Return which code of mblsr1 made the default's runs, which those with blocks, and which the other variants'."""
    versions: dict[str, set[str]] = {}
    for family, best in (pair for row in found.values() for pair in row.items()):
        if family.startswith("mblsr1"):
            who = {OURS: "default", BLOCKS: "default with blocks"}.get(family, "variants")
            versions.setdefault(who, set()).update(best.version.split(", "))
    return "; ".join(f"code of the {who} {', '.join(sorted(which))}" for who, which in sorted(versions.items()))


def write(seeds: int, folder: Path = RESULTS) -> str:
    """Write report.md, the pictures and the packed runs; return the path."""
    from benchmarks.tune import pictures

    folder.mkdir(parents=True, exist_ok=True)
    found, solved = collect(seeds), report_deterministic.results()
    for store in (stochastic.STORE, deterministic.STORE):
        store.pack()
    path = folder / "report.md"
    path.write_text(text(found, solved, seeds), encoding="utf-8")
    if all(solved.values()):
        report_deterministic.pictures(solved, folder)
    if found:
        pictures.curves(drawn(found), folder / "curves.png")
        pictures.ratios(drawn(found), folder / "ratios.png")
    return f"written: {path.relative_to(folder.parents[2])}"


def text(found: Table, solved: dict[str, report_deterministic.Results], seeds: int) -> str:
    """Return the report."""
    from benchmarks.tune import report_metric

    parts = [
        "# Development bench",
        f"{machine()}. Written by `python -m nox -s tune -- report`.",
        "## Deterministic problems",
        f"Evaluations until the gradient is within {deterministic.TOLERANCE:g} max(1, its norm at the start), 2-norm; "
        f"at most {deterministic.MAX_PAIRED:,} paired evaluations and {deterministic.MAX_SECONDS:g} s. Paired: a loss "
        "and a gradient at one point count once. Ratios are geometric means over the problems that both methods solve. "
        "All of these problems were used while the default was chosen.",
        report_deterministic.table(solved),
        "## Stochastic tasks",
        f"Seeds 0 to {seeds - 1}; every method starts at the same weights and spends the same number of "
        "sample-gradients. Each family's setting is the one of its grid with the smallest mean final training loss; "
        f"mblsr1 has one setting for all tasks ({codes(found)}; of each run the newest counts). "
        "Mean ± standard deviation over the seeds, last iterate; a star: the rate is at an end of its grid; a dagger: "
        "the grid was run on seed 0, and only its best setting on the other seeds. "
        f"Losses below {FLOOR:g} count as {FLOOR:g} in ratios. Times are CPU times on a shared machine: a guide only.",
        "Geometric mean of final training loss over that of the best first-order method (SGD, Adam, AdamW or "
        "schedule-free AdamW, each tuned, whichever is best on the task):",
        summary(found),
        "Late drift of the default (last watched loss over the least one, any seed): " + late_drift(found) + ".",
        "Ablation: final training loss of the default with one element changed, over the default's; geometric mean "
        "over the tasks on which both were run. On other tasks some elements are worth less: see the ablation of "
        "`python -m nox -s experiments`.",
        ablation(found),
        *report_metric.parts(found, collect(1)),
        "### Against first-order methods at their own batch size",
        f"MNIST, 784-50-10, {TASKS[LARGE].epochs:g} passes for all. The default starts at batch "
        f"{TASKS[LARGE].batch:,}. CPU time of the whole run, one thread, median over the seeds.",
        own_batches(found),
        *(task_table(task, row) for task, row in at_equal_batch(found).items()),
    ]
    return "\n\n".join(parts) + "\n"
