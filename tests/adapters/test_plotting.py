"""`mblsr1.plot`: the panels hold the numbers of the history, whatever the run was; no display, no state of pyplot."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from problems import logistic
from scipy.optimize import OptimizeResult

import mblsr1
from mblsr1.plotting import _columns, _running_median

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
PROBLEM = logistic()
TITLES = [
    "loss on the batch", "norm of the batch gradient", "radius and step", "actual over predicted decrease",
    "batch size", "curvature",
]  # fmt: skip


def run(**how):
    settings = {"rng": 0, "batch_size": 16, "max_steps": 25, **how}
    return mblsr1.minimize(PROBLEM.fun, PROBLEM.grad, PROBLEM.w0, mblsr1.ArraySampler(*PROBLEM.data), **settings)


def whole(**how):
    problem = PROBLEM.whole()
    return mblsr1.minimize(problem.fun, problem.grad, problem.w0, **how)


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


def drawn(figure, tmp_path):
    """Draw it all; a warning is an error."""
    figure.savefig(tmp_path / "sheet.png", dpi=40)
    assert (tmp_path / "sheet.png").stat().st_size > 500
    return figure


def test_the_panels_hold_the_history(tmp_path):
    result = run()
    figure = drawn(mblsr1.plot(result), tmp_path)
    assert titles(figure) == TITLES
    for axes, name in zip(figure.axes, ("loss", "grad_norm", "radius", None, "batch_size", "sigma"), strict=True):
        if name:
            np.testing.assert_array_equal(axes.lines[0].get_xdata(), result.history["n_samples"])
            np.testing.assert_array_equal(axes.lines[0].get_ydata(), result.history[name])
    ratios = figure.axes[3].lines[0].get_ydata()
    np.testing.assert_array_equal(ratios, np.clip(result.history["rho"], -1.0, 3.0))


@pytest.mark.parametrize(
    "how",
    [
        {"options": mblsr1.Options.paper(batch_size=16, initial_radius=1.0)},
        {"method": mblsr1.s_lsr1(4)},
        {"max_steps": 1},
        {"batch_size": 60},
        {"max_steps": 300, "gtol": 0.0},
    ],
    ids=["paper", "s-lsr1", "one step", "whole", "many steps"],
)
def test_runs_of_any_kind(how, tmp_path):
    result = run(**({"options": None} | how))
    assert titles(drawn(mblsr1.plot(result, against="step"), tmp_path)) == TITLES


def test_a_first_order_method_has_no_radius(tmp_path):
    figure = drawn(mblsr1.plot(run(method=mblsr1.sgd(0.1))), tmp_path)
    assert titles(figure) == ["norm of the batch gradient", "radius and step", "batch size"]  # nor a loss, unless fused


def test_no_step(tmp_path):
    figure = drawn(mblsr1.plot(run(max_steps=0)), tmp_path)
    assert figure.axes == []
    assert [text.get_text() for text in figure.texts] == ["no step was made"]


def test_columns_of_nan_and_losses_of_any_sign(tmp_path):
    history = {"step": [1, 2, 3], "n_samples": [1, 2, 3], "loss": [np.nan, -1.0, 2.0], "grad_norm": [np.nan] * 3}
    history |= {"sigma": [0.0, 0.0, 0.0], "rho": [np.inf, -50.0, np.nan], "batch_size": [1, 1, 1]}
    figure = drawn(mblsr1.plot(history), tmp_path)
    assert titles(figure) == ["loss on the batch", "actual over predicted decrease", "batch size", "curvature"]
    assert figure.axes[0].get_yscale() == "linear"


def test_names_of_any_length_fit_and_zeros_leave_the_axis_logarithmic(tmp_path):
    history = {"step": [1, 2, 3], "n_samples": [1, 2, 3], "loss": [1.0, 1e-6, 0.0]}
    figure = drawn(mblsr1.plot({f"{i}, a name of {'many ' * 6}words": history for i in range(8)}), tmp_path)
    box = figure.legends[0].get_window_extent()
    assert 0.0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert figure.axes[0].get_yscale() == "log"


@pytest.mark.parametrize("several", [dict, list, tuple])
def test_several_runs(several, tmp_path):
    runs = {"default": run(), "SGD": run(method=mblsr1.sgd(0.1)), "none": run(max_steps=0)}
    figure = drawn(mblsr1.plot(runs if several is dict else several(runs.values())), tmp_path)
    assert titles(figure) == TITLES
    assert len(figure.axes[4].lines) == 2
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == (["default", "SGD", "none"] if several is dict else ["run 1", "run 2", "run 3"])


def test_points_without_a_neighbour_have_a_marker(tmp_path):
    """Lines are drawn between neighbours alone: [1, nan, 3, nan, 5, 6] shows two points and a line."""
    nan = np.nan
    history = {"step": range(6), "n_samples": range(6), "loss": [1.0] * 6, "rho": [1.0, nan, 3.0, nan, 0.5, 0.6]}
    loss, ratio = (axes.lines[0] for axes in drawn(mblsr1.plot(history), tmp_path).axes)
    assert (ratio.get_marker(), ratio.get_markevery()) == ("o", [0, 2])
    assert loss.get_marker() == "None"
    one = mblsr1.plot({name: column[:1] for name, column in history.items()}).axes[0].lines[0]
    assert (one.get_marker(), one.get_markevery()) == ("o", [0])


def test_names_may_be_the_same_in_print(tmp_path):
    result = whole(max_steps=3)
    figure = drawn(mblsr1.plot({1: result, "1": result}), tmp_path)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["1", "1"]
    assert len(figure.axes[0].lines) == 2


@pytest.mark.parametrize("n", [2, 8, 9, 20])
def test_runs_have_a_colour_each(n, tmp_path):
    figure = drawn(mblsr1.plot([whole(max_steps=2)] * n), tmp_path)
    colours = {matplotlib.colors.to_hex(line.get_color()) for line in figure.axes[0].lines}
    assert len(colours) == n
    assert [line.get_color() for line in figure.legends[0].get_lines()] == [
        line.get_color() for line in figure.axes[0].lines
    ]


def test_the_curvature_is_that_of_the_model():
    """SR1 finds a quadratic's matrix in as many steps as it has dimensions; then it is p'Hp / p'p."""
    H, at = np.diag([1.0, 3.0, 10.0]), [np.ones(3)]
    result = mblsr1.minimize(
        lambda w: float(0.5 * w @ H @ w), lambda w: H @ w, at[0],
        callback=lambda step: at.append(step.x), gtol=1e-12, whole_matrix="sr1",
    )  # fmt: skip
    steps = np.diff(at, axis=0)
    exact = np.einsum("ij,jk,ik->i", steps, H, steps) / (steps**2).sum(axis=1)
    assert result.nit == 5
    np.testing.assert_allclose(_columns(result.history)["curvature"][3:], exact[3:], rtol=1e-6)


