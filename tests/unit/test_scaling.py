"""The gamma rules against their literal formulas."""

import math

import numpy as np
import pytest
import scipy.linalg
from hypothesis import assume, given
from hypothesis import strategies as st

import mblsr1
from mblsr1 import scaling
from mblsr1.linalg.pairs import PairMemory

seeds = st.integers(0, 2**32 - 1)


def blocks_of(S, Y):
    memory = PairMemory(np.zeros(S.shape[1]), max(1, len(S)))
    for s, y in zip(S, Y, strict=True):
        memory.push(s, y)
        memory.project([])
    return memory.blocks()


def some_pairs(seed, convex=False, d=8):
    rng = np.random.default_rng(seed)
    k = int(rng.integers(1, 6))
    H = rng.standard_normal((d, d))
    H = H @ H.T + 0.1 * np.eye(d) if convex else H + H.T
    S = rng.standard_normal((k, d)) * 10.0 ** rng.uniform(-3, 3, (k, 1))
    return S, S @ H


empty = blocks_of(np.zeros((0, 3)), np.zeros((0, 3)))


@given(seeds, st.floats(-100, 100))
def test_constant(seed, value):
    assert scaling.constant(value)(blocks_of(*some_pairs(seed))) == value
    assert scaling.constant(value)(empty) == value
    assert scaling.constant()(empty) == 1.0


@given(seeds, st.floats(1.1, 10))
def test_ceiling(seed, factor):
    S, Y = some_pairs(seed)
    largest = max(np.linalg.norm(y) / np.linalg.norm(s) for s, y in zip(S, Y, strict=True))
    assert scaling.ceiling(factor)(blocks_of(S, Y)) == pytest.approx(factor * largest, rel=1e-14)
    assert scaling.ceiling()(blocks_of(S, Y)) == pytest.approx(2.0 * largest, rel=1e-14)
    assert scaling.ceiling()(empty) == 0.0


@given(seeds)
def test_ceiling_keeps_the_sign_of_the_denominators(seed):
    """gamma over every curvature: B <= gamma I on a quadratic, and no pair is skipped for its denominator."""
    S, Y = some_pairs(seed)
    gamma = 2.0 * float(np.linalg.norm(np.linalg.lstsq(S, Y, rcond=None)[0], 2))
    B = mblsr1.LSR1(S, Y, gamma)
    assert B.n_skipped == 0
    assert B.eigenvalues()[-1] <= gamma * (1 + 1e-12)


@given(seeds)
def test_last_pair(seed):
    S, Y = some_pairs(seed)
    expected = 1.0
    for s, y in zip(S, Y, strict=True):  # the newest that is usable is the last to be written
        cosine = s @ y / (np.linalg.norm(s) * np.linalg.norm(y))
        assume(abs(cosine) > 1e-6)
        if cosine > 0:
            expected = y @ y / (s @ y)
    assert scaling.last_pair()(blocks_of(S, Y)) == pytest.approx(expected, rel=1e-9)
    assert scaling.last_pair()(empty) == 1.0


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(("cosine", "usable"), [(0.9e-8, False), (1.1e-8, True)])
def test_last_pair_wants_an_angle_whatever_the_size_of_y(size, cosine, usable):
    s, y = np.array([[1.0, 0.0]]), size * np.array([[cosine, 1.0]])
    gamma = scaling.last_pair()(blocks_of(s, y))
    assert gamma == pytest.approx(size / cosine if usable else 1.0, rel=1e-14)


