"""The mean of the iterates."""

import numpy as np
import pytest

import mblsr1

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
