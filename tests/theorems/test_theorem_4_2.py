"""Theorem 4.2: where lambda_1 -> -inf, p* turns into the eigenspace of the eigenvalues that are unbounded below.

With W_neg the eigenvectors of eigenvalues under C, the multiplier is at least -lambda_1, so the part of p* outside
span(W_neg) is at most ||g|| / (C - lambda_1), and ||p*|| = delta. What fails as printed:

* "Unbounded eigenvalues" must mean unbounded below: p* has no share in one that goes to +inf.
* The momentum is no contraction: v becomes (1 + alpha) mu v + ..., which grows for mu > 1/2, so at mu = 0.9 a part of v
  outside span(W_neg) need not vanish.
* rank(S_k) < m holds in the limit alone; each S_k can have full rank. And span(S_k) -> span(W_neg) is "into": a
  direction of W_neg whose eigenvalue is small beside lambda_1 is lost.
* Equation (13) is a count that cannot hold: m steps do not span rank(W_neg) + m dimensions. They lie in that span.
* With line 6 as printed and mu = 0 the gradients do not enter S at all, whatever eta is.
"""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from walks import EPS, matrix, rotation, sine

import mblsr1
from mblsr1.linalg.pairs import PairMemory
from mblsr1.linalg.smoothed import smoothed
from mblsr1.rules import hybrid
from mblsr1.steps.model import sr1_model

seeds = st.integers(0, 2**32 - 1)

# ---------------------------------------------------------------- the direction of p*


class Case(NamedTuple):
    B: object
    V: np.ndarray
    lam: np.ndarray
    g: np.ndarray
    C: float


def planted(seed, digits, d=8, n_neg=2, n_pos=2):
    """`n_neg` eigenvalues of about -10^digits, the others at C = -1 and above, a random gradient of length 1."""
    rng = np.random.default_rng(seed)
    negative, rest = -(10.0**digits) * rng.uniform(1.0, 3.0, n_neg), rng.uniform(-1.0, 5.0, n_pos)
    V, gamma, g = rotation(rng, d), float(rng.uniform(-1.0, 5.0)), rng.standard_normal(d)
    lam = np.concatenate([negative, rest])
    return Case(matrix(lam, gamma, V), V, lam, g / np.linalg.norm(g), -1.0)


def bound(case, radius):
    """Of the sine of the angle between p* and span(W_neg)."""
    return float(np.linalg.norm(case.g)) / ((case.C - case.lam.min()) * radius)


@given(seeds, st.floats(1, 12), st.floats(-2, 2), st.integers(1, 3))
def test_the_direction_turns_into_the_eigenspace(seed, digits, power, n_neg):
    """Sine of the angle at most ||g|| / ((C - lambda_1) delta).

    The eigenvectors of -10^digits are apart from the others by a gap of that size, so they and p* are off by some eps:
    d = 8 terms in each product, k = 5 rows.
    """
    case, radius = planted(seed, digits, n_neg=n_neg), 10.0**power
    sol = mblsr1.solve_trust_region(case.B, case.g, radius)
    assert sol.on_boundary
    assert sol.sigma >= -case.lam.min() * (1.0 - 100.0 * EPS)
    assert sine(sol.p, case.V[:, :n_neg]) <= bound(case, radius) + 100.0 * EPS


def angles(seed, digits, radius=1.0):
    """(sine, bound) for eigenvalues down to -10^digits, for each of `digits`; drawn in the docs."""
    found = []
    for x in digits:
        case = planted(seed, x)
        sol = mblsr1.solve_trust_region(case.B, case.g, radius)
        found.append((sine(sol.p, case.V[:, :2]), bound(case, radius)))
    return np.array(found)


def test_the_rate_is_that_of_the_bound(seed):
    """1 / |lambda_1|, no faster: within a factor of 1000 of the bound (g has a part of 10^-3 at least outside W_neg;
    a random unit vector in 8 dimensions has less with probability under (10^-3)^6).
    """
    found = angles(seed, np.arange(1.0, 9.0))
    assert (found[:, 0] <= found[:, 1] + 100.0 * EPS).all()
    assert (found[:, 0] >= 1e-3 * found[:, 1] / 4.0).all()  # lambda_1 .. lambda_2 differ by a factor of 3 at most
    assert np.linalg.norm(found[-1]) < 1e-7