@given(seeds, st.floats(0.05, 0.95), st.booleans())
def test_from_below(seed, fraction, convex):
    """fraction lambda, or lambda (2 - fraction), of the smallest lambda of (L + D + L')u = lambda S'S u."""
    S, Y = some_pairs(seed, convex)
    unit = S / np.linalg.norm(S, axis=1, keepdims=True)
    assume(np.linalg.cond(unit) < 1e3)
    SY = S @ Y.T
    A = np.tril(SY) + np.tril(SY, -1).T
    smallest = scipy.linalg.eigh(A, S @ S.T, eigvals_only=True)[0]
    assume(abs(smallest) > 1e-3)
    gamma = scaling.from_below(fraction)(blocks_of(S, Y))
    expected = fraction * smallest if smallest > 0 else (2 - fraction) * smallest
    # lambda is off by eps cond(S)^2 ||H||; the rows of S here differ by 1e6 in the reference
    assert gamma == pytest.approx(expected, rel=1e-6)
    B = mblsr1.LSR1(S, Y, gamma)
    assert B.eigenvalues()[0] >= gamma - 1e-9 * (1 + abs(B.eigenvalues()[-1]))


@given(seeds)
def test_from_below_keeps_a_convex_function_convex(seed):
    S, Y = some_pairs(seed, convex=True)
    assume(np.linalg.cond(S / np.linalg.norm(S, axis=1, keepdims=True)) < 1e3)
    gamma = scaling.from_below()(blocks_of(S, Y))
    assert gamma > 0.0
    assert mblsr1.LSR1(S, Y, gamma).eigenvalues()[0] > 0.0


def test_from_below_is_never_zero():
    assert scaling.from_below()(empty) == 1.0
    s = np.array([[1.0, 0.0]])
    assert scaling.from_below()(blocks_of(s, np.array([[0.0, 1.0]]))) == 1e-6
    assert scaling.from_below()(blocks_of(s, np.array([[-1e-9, 1.0]]))) == -1e-6


def test_from_below_with_parallel_steps():
    """Only the well-determined part of span(S) counts."""
    S = np.array([[1.0, 0.0, 0.0], [1.0, 1e-9, 0.0], [0.0, 0.0, 1.0]])
    H = np.diag([3.0, -1e6, 2.0])
    assert scaling.from_below()(blocks_of(S, S @ H)) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize(("share", "gamma"), [(0.5e-10, 1.5), (2e-10, -3.0)])
def test_from_below_leaves_out_a_share_of_the_largest_direction(share, gamma):
    """Four steps along e_1, off it by a variance of `share` along e_2, where the curvature is -2; 3 along e_1."""
    S = np.zeros((4, 3))
    S[:, 0], S[:, 1] = 1.0, math.sqrt(share) * np.array([1.0, -1.0, 1.0, -1.0])
    # 1e-10 of the largest eigenvalue of S'S, which is 4; the curvature there is known to eps / share = 1e-6
    assert scaling.from_below()(blocks_of(S, S * np.array([3.0, -2.0, 1.0]))) == pytest.approx(gamma, rel=1e-4)


@pytest.mark.parametrize(
    ("rule", "name", "allowed", "outside"),
    [
        (scaling.constant, "value", "a finite number", [math.nan, math.inf, 10**400]),
        (scaling.from_below, "fraction", r"a finite number in \(0, 1\)", [0.0, 1.0, -1.0, math.nan]),
        (scaling.ceiling, "factor", "a finite number > 1", [1.0, 0.5, math.nan, 10**400]),
    ],
)
def test_settings_out_of_range(rule, name, allowed, outside):
    for bad in outside:
        with pytest.raises(ValueError, match=rf"^{name}: must be {allowed}, got"):
            rule(bad)
    for bad in ("1.5", None, True, empty):
        with pytest.raises(TypeError, match=rf"^{name}: must be {allowed}, got"):
            rule(bad)


@pytest.mark.parametrize("value", [1e160, -1e200, 1e152, 3.0, np.float64(-2.0), 0])
def test_gamma_has_a_square(value):
    gamma = scaling.gamma_of(lambda blocks: value, empty)
    assert type(gamma) is float
    assert gamma == (value if abs(value) <= 1e152 else math.copysign(1e152, value))
    assert math.isfinite(gamma * gamma)
