"""Pairs sampled around an iterate."""

import math

import numpy as np
import pytest

from mblsr1.rules.warm_start import sample_pairs
from mblsr1.types import Point

EPS = float(np.finfo(np.float64).eps)
H = np.diag([1.0, 3.0, -2.0, 0.5])


def curved(w):
    """Gradient of 1/2 w'Hw + sum of w^3 / 3."""
    return H @ w + w * w


def curved_product(w, v):
    return H @ v + 2.0 * w * v


def drawn(w, gradient=curved, hvp=None, count=5):
    w = np.array(w)
    return sample_pairs(count, Point(w, 0.0, curved(w)), gradient, hvp, np.random.default_rng(0))


WEIGHTS = [[0.3, -0.2, 0.1, 0.0], [3.0, -2.0, 1.0, 5.0]]


@pytest.mark.parametrize("w", WEIGHTS)
@pytest.mark.parametrize("hvp", [None, curved_product])
def test_the_steps_have_the_length_of_a_difference_quotient(w, hvp):
    """sqrt(eps) max(1, ||w||), and no two are alike."""
    pairs = drawn(w, hvp=hvp)
    assert len(pairs) == 5
    for s, _ in pairs:
        assert np.linalg.norm(s) == pytest.approx(math.sqrt(EPS) * max(1.0, np.linalg.norm(w)), rel=1e-14)
    units = np.array([s / np.linalg.norm(s) for s, _ in pairs])
    assert np.abs(units @ units.T - np.eye(5)).max() < 0.999


@pytest.mark.parametrize("w", WEIGHTS)
def test_y_is_the_hessian_times_s(w):
    """Exactly where products are at hand; else a difference ahead, off by ||s||^2 and by eps of the gradients."""
    w = np.array(w)
    for s, y in drawn(w, hvp=curved_product):
        np.testing.assert_array_equal(y, curved_product(w, s))
    for s, y in drawn(w):
        np.testing.assert_array_equal(y, curved(w + s) - curved(w))
        off = float(s @ s) + 8.0 * EPS * float(np.linalg.norm(curved(w)) + np.linalg.norm(w))
        assert np.linalg.norm(y - curved_product(w, s)) <= off


@pytest.mark.parametrize("bad", [None, np.full(4, math.inf)])
def test_a_pair_without_a_finite_gradient_is_left_out_and_no_other(bad):
    calls = []

    def gradient(w):
        calls.append(w)
        return bad if len(calls) == 2 else curved(w)

    pairs = drawn(WEIGHTS[0], gradient)
    assert len(calls) == 5
    assert len(pairs) == 4
    for (s, _), at in zip(pairs, [calls[0], *calls[2:]], strict=True):
        np.testing.assert_array_equal(np.array(WEIGHTS[0]) + s, at)