@given(seeds, st.floats(1, 12))
def test_an_eigenvalue_unbounded_above_gets_nothing(seed, digits):
    """Counterexample to "unbounded eigenvalues": lambda = -x and x; along the second p* is |g'w| / (x + sigma)."""
    rng, x = np.random.default_rng(seed), 10.0**digits
    V, g = rotation(rng, 6), rng.standard_normal(6)
    sol = mblsr1.solve_trust_region(matrix([-x, x], 1.0, V), g, 1.0)
    assert abs(float(sol.p @ V[:, 1])) <= abs(float(g @ V[:, 1])) / (2.0 * x) + 100.0 * EPS
    assert abs(float(sol.p @ V[:, 0])) >= 1.0 - float(g @ g) / x**2 - 100.0 * EPS


# ---------------------------------------------------------------- steps, momentum and span(S)

M, D = 4, 12


class Steps(NamedTuple):
    """Unit steps s_k, a row each, and the bound of p* for each lambda_1."""

    s: np.ndarray
    p_bound: np.ndarray


def rotating(k):
    """Gradients e_1 + e_j of length sqrt(2), j going round four directions."""
    return np.eye(D)[0] + np.eye(D)[2 + k % M]


def planted_run(n, *, mu, eta, gradient=rotating, lam=lambda k: [-(4.0**k)], printed=False, start=None):
    """Lines 3-7 and 16 of Algorithm 4 with B = I but for lam(k) on e_1, e_2, ...; alpha = 1, alpha_s = 1, radius 1."""
    carried, steps, bounds = start, [], []
    for k in range(n):
        B, g = matrix(lam(k), 1.0, np.eye(D)), gradient(k)
        p_star = mblsr1.solve_trust_region(B, g, 1.0).p
        found = hybrid.mix(p_star, g, carried, 1.0, eta=eta, mu=mu, alpha_s=1.0, printed=printed)
        carried = hybrid.carry(found.v, found.p, eta, mu)
        steps.append(found.p / found.norm)
        bounds.append(float(np.linalg.norm(g)) / (1.0 - lam(k)[0]))
    return Steps(np.array(steps), np.array(bounds))


def outside(steps, r=1):
    """Sine of the angle of each step with span(e_1, ..., e_r)."""
    return np.array([sine(s, np.eye(D)[:, :r]) for s in steps.s])


@pytest.mark.parametrize("mu", [0.0, 0.2, 0.4])
def test_without_the_sgd_direction_the_steps_turn_into_the_eigenspace(mu):
    """eta = 0. The part of v outside W_neg obeys V <- 2 mu V + b, b that of p*; ||p* + mu v|| >= 1 - mu.

    For mu < 1/2 it vanishes with b.
    """
    run, V = planted_run(26, mu=mu, eta=0.0), 0.0
    for s, b in zip(outside(run), run.p_bound, strict=True):
        assert s <= (b + mu * V) / (1.0 - mu) + 100.0 * EPS
        V = 2.0 * mu * V + b
    assert outside(run)[0] > 0.1
    assert outside(run)[-1] <= (run.p_bound[-1] + mu * V) / (1.0 - mu) < 0.01
    assert np.linalg.matrix_rank(run.s[-M:], tol=0.01 * np.sqrt(M)) == 1


def alternating(k):
    """g = +e_1, -e_1, +e_1, ...: p* is exactly in W_neg."""
    return (-1.0) ** k * np.eye(D)[0]


@pytest.mark.parametrize(("mu", "holds"), [(0.4, True), (0.9, False)])
def test_the_momentum_is_a_contraction_for_small_mu_alone(mu, holds):
    """Counterexample at mu = 0.9, the usual value: v <- 1.8 v + p*.

    p* changes sign from step to step and stays small in v, while a part outside W_neg that was there at the start grows
    to the radius: half of each step is outside for ever.
    """
    start = 0.01 * np.eye(D)[5]
    run = planted_run(60, mu=mu, eta=0.0, gradient=alternating, start=start)
    last = outside(run)[-20:]
    assert last.max() < 1e-5 if holds else last.min() > 0.5


def test_the_rank_of_each_s_is_full_and_collapses_in_the_limit_alone():
    """Counterexample to "rank(S_k) < m when k is large": lambda_1 = -4^10 = -10^6, steps within 1e-5 of e_1, rank m.

    The smallest singular value is some 4^-10 / 4, far above rounding.
    """
    S = planted_run(11, mu=0.0, eta=0.0).s[-M:]
    values = np.linalg.svd(S, compute_uv=False)
    assert np.linalg.norm(S[-1] - (S[-1] @ np.eye(D)[0]) * np.eye(D)[0]) < 1e-5
    assert values[-1] > 1e-8
    assert np.linalg.matrix_rank(S) == M
    assert np.linalg.matrix_rank(S, tol=1e-3) == 1


