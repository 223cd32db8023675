"""Vectors and data spread over eight devices of JAX: the run of one device, to rounding, by the unchanged solver."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from launch import TIMEOUT, environment

#: Growth of rounding over 10 steps, in units of eps; sampled pairs are differences of gradients over sqrt(eps).
TOLERANCE = {
    "float64, samples": 1e-10,
    "float64, whole": 1e-10,
    "float64, paper": 1e-4,
    "float32, samples": 1e-3,
}


@pytest.fixture(scope="module")
def runs():
    pytest.importorskip("jax", reason="jax is not installed")
    program = [sys.executable, str(Path(__file__).with_name("jax_devices.py"))]
    done = subprocess.run(program, capture_output=True, text=True, timeout=TIMEOUT, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.jax
@pytest.mark.parametrize("case", TOLERANCE)
@pytest.mark.parametrize("layout", ["vectors", "data"])
def test_devices_give_the_run_of_one(layout, case, runs):
    one, many = runs[case]["one device"], runs[case][layout]
    np.testing.assert_allclose(many["x"], one["x"], rtol=TOLERANCE[case], atol=TOLERANCE[case])
    np.testing.assert_allclose(many["loss"], one["loss"], rtol=TOLERANCE[case])
    assert len(one["loss"]) == 10


@pytest.mark.jax
@pytest.mark.parametrize("case", TOLERANCE)
def test_iterate_and_pairs_stay_spread_and_runs_continue(case, runs):
    assert [(r["parts of w"], r["columns here"]) for r in runs[case].values()] == [(1, 48), (8, 6), (1, 48)]
    assert all(r["continued"] for r in runs[case].values())
