"""Algorithm 4, lines 4-10, against the formulas of readings 1, 2 and 4."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mblsr1.rules.hybrid import carry, mix

seeds = st.integers(0, 2**32 - 1)
weights = st.sampled_from([0.0, 1.0]) | st.floats(0, 1)
momenta = st.sampled_from([0.0]) | st.floats(0, 0.99)


def clip(x, delta):
    norm = np.linalg.norm(x)
    return x * (delta / norm) if norm > delta else x


def step(p_star, g, s, v, delta, eta, mu, alpha_s, printed):
    """`mix` with what `carry` keeps of the last step s and momentum v."""
    carried = None if s is None else carry(v, s, eta, mu)
    return mix(p_star, g, carried, delta, eta=eta, mu=mu, alpha_s=alpha_s, printed=printed)


def literal(p_star, g, s, v, delta, eta, mu, alpha_s, printed):
    """Lines 4-10 with vectors of zeros where there is none yet."""
    zero = np.zeros_like(g)
    s, v = zero if s is None else s, zero if v is None else v
    v = clip(mu * v - eta * alpha_s * g + (1 - eta) * s, delta)
    p = (1 - eta) * p_star + mu * v if printed else (1 - eta) * (p_star + mu * v) + eta * v
    return clip(p, delta), v


@given(seeds, weights, momenta, st.floats(0, 1), st.booleans(), st.floats(0.01, 10), st.booleans(), st.booleans())
def test_against_the_formulas(seed, eta, mu, alpha_s, printed, delta, has_s, has_v):
    rng = np.random.default_rng(seed)
    p_star, g, s, v = rng.standard_normal((4, 6))
    p_star = clip(p_star, delta)
    s, v = s if has_s else None, v if has_s and has_v else None  # a momentum comes with a step
    found = step(p_star, g, s, v, delta, eta, mu, alpha_s, printed)
    if eta == 0.0 and mu == 0.0:
        p, momentum = p_star, None
    else:
        p, momentum = literal(p_star, g, s, v, delta, eta, mu, alpha_s, printed)
    slope = g @ p
    if abs(slope) < 1e-12:
        return  # the sign is rounding
    # sums of four terms of at most 10: 1e-14 is some 5 eps of them
    np.testing.assert_allclose(found.p, -p if slope > 0 else p, rtol=0, atol=1e-14 * (1 + delta))
    assert found.flipped == (slope > 0)
    assert found.slope == pytest.approx(-abs(slope), rel=1e-9, abs=1e-13)
    assert found.slope <= 0.0
    assert found.norm == pytest.approx(np.linalg.norm(p), rel=1e-12)
    assert found.norm <= delta * (1 + 1e-14)
    if momentum is None or found.v is None:
        assert found.v is None
        assert momentum is None or not momentum.any()
    else:
        np.testing.assert_allclose(found.v, momentum, rtol=0, atol=1e-14 * (1 + delta))


def test_without_momentum_and_weight_the_step_of_the_model_is_untouched():
    p_star, g = np.array([-1.0, 0.5]), np.array([1.0, 0.0])
    found = step(p_star, g, np.ones(2), np.ones(2), 0.1, 0.0, 0.0, 0.1, True)
    assert found.p is p_star  # not clipped either: the model keeps to its own radius
    assert found.is_model_step
    assert found.v is None


@pytest.mark.parametrize("printed", [False, True])
def test_eta_1(printed):
    """Reading 1: SGD with momentum where convex; the printed form keeps only mu v."""
    g, v = np.array([1.0, 2.0]), np.array([0.5, -0.5])
    found = step(np.ones(2), g, np.ones(2), v, 100.0, 1.0, 0.5, 0.1, printed)
    momentum = 0.5 * v - 0.1 * g
    np.testing.assert_allclose(found.v, momentum, rtol=1e-15)
    expected = 0.5 * momentum if printed else momentum
    np.testing.assert_allclose(found.p, expected * (-1 if g @ expected > 0 else 1), rtol=1e-14)
    assert not found.is_model_step


def test_the_first_step_of_sgd_is_never_zero():
    g = np.array([3.0, 4.0])
    found = step(-g, g, None, None, 100.0, 1.0, 0.0, 0.1, False)
    np.testing.assert_allclose(found.p, -0.1 * g, rtol=1e-15)


def test_a_direction_that_climbs_is_turned():
    found = step(np.array([1.0, 0.0]), np.array([2.0, 0.0]), None, None, 5.0, 0.0, 0.0, 0.1, False)
    np.testing.assert_array_equal(found.p, [-1.0, 0.0])
    assert found.flipped
    assert found.is_model_step is False
    assert found.slope == -2.0


def test_a_direction_along_the_level_set_is_not_turned():
    found = step(np.array([0.0, 1.0]), np.array([2.0, 0.0]), None, None, 5.0, 0.0, 0.0, 0.1, False)
    np.testing.assert_array_equal(found.p, [0.0, 1.0])
    assert not found.flipped
    assert found.is_model_step


@pytest.mark.parametrize("printed", [False, True])
@pytest.mark.parametrize(
    ("eta", "mu", "alpha_s", "has_s", "alone"),
    [
        (0.0, 0.5, 0.1, False, True), (0.0, 0.5, 0.1, True, False), (0.5, 0.0, 0.0, False, False),
        (0.5, 0.5, 0.1, True, False), (1.0, 0.0, 0.1, False, False),
    ],
)  # fmt: skip
def test_it_is_the_step_of_the_model_where_nothing_is_mixed_in(eta, mu, alpha_s, has_s, alone, printed):
    """No weight of SGD, and no momentum yet."""
    p_star, g = np.array([-1.0, 0.5]), np.array([1.0, 0.0])
    found = step(p_star, g, np.array([-0.1, 0.2]) if has_s else None, None, 9.0, eta, mu, alpha_s, printed)
    assert found.is_model_step == alone
    assert not alone or found.p is p_star  # no copy either


def test_where_nothing_is_left_to_mix_the_direction_is_zero():
    found = step(np.array([-1.0, 0.5]), np.array([1.0, 0.0]), None, None, 9.0, 1.0, 0.5, 0.0, False)
    np.testing.assert_array_equal(found.p, [0.0, 0.0])
    assert (found.slope, found.norm, found.v) == (0.0, 0.0, None)


def test_without_weight_and_momentum_nothing_is_carried():
    assert carry(np.ones(2), np.ones(2), 0.0, 0.0) is None
    np.testing.assert_array_equal(carry(None, np.ones(2), 0.25, 0.0), [0.75, 0.75])


def test_every_library(xp):
    arrays = [np.array(x) for x in ([-1.0, 0.25], [1.0, 0.5], [0.5, -0.5], [0.25, 1.0])]
    expected = step(*arrays, 0.75, 0.25, 0.5, 0.5, False)
    found = step(*(xp(x) for x in arrays), 0.75, 0.25, 0.5, 0.5, False)
    assert xp.is_kind(found.p)
    assert xp.is_kind(found.v)
    np.testing.assert_allclose(xp.to_numpy(found.p), expected.p, atol=4 * xp.eps)
    assert found.norm == pytest.approx(expected.norm, rel=8 * xp.eps)
