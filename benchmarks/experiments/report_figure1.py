"""Figure 1 as heat maps and tables: what MB-LSR1 has more than the best tuned SGD, by set and batch size."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.experiments import report
from benchmarks.experiments.common import Claim, Gap, described, paired, spent
from benchmarks.experiments.figure1 import (
    BATCHES,
    BUDGETS,
    LARGER_RATES,
    MEASURES,
    MOMENTA,
    OURS,
    PAPER_RATES,
    SEEDS,
    SETS,
    STORE,
)
from benchmarks.imbalanced import TABLE
from scipy import stats

GRIDS = {"Table 2's grid": PAPER_RATES, "wide grid": (*PAPER_RATES, *LARGER_RATES)}
#: Competitive: in the median of the cells not more than this below.
MARGIN = 0.01
#: Colours are full from this share of the default's differences on.
QUANTILE = 0.95
LARGE = ("N/10", "N/8", "N/4")
Results = dict[tuple[str, str], dict[str, Any]]


def results(scale: str = "small") -> Results:
    """Newest result of each cell, by set and batch."""
    found = STORE.newest().values()
    kept = [r for r in found if r["settings"]["budget"] == list(BUDGETS[scale])]
    return {(r["settings"]["set"], r["settings"]["batch"]): r["result"] for r in kept}


def tuned(cell: dict[str, Any], rates: tuple[float, ...], measure: str) -> list[float]:
    """Return SGD's measures: of the settings that were run with all seeds, the one with the best mean."""
    seeds = len(cell["default"])
    rows = [row["runs"] for row in cell["sgd"] if row["rate"] in rates and len(row["runs"]) == seeds]
    return max(([run[measure] for run in runs] for runs in rows), key=statistics.fmean)


def gap(cell: dict[str, Any], ours: str, rates: tuple[float, ...], measure: str) -> Gap:
    """Compare one of our settings with the best of a grid."""
    return paired([run[measure] for run in cell[ours]], tuned(cell, rates, measure))


def by_loss(cell: dict[str, Any], measure: str) -> float:
    """Compare the default with the SGD that the smallest training loss chooses, on the first seed."""
    runs = [row["runs"][0] for row in cell["sgd"]]
    chosen = min(runs, key=lambda run: np.inf if run["loss"] is None else run["loss"])
    return float(cell["default"][0][measure] - chosen[measure])


def untuned(cell: dict[str, Any], measure: str) -> float:
    """Compare the default with the median setting of Table 2's grid, on the first seed."""
    values = [row["runs"][0][measure] for row in cell["sgd"] if row["rate"] in PAPER_RATES]
    return float(cell["default"][0][measure] - statistics.median(values))


def gaps(found: Results, ours: str, rates: tuple[float, ...], measure: str, batches: Iterable[str] = BATCHES) -> Any:
    """Gaps of the cells at these batches."""
    wanted = set(batches)
    return [gap(cell, ours, rates, measure) for (_, batch), cell in found.items() if batch in wanted]


def counted(rows: list[Gap]) -> str:
    """Return the median gap, and the numbers of cells above, undecided and below."""
    signs = [row.sign for row in rows]
    return f"{100 * _median(rows):+.2f} ({signs.count(1)} / {signs.count(0)} / {signs.count(-1)})"


def claims() -> list[Claim]:
    """Return the rows of the page's first table: accuracy, and for the default average precision too."""
    found = results()
    if not found:
        return []
    return [
        *(competitive(found, ours) for ours in OURS),
        *(better(found, ours, "accuracy") for ours in OURS),
        better(found, "default", "average_precision"),
        better(found, "default", "accuracy", LARGE),
    ]


def competitive(found: Results, ours: str) -> Claim:
    """Section 5.1: not more than `MARGIN` below in the median of the cells, against Table 2's grid."""
    medians = {grid: _median(gaps(found, ours, rates, "accuracy")) for grid, rates in GRIDS.items()}
    shown = ", ".join(f"{100 * value:+.2f} ({grid})" for grid, value in medians.items())
    return Claim(
        "Figure 1",
        f"MB-LSR1 is competitive with the best tuned SGD on imbalanced sets: {ours}",
        f"test accuracy, median over {len(found)} cells, points: {shown}",
        "yes" if medians["Table 2's grid"] >= -MARGIN else "no",
    )


def better(found: Results, ours: str, measure: str, batches: tuple[str, ...] = BATCHES) -> Claim:
    """Section 1: more cells above than below by a sign test at 5 %, against Table 2's grid."""
    signs = {g: [row.sign for row in gaps(found, ours, rates, measure, batches)] for g, rates in GRIDS.items()}
    shown = "; ".join(f"{row.count(1)} above, {row.count(-1)} below ({grid})" for grid, row in signs.items())
    at = "" if batches == BATCHES else f", batches {', '.join(batches)}"
    paper = signs["Table 2's grid"]
    return Claim(
        "Figure 1",
        f"significantly better than the best tuned SGD on imbalanced sets: {ours}{at}",
        f"{'test ' if measure == 'accuracy' else ''}{_words(measure)}, {len(paper)} cells: {shown}",
        "yes" if outnumbers(paper.count(1), paper.count(-1)) else "no",
    )


