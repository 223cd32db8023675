"""Every script of the folder examples runs, shows a picture, and what its page says is so."""

from __future__ import annotations

import runpy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run a script as a user would, with one figure shown; return its variables."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pytest.importorskip("sklearn")
    pyplot.switch_backend("agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MBLSR1_DATA", raising=False)
    shown = []

    def show():
        figure = pyplot.gcf()
        figure.canvas.draw()
        shown.append(np.asarray(figure.canvas.buffer_rgba()).std())

    monkeypatch.setattr(pyplot, "show", show)

    def running(name):
        variables = runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        assert len(shown) == 1
        assert shown[0] > 10  # not one colour
        return variables

    yield running
    pyplot.close("all")


def test_matrix_factorisation(run):
    v = run("matrix_factorisation")
    assert v["at_saddle"].eigenvalues().min() == pytest.approx(-v["singular"][0] / v["n"], rel=1e-3)
    assert v["step"].hard_case
    assert v["change"] == pytest.approx(v["step"].model_change, rel=0.05)
    assert 0 <= v["loss"][-1] - v["minimum"] < 1e-9  # the minimum of Eckart and Young
    assert min(v["seen"]) < 0  # a step along negative curvature, which the loss has there too
    assert min(v["true"]) < 0
    assert v["smallest"][0] < -0.01
    assert v["smallest"][-1] > -2e-4


def test_imbalanced(run):
    v = run("imbalanced")
    above = {name: loss[-1] - v["minimum"] for name, (_, loss, _) in v["runs"].items()}
    assert 0 <= above["whole set"] < 1e-6
    assert above["samples"] < 0.05
    assert all(cost[-1] <= v["passes"] for cost, _, _ in v["runs"].values())


def test_physics_informed(run):
    v = run("physics_informed")
    assert v["slope"] == pytest.approx((v["ahead"] - v["behind"]) / 2e-5, rel=1e-6)
    error = v["solution"](v["found"]["MB-LSR1"], v["grid"]) - v["exact"](v["grid"])
    assert np.linalg.norm(error) < 1e-3 * np.linalg.norm(v["exact"](v["grid"]))


def test_online_stream(run):
    v = run("online_stream")
    cost, loss, batch = v["ours"]
    assert cost[-1] <= 100_000
    assert loss[-1] < 0.3 < loss[0]
    assert batch[-1] >= 8 * batch[0]


@pytest.mark.jax
def test_jax_pytree(run):
    pytest.importorskip("jax")
    v = run("jax_pytree")
    assert [{name: part.shape for name, part in layer.items()} for layer in v["layers"]] == [
        {"W": (a, b), "b": (b,)} for a, b in pairwise(v["sizes"])
    ]
    last = {name: losses[-1] for name, (_, losses, _) in v["runs"].items()}
    assert last["MB-LSR1, blocks"] < last["Adam, rate 0.01"] < 0.6 * v["runs"]["MB-LSR1"][1][0]


@pytest.mark.torch
def test_torch_cnn(run):
    pytest.importorskip("torch")
    v = run("torch_cnn")
    for name in ("MB-LSR1", "Adam, rate 0.01, batch 64"):
        loss, accuracy = v["runs"][name][-1, 1:]
        assert loss < 0.05
        assert accuracy > 0.95
    assert v["runs"]["MB-LSR1"][-1, 0] <= v["passes"] + 2
    assert v["result"].n_samples <= v["passes"] * v["N"]
    assert v["at_end"][0] < 0.05


def test_every_script_has_a_test():
    """The functions on a mesh are in test_metric.py."""
    here = Path(__file__).read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f'run("{path.stem}")' in here or path.stem == "pde_mesh", path.stem
