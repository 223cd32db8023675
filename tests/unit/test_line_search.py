"""Algorithm 4, line 15: the first power of 1/2 that satisfies Armijo's condition."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mblsr1.rules.line_search import halving

EPS = 2.0**-52


@given(st.floats(-10, 10), st.floats(-10, -0.01), st.floats(-100, 1000), st.floats(1e-4, 0.5))
def test_first_acceptable_halving_of_a_parabola(f0, slope, curvature, c1):
    """phi(a) = f0 + slope a + curvature a^2 / 2; every alpha tried before the accepted one fails."""

    def phi(a):
        return f0 + slope * a + 0.5 * curvature * a * a

    tried = []
    found = halving(lambda a: tried.append(a) or phi(a), f0, slope, c1, EPS)
    assert tried == [0.5**i for i in range(len(tried))]
    expected = next(a for a in (0.5**i for i in range(21)) if phi(a) <= f0 + c1 * a * slope + 10 * EPS * abs(f0))
    assert found.alpha == tried[-1] == expected
    assert found.f == phi(expected)


@pytest.mark.parametrize("value", [math.inf, math.nan, 2.0])
def test_fails_after_twenty_halvings(value):
    tried = []
    found = halving(lambda a: tried.append(a) or value, 1.0, -1.0, 1e-4, EPS)
    assert found == (0.0, 1.0)
    assert tried == [0.5**i for i in range(21)]


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_trial_that_is_not_finite_is_rejected(bad):
    found = halving(lambda a: bad if a > 0.2 else 0.5, 1.0, -1.0, 1e-4, EPS)
    assert found == (0.125, 0.5)


@pytest.mark.parametrize(("rise", "accepted"), [(9.0, True), (12.0, False)])
@pytest.mark.parametrize("f0", [1024.0, -1024.0])
def test_rounding_of_the_loss_is_no_increase(f0, rise, accepted):
    """10 eps |f| of slack (reading 6), no more."""
    found = halving(lambda a: f0 + rise * EPS * abs(f0), f0, -1e-30, 1e-4, EPS)
    assert (found.alpha == 1.0) is accepted


def test_the_slope_counts():
    """The printed condition lacks p in the slope; reading 6 has it. At c1 = 0.5 half the promised decrease is asked."""
    assert halving(lambda a: 1.0 - 0.4 * a, 1.0, -1.0, 0.5, EPS).alpha == 0.0
    assert halving(lambda a: 1.0 - 0.6 * a, 1.0, -1.0, 0.5, EPS).alpha == 1.0
    assert halving(lambda a: -0.5 * a, 0.0, -1.0, 0.5, EPS).alpha == 1.0  # exactly what is asked