def test_the_span_of_s_may_lose_a_direction_of_w_neg():
    """Counterexample to span(S_k) -> span(W_neg): lambda = -16^k and -4^k, and p* turns to the first alone."""
    run = planted_run(14, mu=0.0, eta=0.0, gradient=lambda k: np.ones(D), lam=lambda k: [-(16.0**k), -(4.0**k)])
    assert outside(run, 2)[-1] < 1e-6
    assert np.abs(run.s[-M:, 1]).max() < 1e-6


def test_steps_with_the_sgd_direction_keep_the_span_of_the_gradients():
    """eta > 0 with line 6 of reading 1: the part of each step outside W_neg stays, and S has rank m for ever.

    p = (1 - eta)(p* + mu v) + eta v, v = ... - eta alpha_s g: outside W_neg there are eta^2 of the new gradient's
    unit part beside a step of length 1 at most, and older gradients in other directions (the four e_j go round).
    """
    eta = 0.5
    run = planted_run(40, mu=0.0, eta=eta)
    assert outside(run)[-20:].min() >= 0.5 * eta**2
    S, W_G = run.s[-M:], np.eye(D)[:, [0, *range(2, 2 + M)]]
    assert np.linalg.matrix_rank(S, tol=0.01) == M
    assert max(sine(s, W_G) for s in S) <= 1e-12  # "in", where (13) says "="
    assert np.linalg.matrix_rank(W_G) == M + 1  # which no m steps can span
    assert np.linalg.matrix_rank(planted_run(40, mu=0.0, eta=0.0).s[-M:], tol=0.01) == 1


def test_line_6_as_printed_loses_the_gradients_without_momentum():
    """Counterexample: p = (1 - eta) p* + mu v with mu = 0 is p*, so S collapses although eta > 0 (reading 1)."""
    run = planted_run(26, mu=0.0, eta=0.5, printed=True)
    assert outside(run)[-1] < 1e-12
    with pytest.raises(ValueError, match="sgd_weight"):
        mblsr1.Options.paper(momentum=0.0, sgd_weight=0.5)


@given(seeds, st.floats(2, 10))
def test_the_gradient_is_not_parallel_to_the_step(seed, digits):
    """|cos(g, p*)| <= cos(g, W_neg) + sin(p*, W_neg): below 1 where g is not in W_neg and lambda_1 is large."""
    case = planted(seed, digits)
    p = mblsr1.solve_trust_region(case.B, case.g, 1.0).p
    share = float(np.linalg.norm(case.V[:, :2].T @ case.g))
    assert abs(float(case.g @ p)) <= share + bound(case, 1.0) + 100.0 * EPS


def false_curvature_run(n, memory=M):
    """The loop closed: B_k is SR1 of the last steps themselves, whose y say "curvature -4^k along e_1, else 1"."""
    pairs, build = PairMemory(np.zeros(D), memory), sr1_model(mblsr1.scaling.constant(1.0), 1e-8)
    smallest, steps = [], []
    for k in range(n):
        problem = build(pairs, rotating(k))
        sol = problem.solve(1.0)
        smallest.append(problem.lam_min)
        steps.append(sol.p / sol.norm)
        curvature = np.ones(D)
        curvature[0] = -(4.0**k)
        pairs.push(sol.p, curvature * sol.p)
    return np.array(steps), np.array(smallest), problem


def test_false_curvature_along_one_direction_collapses_the_memory():
    """The restart disabled (m_hat = -1): the steps align, their psi become dependent, and one pair is left."""
    steps, smallest, problem = false_curvature_run(20)
    assert smallest[-1] < -1e9
    assert (np.diff(smallest[2:]) < 0.0).all()
    assert sine(steps[-1], np.eye(D)[:, :1]) <= np.sqrt(2.0) / (1.0 - smallest[-1]) + 100.0 * EPS
    assert problem.B.kept == [M - 1]


# ---------------------------------------------------------------- Options()


@given(seeds, st.integers(1, 8), st.floats(0, 8))
def test_the_smoothed_matrix_of_the_default_has_no_negative_eigenvalue(seed, k, digits):
    """The premise cannot occur on samples: whatever the pairs say, B is positive semidefinite."""
    rng, pairs = np.random.default_rng(seed), PairMemory(np.zeros(D), k)
    for _ in range(k):
        s = rng.standard_normal(D)
        pairs.push(s, rng.standard_normal(D) - 10.0**digits * s)
    pairs.project([])
    spectrum = smoothed(pairs).spectrum
    assert mblsr1.Options().sample_matrix == "smoothed"
    assert mblsr1.Options().absolute
    assert spectrum.lam.min() >= 0.0
    assert spectrum.gamma > 0.0
