"""Tables and pictures of the deterministic runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.store import key
from benchmarks.tune import RESULTS
from benchmarks.tune import deterministic as bench
from benchmarks.tune.problems import NAMES

Results = dict[str, dict[str, Any]]


def results(problems: Sequence[str] = NAMES) -> dict[str, Results]:
    """By method and problem: what is stored."""
    newest = bench.STORE.newest()
    found: dict[str, Results] = {}
    for name, row in bench.methods().items():
        keys = {p: key(bench.settings(p, *row), versioned=False) for p in problems}
        found[name] = {p: newest[k]["result"] for p, k in keys.items() if k in newest}
    return found


def ratio(ours: Results, base: Results, count: str) -> tuple[float, int]:
    """Geometric mean of ours/base over the problems that both solve, and their number."""
    both = [p for p in ours if p in base and ours[p].get("solved") and base[p].get("solved")]
    logs = [math.log(max(ours[p][count], 1) / max(base[p][count], 1)) for p in both]
    return (math.exp(sum(logs) / len(logs)) if logs else math.nan), len(logs)


def table(found: dict[str, Results]) -> str:
    """Return the summary as Markdown, and below it what was skipped or not solved."""
    base = found[bench.BASE]
    lines = [
        f"| method | solved | gradients / {bench.BASE} | paired / {bench.BASE} | both solve |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, rows in found.items():
        run = [r for r in rows.values() if "skipped" not in r]
        (gradients, n), (paired, _) = ratio(rows, base, "gradients"), ratio(rows, base, "paired")
        solved = sum(r["solved"] for r in run)
        lines.append(f"| {name} | {solved} of {len(run)} | {gradients:.3f} | {paired:.3f} | {n} |")
    lines.append("")
    for name, rows in found.items():
        unsolved = [p for p, r in rows.items() if not r.get("solved", True)]
        lines.append(f"Not solved by {name}: {', '.join(unsolved) or 'none'}.  ")
    skipped = sorted({f"{p} ({r['skipped']})" for rows in found.values() for p, r in rows.items() if "skipped" in r})
    return "\n".join([*lines, f"Skipped: {', '.join(skipped) or 'none'}."])


def details(found: dict[str, Results]) -> str:
    """Return paired evaluations / gradients per problem and method; a dash where not solved."""
    lines = [f"{'problem':12}{'d':>7}" + "".join(f"{name[-16:]:>18}" for name in found)]
    for p in NAMES:
        rows = [found[name].get(p, {}) for name in found]
        d = next((r["d"] for r in rows if "d" in r), "")
        cells = [f"{r['paired']}/{r['gradients']}" if r.get("solved") else "-" for r in rows]
        lines.append(f"{p:12}{d:>7}" + "".join(f"{c:>18}" for c in cells))
    return "\n".join(lines)


def costs(found: dict[str, Results], count: str = "paired") -> dict[str, np.ndarray]:
    """By method: cost per problem that every method ran, infinite where not solved."""
    shared = [p for p in NAMES if all(p in rows and "skipped" not in rows[p] for rows in found.values())]
    return {
        name: np.array([rows[p][count] if rows[p]["solved"] else np.inf for p in shared], dtype=float)
        for name, rows in found.items()
    }


def profile(cost: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Share of the problems whose cost is at most `at`."""
    return (cost[None, :] <= at[:, None]).mean(axis=1)


def pictures(found: dict[str, Results], folder: Path = RESULTS) -> None:
    """Draw the performance profile and the data profile."""
    cost = costs(found)
    best = np.min(list(cost.values()), axis=0)
    solved = np.isfinite(best)
    relative = {name: np.where(solved, c / np.where(solved, best, 1.0), np.inf) for name, c in cost.items()}
    n = len(best)
    title = f"{n} problems, tolerance {bench.TOLERANCE:g}"
    ratio = "paired evaluations / those of the method with the fewest"
    _draw(folder / "performance_profile.png", relative, (1, 2, 4, 8, 16), title, ratio)
    _draw(
        folder / "data_profile.png", cost, (3, 10, 30, 100, 300, 1_000, bench.MAX_PAIRED), title, "paired evaluations"
    )


def _draw(path: Path, cost: dict[str, np.ndarray], ticks: tuple[float, ...], title: str, label: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(8, 4.8), layout="constrained")
    at = np.geomspace(ticks[0], ticks[-1], 400)
    for name, values in cost.items():
        ax.step(at, profile(values, at), where="post", label=name, lw=2.6 if name == "mblsr1 default" else 1.6)
    ax.set(xscale="log", xlabel=label, ylabel="share of the problems solved", xlim=(at[0], at[-1]), ylim=(0, 1.02))
    ax.set_xticks(ticks, [f"{t:,}" for t in ticks])
    ax.minorticks_off()
    ax.set_title(title, loc="left")
    ax.legend(frameon=False, loc="lower right")
    ax.grid(True, color="0.9")
    ax.spines[["top", "right"]].set_visible(False)
    fig.savefig(path, dpi=150)
    plt.close(fig)
