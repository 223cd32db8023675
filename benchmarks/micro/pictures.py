"""Pictures of a step's cost against d and against m."""

from __future__ import annotations

from pathlib import Path
from typing import Any

Row = dict[str, Any]
STYLES = {"numpy": ("o", "-"), "torch": ("s", "--")}
COLOURS = {"samples": "#1f77b4", "new batches": "#d95f02", "paper": "#7570b3"}


def draw(steps: list[Row], lbfgs: list[Row], folder: Path) -> None:
    """Draw both pictures."""
    import matplotlib

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    _against_m(steps, lbfgs, folder / "performance_m.png")
    _against_d(steps, folder / "performance_d.png")


def _lines(axes: Any, rows: list[Row], x: str, value: str, dtype: str) -> None:
    """One line for every mode and library."""
    for library, (marker, dash) in STYLES.items():
        for mode, colour in COLOURS.items():
            case = {"mode": mode, "library": library, "dtype": dtype}
            found = [r for r in rows if case.items() <= r["case"].items() and value in r["found"]]
            points = sorted((r["case"][x], r["found"][value]) for r in found)
            if points:
                axes.plot(
                    *zip(*points, strict=True), dash, marker=marker, color=colour, label=f"{mode}, {library}", ms=4
                )


def _target(axes: Any, x: float) -> None:
    """Draw the target, named from `x` on."""
    axes.axhline(2.6, color="grey", lw=0.8)
    axes.annotate("target 2.6", (x, 2.6), (0, -10), textcoords="offset points", color="grey", fontsize=8)


def _against_m(steps: list[Row], lbfgs: list[Row], path: Path) -> None:
    """Passes of a usual step at d = 1e6, a panel a dtype, beside the target and torch.optim.LBFGS."""
    import matplotlib.pyplot as plt

    rows = [r for r in steps if r["case"]["d"] == 1_000_000]
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.4), sharey=True, layout="constrained")
    for axes, dtype in zip(panels, ("float64", "float32"), strict=True):
        _lines(axes, rows, "m", "passes", dtype)
        theirs = sorted((r["case"]["m"], r["found"]["torch.optim.LBFGS"]) for r in lbfgs if r["case"]["dtype"] == dtype)
        if theirs:
            axes.plot(*zip(*theirs, strict=True), "k-", marker="x", label="torch.optim.LBFGS")
        _target(axes, 8)
        axes.set(xscale="log", xlabel="m, pairs", title=f"{dtype}, d = 1e6")
        axes.set_xticks([8, 16, 32, 64], ["8", "16", "32", "64"])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].set(ylabel="passes over the pair buffer", ylim=(0, None))
    panels[1].legend(fontsize=8)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _against_d(steps: list[Row], path: Path) -> None:
    """Milliseconds and passes of a usual step at m = 16, float64."""
    import matplotlib.pyplot as plt

    rows = [r for r in steps if r["case"]["m"] == 16]
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
    for axes, value, label in zip(
        panels, ("step_ms", "passes"), ("ms a step", "passes over the pair buffer"), strict=True
    ):
        _lines(axes, rows, "d", value, "float64")
        axes.set(xscale="log", yscale="log", xlabel="d", ylabel=label, title="float64, m = 16")
        axes.grid(alpha=0.3)
    one = sorted({r["case"]["d"]: r["found"]["pass_ms"] for r in rows if r["case"]["dtype"] == "float64"}.items())
    if one:
        panels[0].plot(*zip(*one, strict=True), "k:", label="one pass")
    panels[0].legend(fontsize=8)
    _target(panels[1], 1_000)
    figure.savefig(path, dpi=130)
    plt.close(figure)
