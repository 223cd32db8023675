"""One sheet that shows a run: loss, gradient, radius, ratio, batch size, curvature."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

__all__ = ["plot"]

#: Told apart by readers who confuse colours (Okabe and Ito 2008).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c564b")
_AXES = {"n_samples": "cost in sample-gradients", "step": "steps"}
#: Beyond this many steps a running median is drawn over the single values.
_MANY = 200
#: Ratios outside are drawn at the border: one step along a flat model would set the scale.
_RATIOS = (-1.0, 3.0)

#: Relative difference of two ways to round Q.
_SAME = 1e-4

Vector = NDArray[np.float64]


class _Panel(NamedTuple):
    """A panel: columns of the history with their names, and the vertical axis, logarithmic where it can be."""

    title: str
    columns: tuple[tuple[str, str], ...]
    scale: str = "log"


_PANELS = (
    _Panel("loss on the batch", (("loss", "loss"),)),
    _Panel("norm of the batch gradient", (("grad_norm", "||g||"),)),
    _Panel("radius and step", (("radius", "radius"), ("step_norm", "length of the step"))),
    _Panel("actual over predicted decrease", (("rho", "a step"), ("rho_hat", "mean")), "ratio"),
    _Panel("batch size", (("batch_size", "samples"),), "doubling"),
    _Panel("curvature", (("sigma", "sigma, the multiplier"), ("curvature", "p'Bp / p'p, along the step")), "signed"),
)


def plot(results: Any, *, against: str = "n_samples") -> Any:
    """Draw a run, or several, on one sheet.

    Parameters
    ----------
    results : OptimizeResult, sequence of them, or dict of name to OptimizeResult
        What `minimize` returned; a ``history`` alone will do. Several are compared, a colour each; from nine on the
        colours are shades of one scale.
    against : {"n_samples", "step"}
        The horizontal axis: cost in sample-gradients, or steps.

    Returns
    -------
    matplotlib.figure.Figure
        Not shown and not known to pyplot: ``figure.savefig("run.png")``; a notebook shows it by itself.

    Raises
    ------
    TypeError, ValueError
        Where `results` holds no history or `against` is another name.
    ImportError
        Where matplotlib is not installed.

    Notes
    -----
    Panels without a finite value are left out: first-order methods have no radius. Of more than 200 steps the single
    values are pale, under their running median. Ratios outside [-1, 3] are drawn there. The curvature along a step is
    that of the model, from (B + sigma I) p = -g; left out where momentum or a line search has made another step.

    Examples
    --------
    >>> import numpy as np, mblsr1
    >>> result = mblsr1.minimize(lambda w: float(w @ w), lambda w: 2 * w, np.ones(3))
    >>> figure = mblsr1.plot(result)
    >>> [axes.get_title(loc="left") for axes in figure.axes][:2]
    ['loss on the batch', 'norm of the batch gradient']
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise ImportError("mblsr1.plot needs matplotlib: python -m pip install 'mblsr1[watch]'") from error
    if not isinstance(against, str) or against not in _AXES:
        raise ValueError(f"against: must be one of {', '.join(map(repr, _AXES))}, got {against!r}")
    names, histories = zip(*_named(results), strict=True)
    runs = [_columns(history) for history in histories]
    panels = [panel for panel in _PANELS if any(_has_values(run, panel) for run in runs)]
    rows = max(1, (len(panels) + 1) // 2)
    figure = Figure(figsize=(10.0, 2.6 * rows + 0.3), layout="constrained")
    if not panels:
        figure.text(0.5, 0.5, "no step was made", ha="center", va="center")
        return figure
    first = None
    for place, panel in enumerate(panels):
        axes = first = figure.add_subplot(rows, min(2, len(panels)), place + 1, sharex=first)
        _draw(axes, panel, runs, against)
        if place >= len(panels) - 2:
            axes.set_xlabel(_AXES[against])
    if len(runs) > 1:
        handles = [axes.plot([], [], color=colour)[0] for colour in _colours(len(runs))]
        figure.legend(handles, names, loc="outside upper center", ncols=_in_a_row(names), frameon=False)
    return figure


def _named(results: Any) -> list[tuple[str, Mapping[str, Sequence[float]]]]:
    """Histories and their names, which need not differ."""
    history = _history(results)
    if history is not None:
        return [("", history)]
    if isinstance(results, OptimizeResult):
        raise TypeError("results: must be a result of mblsr1.minimize, got an OptimizeResult without a history")
    if isinstance(results, Mapping):
        given = [(str(name), result) for name, result in results.items()]
    elif isinstance(results, Sequence) and not isinstance(results, str | bytes):
        given = [(f"run {i + 1}", result) for i, result in enumerate(results)]
    else:
        raise TypeError(f"results: must be a result, a sequence or a dict of results, got {type(results).__name__}")
    if not given:
        raise ValueError("results: must hold one result at least, got none")
    found = []
    for name, result in given:
        history = _history(result)
        if history is None:
            raise TypeError(f"results: {name!r} must be a result with a history, got {type(result).__name__}")
        found.append((name, history))
    return found


def _history(result: Any) -> Mapping[str, Sequence[float]] | None:
    """The history of a result, or the history itself; None of anything else."""
    if not isinstance(result, Mapping):
        return None
    history = result.get("history", result)
    return history if isinstance(history, Mapping) and {"step", "loss", "n_samples"} <= set(history) else None


def _columns(history: Mapping[str, Sequence[float]]) -> dict[str, Vector]:
    """The columns as arrays, with the model's curvature along the step."""
    run = {name: np.asarray(column, dtype=np.float64) for name, column in history.items()}
    nothing = np.full(len(run["step"]), np.nan)
    names = ("slope", "sigma", "step_norm", "predicted", "noise")
    slope, sigma, length, predicted, noise = (run.get(name, nothing) for name in names)
    with np.errstate(all="ignore"):
        curvature = -slope / length**2 - sigma
        of_model = 0.5 * (slope - sigma * length**2)  # Q of the model's own step
        is_models = np.abs(predicted - of_model) <= _SAME * np.abs(predicted)
    is_models |= np.isfinite(noise)  # batches that overlap: Q is made with another gradient than the step
    run["curvature"] = np.where(is_models & np.isfinite(curvature), curvature, np.nan)
    return run


def _has_values(run: dict[str, Vector], panel: _Panel) -> bool:
    return any(bool(np.isfinite(run.get(name, np.empty(0))).any()) for name, _ in panel.columns)


def _draw(axes: Any, panel: _Panel, runs: list[dict[str, Vector]], against: str) -> None:
    """All runs in one panel: a colour a run and a style a column, or a colour a column where there is one run."""
    values, colours = [], _colours(max(len(runs), len(panel.columns)))
    for i, run in enumerate(runs):
        for j, (column, label) in enumerate(panel.columns):
            y = run.get(column, np.empty(0))
            y = np.clip(y, *_RATIOS) if panel.scale == "ratio" else y
            if np.isfinite(y).any():
                values.append(y[np.isfinite(y)])
                style = {"color": colours[i], "ls": ("-", "--")[j]} if len(runs) > 1 else {"color": colours[j]}
                _line(axes, run[against], y, label if i == 0 else None, style)
    _scale(axes, panel.scale, np.concatenate(values))
    axes.set_title(panel.title, loc="left", fontsize=10)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if len(panel.columns) > 1 and axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)


