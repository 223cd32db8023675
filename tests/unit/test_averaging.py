"""The mean of the iterates."""

import math

import numpy as np
import pytest

import mblsr1
from mblsr1.rules.averaging import added
from mblsr1.types import Carried

CENTRES = np.random.default_rng(0).standard_normal((300, 4))


def loss_and_gradient(w, i):
    r = w - CENTRES[i]
    return 0.5 * float((r * r).sum(axis=1).mean()), r.mean(axis=0)


def run(**changes):
    arguments = {"batch_size": 30, "rng": 0, "gtol": 0.0, **changes}
    return mblsr1.minimize(loss_and_gradient, True, np.full(4, 3.0), 300, **arguments)


@pytest.mark.parametrize("changes", [{}, {"method": mblsr1.sgd(0.1)}], ids=["default", "sgd"])
def test_it_is_the_weighted_mean_and_changes_nothing_else(changes):
    iterates = []
    averaged = run(averaging=0.8, max_steps=12, callback=lambda step: iterates.append(step.x), **changes)
    weights = 0.8 ** np.arange(11, -1, -1)
    expected = weights @ np.array(iterates) / weights.sum()
    # 12 additions of numbers of size |w|: a few eps
    np.testing.assert_allclose(averaged.x_average, expected, rtol=0, atol=50 * np.finfo(float).eps * 3.0)
    plain = run(max_steps=12, **changes)
    np.testing.assert_array_equal(averaged.x, plain.x)
    assert "x_average" not in plain


def test_it_is_continued_bit_for_bit(tmp_path):
    first = run(averaging=0.8, max_steps=6)
    mblsr1.save_state(tmp_path / "run.npz", first.state)
    second = run(averaging=0.8, max_steps=6, state=mblsr1.load_state(tmp_path / "run.npz"))
    np.testing.assert_array_equal(second.x_average, run(averaging=0.8, max_steps=12).x_average)


def test_without_a_step_there_is_none():
    assert "x_average" not in run(averaging=0.8, max_steps=0)


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_the_weights_add_up_to_one(memory):
    """After n vectors those of age a have weight memory^a (1 - memory) / (1 - memory^n)."""
    vectors, mean = np.random.default_rng(0).standard_normal((7, 4)), Carried()
    for n in range(1, 8):
        mean = added(mean, vectors[n - 1], memory)
        weights = (1.0 - memory) * memory ** np.arange(n - 1.0, -1.0, -1.0)
        assert mean.weight == pytest.approx(1.0 - memory**n, rel=1e-14)  # n sums of numbers up to 1
        np.testing.assert_allclose(mean.vector, weights @ vectors[:n] / weights.sum(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_memory_zero_forgets_the_past_whatever_it_was(bad):
    x = np.array([1.0, -2.0])
    mean = added(Carried(np.array([bad, 1.0]), 0.5), x, 0.0)
    np.testing.assert_array_equal(mean.vector, x)
    assert mean.weight == 1.0