def outnumbers(above: int, below: int) -> bool:
    """Whether a fair coin would show so many above in less than 5 % of all cases."""
    return above + below > 0 and bool(stats.binomtest(above, above + below, alternative="greater").pvalue < 0.05)


def _median(rows: Iterable[Gap]) -> float:
    return statistics.median(row.mean for row in rows)


def _words(measure: str) -> str:
    return measure.replace("_", " ")


def section() -> str:
    """Return the section of the page."""
    found = results()
    if not found:
        return ""
    shown = "\n".join(
        f"![{title(m, ours)}](_static/experiments/{picture(m, ours)}.png)\n"
        for m, ours in itertools.product(MEASURES, OURS)
    )
    return "\n".join([caption(found), summary(found), by_batch(found), fair(found), legend(), shown])


def title(measure: str, ours: str) -> str:
    """Return what a picture shows, in a line."""
    what = f"{_words(measure).capitalize()}, MB-LSR1 ({ours}) minus the best tuned SGD"
    return f"{what}: {len(SETS)} sets, at most {BUDGETS['small'].passes:g} N sample-gradients, {len(SEEDS)} seeds"


def picture(measure: str, ours: str) -> str:
    """Return the name of a picture."""
    return f"figure1_{measure}_{ours}"


def legend() -> str:
    """Return how to read the pictures."""
    (first, lowest), *_, (last, highest) = ((s, (t.rows - t.minority) / t.minority) for s, t in TABLE.items())
    return f"""\
The pictures have a difference in percentage points in each cell, bold where its 95 % interval leaves zero out. The sets
stand in the benchmark's order, from little imbalance ({first}: {lowest:.3g} rows of the majority to one of the
minority) to much ({last}: {highest:.3g} to one). A colour means the same for default and paper; it is full from
the size on that {100 * QUANTILE:g} % of the default's differences stay below.
"""


def caption(found: Results) -> str:
    """Return what was run, at what cost, and on what."""
    budget, cells, last = BUDGETS["small"], len(SETS) * len(BATCHES), SEEDS[-1]
    records = [r for r in STORE.newest().values() if r["settings"]["budget"] == list(budget)]
    seconds = sum(cell["cpu_seconds"] for cell in found.values())
    return f"""\
## Figure 1: imbalanced sets

{len(found)} of {cells} cells: {len(SETS)} sets x batch {", ".join(BATCHES)}, N the number of training rows.
One hidden layer of 50 tanh units, cross-entropy without class weights, standardised inputs, one random split of 80 %
for training and 20 % for the test. `isolet_partial` is 3,119 of isolet's 7,797 rows; the other 26 sets are whole.

- {spent(budget)} The paper does not say what it spent.
- *MB-LSR1*: one setting for all cells, nothing tuned: `Options()`, and `Options.paper()` beside it. The default's batch
  grows where noise asks for it, up to N/4; SGD's stays.
- *SGD*: rates {_list(PAPER_RATES)} and momentum {_list(MOMENTA)} (Table 2); the wide grid has rates
  {_list(LARGER_RATES)} too. All settings on seed 0; those that are best there on the test set by any of the three
  measures on seeds 0 to {last}, and of these the best mean counts, for each measure apart. So SGD is chosen by the very
  test data, which favours it.
- Seeds 0 to {last}: start and batches; last iterate. A cell is above or below where the 95 % interval of the paired
  differences (t, {len(SEEDS)} seeds) leaves zero out.
- The verdicts: "competitive" where the median of the cells is not more than
  {100 * MARGIN:g} point below; "significantly better" where cells above outnumber cells below in a sign test at 5 %;
  both against Table 2's grid.
- {described(records)}. {seconds / 60:.0f} minutes of CPU time. `python -m nox -s experiments -- figure1`.
"""


def _list(values: Iterable[float]) -> str:
    return "{" + ", ".join(f"{v:g}" for v in values) + "}"


def summary(found: Results) -> str:
    """Return medians and counts by measure and grid."""
    body = [
        [ours, grid, *(counted(gaps(found, ours, rates, m)) for m in MEASURES)]
        for ours in OURS
        for grid, rates in GRIDS.items()
    ]
    heads = [_words(m) for m in MEASURES]
    head = "Median over the cells of MB-LSR1 minus SGD in percentage points (cells above / undecided / below):\n\n"
    return head + report.rows(["MB-LSR1", "SGD", *heads], body)


