"""The soak, short: its measurements, and that the page shows the kept figures."""

import json

import numpy as np
import pytest

import mblsr1


@pytest.fixture
def soak():
    return pytest.importorskip("benchmarks.soak", exc_type=ImportError)


def test_a_short_soak_is_flat(soak):
    soak.soaked(mblsr1.Options(memory=4), 100)  # what is loaded at first
    for name, options in soak.WAYS.items():
        seen = soak.soaked(options, 300)
        assert seen["steps"] == 300
        assert seen["batch_size"] == soak.BATCH
        assert seen["largest_drift"] < 20 * soak.D * np.finfo(float).eps, name
        assert seen["last_kib"] - seen["settled_kib"] < 1024, name  # of 150 steps


def test_the_drift_is_noticed(soak):
    rows = np.random.default_rng(0).standard_normal((6, 5))
    memory = {"rows": rows, "gram": rows @ rows.T, "order": np.array([2, 0])}
    assert soak.drift(memory) < 1e-14
    memory["gram"][4, 0] += 1e-6 * np.linalg.norm(rows[4]) * np.linalg.norm(rows[0])
    assert soak.drift(memory) == pytest.approx(1e-6, rel=1e-6)
    memory["order"] = np.array([1])
    assert soak.drift(memory) < 1e-14


def test_iterate_keeps_no_history(soak):
    steps = mblsr1.iterate(soak.loss_and_gradient, True, np.zeros(soak.D), soak.Drifting(), max_steps=5, rng=0)
    last = list(steps)[-1]
    assert not any(last._run.history.values())


def test_the_page_shows_the_kept_figures(soak):
    record = json.loads(soak.KEPT.read_text(encoding="utf-8"))
    assert f"<!-- soak -->\n{soak.table(record)}\n<!-- /soak -->" in soak.PAGE.read_text(encoding="utf-8")
    assert record["runs"]["default"]["steps"] >= 100_000
    for run in record["runs"].values():
        assert abs(run["bytes_per_step"]) < 1.0
        assert run["largest_drift"] < 1e-13