def _scale(axes: Any, scale: str, values: Vector) -> None:
    """The vertical axis that fits the values."""
    from matplotlib.ticker import EngFormatter, ScalarFormatter  # noqa: PLC0415

    positive = values[values > 0.0]
    spread = bool((values >= 0.0).all() and positive.size and positive.max() > 3.0 * positive.min())
    if scale == "ratio":
        axes.axhline(1.0, color="0.6", lw=0.8, zorder=0)
    elif scale == "doubling":
        if values.max() > values.min():
            axes.set_yscale("log", base=2)
        else:
            axes.set_yticks([values[0]])
        axes.yaxis.set_major_formatter(ScalarFormatter())
    elif scale == "log" and spread:
        axes.set_yscale("log", nonpositive="mask")
    elif scale == "signed" and (sizes := np.abs(values[values != 0.0])).size:
        axes.set_yscale("symlog", linthresh=float(10.0 ** np.floor(np.log10(np.median(sizes)))))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _line(axes: Any, x: Vector, y: Vector, label: str | None, style: dict[str, Any]) -> None:
    """One line; a marker where a point has no neighbour to draw a line to."""
    if len(y) > _MANY:
        axes.plot(x, y, color=style["color"], lw=0.6, alpha=0.25)
        y = _running_median(y, max(3, len(y) // 50))
    finite = np.pad(np.isfinite(y), 1)
    alone = np.flatnonzero(finite[1:-1] & ~finite[:-2] & ~finite[2:]).tolist()
    axes.plot(x, y, lw=1.5, label=label, marker="o" if alone else None, markevery=alone, ms=4.0, **style)


def _running_median(y: Vector, width: int) -> Vector:
    """The median of the last `width` values that are finite; nan where there is none."""
    padded = np.concatenate([np.full(width - 1, np.nan), y])
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1)  # nan last
    counts = np.isfinite(windows).sum(axis=1)
    low, high = (np.take_along_axis(windows, np.maximum(k, 0)[:, None], axis=1)[:, 0] for k in _middle(counts))
    return np.where(counts > 0, 0.5 * (low + high), np.nan)


def _middle(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return (counts - 1) // 2, counts // 2


def _in_a_row(names: Iterable[str]) -> int:
    """How many names fit side by side above the sheet."""
    return max(1, 100 // (max(map(len, names)) + 8))


def _colours(n: int) -> list[Any]:
    """Return n colours that differ."""
    if n <= len(_COLOURS):
        return list(_COLOURS[:n])
    from matplotlib import colormaps  # noqa: PLC0415

    return [tuple(colour) for colour in colormaps["turbo"](np.linspace(0.0, 1.0, n)).tolist()]