def by_batch(found: Results) -> str:
    """Return the default's row of the summary for each batch size."""
    rates = GRIDS["wide grid"]
    here = [b for b in BATCHES if any(batch == b for _, batch in found)]
    body = [
        [f"{ours}, {_words(m)}", *(counted(gaps(found, ours, rates, m, [b])) for b in here)]
        for ours in OURS
        for m in MEASURES
    ]
    return "The same by batch size, against the wide grid:\n\n" + report.rows(["MB-LSR1", *here], body)


def fair(found: Results) -> str:
    """Return what the choice by test data is worth: SGD chosen by training loss, and not chosen at all."""
    body = [
        ["smallest training loss, wide grid", *(_middle(by_loss(c, m) for c in found.values()) for m in MEASURES)],
        ["median setting of Table 2's grid", *(_middle(untuned(c, m) for c in found.values()) for m in MEASURES)],
    ]
    head = (
        "The default against SGD without a look at the test set, seed 0 alone, median of the differences in points:\n\n"
    )
    lower = sum(lowest(cell) for cell in found.values())
    tail = (
        "\nTraining loss, all that the methods see: on seed 0 the default's is below that of every setting of the wide "
        f"grid in {lower} of {len(found)} cells.\n"
    )
    return head + report.rows(["SGD's setting", *(_words(m) for m in MEASURES)], body) + tail


def lowest(cell: dict[str, Any]) -> bool:
    """Whether the default's training loss is below that of all of SGD's settings, on the first seed."""
    others = [row["runs"][0]["loss"] for row in cell["sgd"]]
    ours = cell["default"][0]["loss"]
    return ours is not None and all(loss is None or ours < loss for loss in others)


def _middle(values: Iterable[float]) -> str:
    values = list(values)
    signs = np.sign(values)
    return f"{100 * statistics.median(values):+.2f} ({(signs > 0).sum()} / {(signs == 0).sum()} / {(signs < 0).sum()})"


def pictures(folder: Path) -> None:
    """Draw a picture for each measure and setting: heat maps against both grids."""
    found = results()
    for measure, ours in itertools.product(MEASURES, OURS) if found else ():
        report.save(heat_maps(found, measure, ours), folder, picture(measure, ours))


def heat_maps(found: Results, measure: str, ours: str) -> Any:
    """Return the figure of one measure and one of our settings."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = [name for name in SETS if any(name == n for n, _ in found)]
    limit = _limit([_table(found, names, "default", rates, measure) for rates in GRIDS.values()])
    figure, axes = plt.subplots(1, 2, figsize=(9, 1.9 + 0.25 * len(names)), sharey=True, layout="constrained")
    for axis, (grid, rates) in zip(axes, GRIDS.items(), strict=True):
        image = _panel(axis, _table(found, names, ours, rates, measure), limit)
        axis.set_title(f"SGD: {grid}", fontsize=10)
    axes[0].set_yticks(range(len(names)), names, fontsize=9)
    figure.suptitle(title(measure, ours), x=0.01, ha="left", fontsize=10)
    label = "percentage points; bold: outside the 95 % interval"
    figure.colorbar(image, ax=axes, shrink=0.6, aspect=40, label=label, extend="both", pad=0.01)
    return figure


def _limit(tables: Iterable[Any]) -> float:
    """Return the difference in points from which on a colour is full: that of most cells, and at least 1."""
    sizes = [abs(g.mean) for table in tables for g in table.flat if g]
    return 100 * max(0.01, float(np.quantile(sizes, QUANTILE)))


def _table(found: Results, names: list[str], ours: str, rates: tuple[float, ...], measure: str) -> Any:
    table = np.full((len(names), len(BATCHES)), None, dtype=object)
    for i, name in enumerate(names):
        for j, batch in enumerate(BATCHES):
            if (name, batch) in found:
                table[i, j] = gap(found[name, batch], ours, rates, measure)
    return table


def _panel(axis: Any, table: Any, limit: float) -> Any:
    """Draw one heat map with its numbers."""
    values = np.array([[np.nan if g is None else 100 * g.mean for g in row] for row in table])
    image = axis.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    for (i, j), g in np.ndenumerate(table):
        if g is not None:
            dark = abs(values[i, j]) > 0.6 * limit
            axis.text(
                j, i, _signed(values[i, j]), ha="center", va="center", fontsize=7,
                color="white" if dark else "black", weight="bold" if g.sign else "normal",
            )  # fmt: skip
    axis.set_xticks(range(len(BATCHES)), BATCHES, fontsize=8)
    axis.set_xlabel("batch size", fontsize=9)
    return image


def _signed(value: float) -> str:
    return "0.0" if abs(value) < 0.05 else f"{value:+.1f}"