def test_a_step_that_is_not_the_models_has_no_curvature():
    mixed = run(options=mblsr1.Options.paper(batch_size=16, initial_radius=1.0))
    assert np.isfinite(mixed.history["sigma"]).any()
    assert np.isnan(_columns(mixed.history)["curvature"][3:]).all()


def test_the_running_median():
    """Against a loop, with nan and inf in between."""
    rng = np.random.default_rng(0)
    y = rng.standard_normal(60)
    y[rng.integers(60, size=15)] = np.nan
    y[20:31] = np.nan
    for width in (1, 3, 8):
        windows = [y[max(0, i + 1 - width) : i + 1] for i in range(60)]
        finite = [w[np.isfinite(w)] for w in windows]
        np.testing.assert_allclose(_running_median(y, width), [np.median(f) if f.size else np.nan for f in finite])


@pytest.mark.parametrize(
    ("results", "error", "text"),
    [
        (3, TypeError, "results: must be a result, a sequence or a dict of results, got int"),
        ("run", TypeError, "got str"),
        ([], ValueError, "results: must hold one result at least"),
        ({"a": {"x": 1}}, TypeError, "results: 'a' must be a result with a history, got dict"),
        (
            OptimizeResult(x=1),
            TypeError,
            r"results: must be a result of mblsr1\.minimize, got an OptimizeResult without",
        ),
        ([OptimizeResult(x=1)], TypeError, "results: 'run 1' must be a result with a history, got OptimizeResult"),
        ([None], TypeError, "results: 'run 1' must be a result with a history, got NoneType"),
    ],
)
def test_results_that_are_refused(results, error, text):
    with pytest.raises(error, match=text):
        mblsr1.plot(results)


@pytest.mark.parametrize("against", ["time", ["step"], None])
def test_an_axis_that_is_refused(against):
    with pytest.raises(ValueError, match="against: must be one of 'n_samples', 'step', got "):
        mblsr1.plot(whole(max_steps=3), against=against)


def test_nothing_heavy_is_imported_and_pyplot_stays_out():
    code = (
        "import sys, numpy as np, mblsr1\n"
        "heavy = {'matplotlib', 'torch', 'jax', 'tensorboardX'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "figure = mblsr1.plot(mblsr1.minimize(lambda w: float(w @ w), lambda w: 2 * w, np.ones(2)))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
