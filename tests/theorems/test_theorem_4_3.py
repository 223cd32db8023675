"""Theorem 4.3: as delta -> 0 the step turns to -g.

From (B + sigma I)p = -g with any m: (sigma + m)p + g = (m I - B)p, and with m the middle of the spectrum the right
side is at most h delta, h = (lambda_max - lambda_min) / 2. So the sine of the angle between p and -g is at most
h delta / ||g||, and the length is delta: the step is that of SGD, normalised. What fails as printed: delta -> 0 is not
enough. The theorem needs h delta / ||g|| -> 0, so it fails where g vanishes as fast as delta, or B grows like 1/delta.
"""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from walks import EPS, cosine, matrix, rotation

import mblsr1
from mblsr1.linalg.pairs import PairMemory
from mblsr1.rules import hybrid
from mblsr1.steps.model import better_model, lbfgs_model, smoothed_model, sr1_model

seeds = st.integers(0, 2**32 - 1)
D = 12
#: The model of Options() on samples ("smoothed") and on the whole set ("better"), the paper's, and L-BFGS.
BUILDERS = {
    "sr1": sr1_model(mblsr1.scaling.constant(1.0), 1e-8),
    "smoothed": smoothed_model(),
    "better": better_model(mblsr1.scaling.ceiling(), 1e-8),
    "l-bfgs": lbfgs_model(),
}


def noisy_model(name, seed, k=6):
    """The model after k pairs that have nothing to do with each other, and a gradient."""
    rng, memory = np.random.default_rng(seed), PairMemory(np.zeros(D), k)
    build = BUILDERS[name]
    for _ in range(k):
        s = rng.standard_normal(D)
        memory.push(s, s + rng.standard_normal(D))
        build(memory, s)  # as a run does: each pair is judged by the older ones
    g = rng.standard_normal(D)
    return build(memory, g), g


def half_range(problem):
    values = np.append(problem.B.spectrum.lam, problem.B.spectrum.gamma)
    return 0.5 * float(values.max() - values.min())


def off_gradient(p, g):
    """Sine of the angle between p and g, from the difference of the unit vectors: nothing cancels."""
    p, g = p / np.linalg.norm(p), -g / np.linalg.norm(g)
    chord = float(np.linalg.norm(p - g))
    return chord * np.sqrt(max(1.0 - 0.25 * chord**2, 0.0))


@pytest.mark.parametrize("name", BUILDERS)
@given(seed=seeds, power=st.floats(-10, 0))
def test_the_angle_with_the_gradient_is_bounded_by_a_multiple_of_the_radius(name, seed, power):
    """For every matrix that the package builds, those of Options() among them; bound and spectrum from the same B.

    P is orthonormal up to eps cond^2, the dependent psi left out at cond 1e5: 1e-6 of the bound; and p is rounded to
    some eps, d = 12 terms.
    """
    problem, g = noisy_model(name, seed)
    delta, norm = 10.0**power, float(np.linalg.norm(g))
    bound = half_range(problem) * delta / norm
    assume(bound < 0.9)
    sol = problem.solve(delta)
    assert cosine(sol.p, g) < 0.0
    assert off_gradient(sol.p, g) <= bound * (1.0 + 1e-5) + 100.0 * EPS
    if sol.on_boundary:
        assert sol.norm == pytest.approx(delta, rel=1e-11)


def angles(name, seed, radii):
    """(sine, bound) for each radius; drawn in the docs."""
    problem, g = noisy_model(name, seed)
    h, norm = half_range(problem), float(np.linalg.norm(g))
    return np.array([(off_gradient(problem.solve(r).p, g), min(h * r / norm, 1.0)) for r in radii])


@pytest.mark.parametrize("name", BUILDERS)
def test_the_rate_is_that_of_the_radius(name):
    """Linear in delta, no faster: the sine over delta is the same for 1e-3 and 1e-6, to the next order in delta."""
    found = angles(name, 3, np.array([1e-1, 1e-3, 1e-6]))
    assert 0.0 < found[1, 0] <= found[1, 1] < 0.5
    assert found[2, 0] == pytest.approx(1e-3 * found[1, 0], rel=10.0 * found[1, 1])


@given(seeds, st.floats(-8, -1), st.sampled_from([0.0, 0.1, 0.7]), st.sampled_from([0.0, 0.5, 0.9]))
def test_algorithm_4_is_then_sgd_with_momentum_in_the_radius(seed, power, eta, mu):
    """Lines 4-10 with p* and with -delta g / ||g|| differ by no more than p* does: (1 - eta) <= 1, and clipping moves
    no two points apart. (Not where one of the two is turned by line 8 and the other is not.)
    """
    rng, delta = np.random.default_rng(seed), 10.0**power
    V, g, carried = rotation(rng, D), rng.standard_normal(D), delta * rng.standard_normal(D)
    p_star = mblsr1.solve_trust_region(matrix([-3.0, 7.0], 1.0, V), g, delta).p
    sgd = -delta * g / np.linalg.norm(g)
    one, other = (hybrid.mix(p, g, carried, delta, eta=eta, mu=mu, alpha_s=0.1, printed=False) for p in (p_star, sgd))
    assume(one.flipped == other.flipped)
    apart = float(np.linalg.norm(p_star - sgd))
    assert apart <= 1.5 * 5.0 * delta * delta / float(np.linalg.norm(g)) + 100.0 * EPS * delta
    assert np.linalg.norm(one.p - other.p) <= apart + 100.0 * EPS * delta


@pytest.mark.parametrize("digits", [2, 5, 8])
def test_it_fails_where_the_gradient_vanishes_as_fast_as_the_radius(digits):
    """Counterexample: g_k = delta_k g_0 leaves p* / delta_k, and its angle with -g, as they are."""
    B, g = matrix([1.0, 100.0], 10.0, np.eye(3)), np.array([0.5, 50.0, 5.0])
    delta = 10.0**-digits
    sol = mblsr1.solve_trust_region(B, delta * g, delta)
    expected = mblsr1.solve_trust_region(B, g, 1.0)
    assert not expected.on_boundary  # the Newton step, whatever the radius does
    np.testing.assert_allclose(sol.p / delta, expected.p, rtol=1e-12)
    assert off_gradient(sol.p, g) > 0.5


@pytest.mark.parametrize("digits", [1, 3, 5])
def test_it_fails_where_the_curvature_grows_faster_than_the_radius_falls(digits):
    """Counterexample: lambda_1 = -1 / delta^2 has the premises of Theorem 4.2, and its conclusion: p* along w_1."""
    delta, g = 10.0**-digits, np.array([0.1, 1.0, 1.0])
    sol = mblsr1.solve_trust_region(matrix([-1.0 / delta**2], 1.0, np.eye(3)), g, delta)
    assert off_gradient(sol.p, g) > 0.9
    assert abs(sol.p[0]) >= (1.0 - 10.0 * delta) * delta
