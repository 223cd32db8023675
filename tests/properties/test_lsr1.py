"""The compact SR1 matrix against dense SR1 made by rank-one updates, and its properties."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import mblsr1
from mblsr1.linalg.lsr1 import _two_products

EPS = float(np.finfo(np.float64).eps)
seeds = st.integers(0, 2**32 - 1)
gammas = st.sampled_from([0.0, 1.0, -1.0]) | st.floats(-20, 20)
PIVOT = 1e-10  # docs/deviations.md, 17: a psi whose pivot, newest first, is under this depends on newer ones


def dense_sr1(S, Y, gamma, skip=1e-8):
    """SR1 by sequential rank-one updates, equation 6.24 of Nocedal and Wright with the test 6.26.

    Returns B, the indices of the pairs used and an error bound: each update r r'/(r's) has r off by the error of B
    times ||s|| plus rounding, and that is divided by cos = |r's| / (||r|| ||s||).
    """
    d = S.shape[1]
    B, used, error = gamma * np.eye(d), [], EPS * abs(gamma)
    for i, (s, y) in enumerate(zip(S, Y, strict=True)):
        r, s_norm = y - B @ s, float(np.linalg.norm(s))
        if s_norm == 0.0 or not (np.isfinite(s).all() and np.isfinite(y).all()):
            continue
        r_norm, denominator = float(np.linalg.norm(r)), float(r @ s)
        off = d * EPS * (float(np.linalg.norm(y)) / s_norm + float(np.linalg.norm(B, 2))) + error
        if (
            r_norm <= 1e-7 * (float(np.linalg.norm(y)) + abs(gamma) * s_norm)
            or abs(denominator) < skip * r_norm * s_norm
        ):
            continue
        cos = abs(denominator) / (r_norm * s_norm)
        B = B + np.outer(r, r) / denominator
        error = error + 4.0 * off / cos**2
        used.append(i)
    return B, used, error


def compact_error(S, Y, gamma):
    """Bound for the compact form: N is rounded to eps of its terms, and B - gamma I = Psi' N^-1 Psi.

    With unit s, dB <= 2 ||Psi' N^-1|| dPsi + ||Psi' N^-1||^2 dN, and Gram entries are off by d eps at most.
    """
    scale = np.linalg.norm(S, axis=1, keepdims=True)
    S, Y = S / scale, Y / scale
    psi, SY = Y - gamma * S, S @ Y.T
    N = np.tril(SY) + np.tril(SY, -1).T - gamma * S @ S.T
    size = float(np.linalg.norm(Y, 2) + abs(gamma) * np.linalg.norm(S, 2))
    left = float(np.linalg.norm(np.linalg.solve(N, psi), 2)) if len(S) else 0.0
    return S.shape[1] * EPS * size * (1.0 + left) ** 2 * max(1, len(S)), psi


def independent_well(psi):
    """Whether no psi is near the threshold for dependence: its distance to the newer ones is over 1e-4."""
    if len(psi) == 0:
        return True
    psi = psi / np.linalg.norm(psi, axis=1, keepdims=True)
    return bool(np.linalg.svd(psi, compute_uv=False)[-1] > 1e-4)


@st.composite
def pairs(draw, max_d=10, symmetric=None):
    rng = np.random.default_rng(draw(seeds))
    d = draw(st.integers(1, max_d))
    k = draw(st.integers(0, d))
    S = rng.standard_normal((k, d)) * 10.0 ** rng.uniform(-3, 3, (k, 1))
    H = rng.standard_normal((d, d))
    symmetric = draw(st.booleans()) if symmetric is None else symmetric
    Y = S @ (H + H.T) if symmetric else rng.standard_normal((k, d)) * np.linalg.norm(S, axis=1, keepdims=True)
    return S, Y, draw(gammas)


def usable(S, Y, gamma):
    """Error bound where every pair is used and the bound says something, else the example is not one."""
    B, used, error = dense_sr1(S, Y, gamma)
    assume(len(used) == len(S))
    bound, psi = compact_error(S, Y, gamma)
    assume(independent_well(psi) and error + bound < 1e-3)
    return B, error + bound


@given(pairs())
def test_compact_form_is_sequential_sr1(case):
    S, Y, gamma = case
    dense, bound = usable(S, Y, gamma)
    B = mblsr1.LSR1(S, Y, gamma)
    assert B.n_skipped == 0
    assert np.abs(B.to_dense() - dense).max() <= bound


@given(pairs(), st.data())
def test_skipped_pairs_are_those_of_sequential_sr1(case, data):
    """A pair made useless, s'(y - Bs) = 0 with the B of the older ones, is passed over by both."""
    S, Y, gamma = case
    k, _d = S.shape
    assume(k > 1)
    i = data.draw(st.integers(1, k - 1))
    _, bound = usable(S[:i], Y[:i], gamma)
    before = dense_sr1(S[:i], Y[:i], gamma)[0]
    r = Y[i] - before @ S[i]
    Y = Y.copy()
    Y[i] -= S[i] * (r @ S[i]) / (S[i] @ S[i])
    dense, used, error = dense_sr1(S, Y, gamma, skip=1e-6)
    assume(i not in used and len(used) == k - 1)
    error_compact, psi = compact_error(S[used], Y[used], gamma)
    assume(independent_well(Y - gamma * S) and independent_well(psi) and bound + error + error_compact < 1e-3)
    B = mblsr1.LSR1(S, Y, gamma, skip_tolerance=1e-6)
    assert B.kept == used
    assert B.n_skipped == 1
    assert np.abs(B.to_dense() - dense).max() <= error + error_compact


@given(pairs())
def test_newest_secant_equation(case):
    """B s = y for the newest pair, whatever Y is."""
    S, Y, gamma = case
    assume(len(S) > 0)
    _, bound = usable(S, Y, gamma)
    B = mblsr1.LSR1(S, Y, gamma)
    assert np.linalg.norm(B @ S[-1] - Y[-1]) <= bound * np.linalg.norm(S[-1])


@given(pairs(symmetric=True))
def test_all_secant_equations_of_a_quadratic(case):
    S, Y, gamma = case
    _, bound = usable(S, Y, gamma)
    B = mblsr1.LSR1(S, Y, gamma)
    for s, y in zip(S, Y, strict=True):
        assert np.linalg.norm(B @ s - y) <= bound * np.linalg.norm(s)


@given(pairs(symmetric=True), seeds)
def test_order_of_pairs_of_a_quadratic_does_not_matter(case, seed):
    S, Y, gamma = case
    _, bound = usable(S, Y, gamma)
    order = np.random.default_rng(seed).permutation(len(S))
    _, other = usable(S[order], Y[order], gamma)
    difference = mblsr1.LSR1(S, Y, gamma).to_dense() - mblsr1.LSR1(S[order], Y[order], gamma).to_dense()
    assert np.abs(difference).max() <= bound + other


def test_order_of_pairs_matters_where_they_contradict():
    S = np.array([[1.0, 0.0], [1.0, 1.0]])
    Y = np.array([[2.0, 1.0], [0.0, 5.0]])
    one, other = mblsr1.LSR1(S, Y, 0.5).to_dense(), mblsr1.LSR1(S[::-1], Y[::-1], 0.5).to_dense()
    assert np.abs(one @ S[1] - Y[1]).max() < 1e-13
    assert np.abs(other @ S[0] - Y[0]).max() < 1e-13
    assert np.abs(one - other).max() > 0.1


@given(pairs(), seeds)
def test_scaling_a_pair_changes_nothing(case, seed):
    S, Y, gamma = case
    _, bound = usable(S, Y, gamma)
    c = (
        np.random.default_rng(seed).uniform(0.1, 10, (len(S), 1))
        * np.where(seed % 2, -1.0, 1.0)
        * 10.0 ** (seed % 7 - 3)
    )
    scaled, plain = mblsr1.LSR1(c * S, c * Y, gamma), mblsr1.LSR1(S, Y, gamma)
    assert np.abs(scaled.to_dense() - plain.to_dense()).max() <= 2 * bound
    assert scaled.kept == plain.kept


@given(pairs(), st.integers(1, 12))
def test_update_is_rebuilding(case, memory):
    """Pair by pair, the oldest going where the memory is full."""
    S, Y, gamma = case
    B = mblsr1.LSR1(S[:0], Y[:0], gamma, memory=memory)
    stored = [i for i in range(len(S)) if B.update(S[i], Y[i])]
    assume(len(stored) == len(S))
    again = mblsr1.LSR1(S[-memory:], Y[-memory:], gamma)
    assert len(B.pairs) == min(memory, len(S))
    assume(len(again.kept) == len(again.pairs))
    bound, _ = compact_error(S[-memory:], Y[-memory:], gamma)
    assert np.abs(B.to_dense() - again.to_dense()).max() <= 2 * bound
    assert B.n_skipped == again.n_skipped
    assert np.abs(B.eigenvalues() - again.eigenvalues()).max() <= 100 * bound


@given(pairs())
def test_eigenvalues_and_products_are_those_of_the_dense_matrix(case):
    S, Y, gamma = case
    B = mblsr1.LSR1(S, Y, gamma)
    _, bound = usable(S, Y, gamma)
    _, psi = compact_error(S, Y, gamma)
    dense, d = B.to_dense(), S.shape[1]
    size = float(np.linalg.norm(dense, 2)) + abs(gamma)
    unit = psi / np.linalg.norm(psi, axis=1, keepdims=True)
    # The Gram of psi is rounded to eps of (||y|| + gamma ||s||)^2, so its factor is off by the square of this number.
    lost = (
        max(
            (np.linalg.norm(Y[i]) + abs(gamma) * np.linalg.norm(S[i])) / np.linalg.norm(Y[i] - gamma * S[i])
            for i in range(len(S))
        )
        if len(S)
        else 1.0
    )
    spectral = 10 * d * EPS * size * (lost * np.linalg.cond(unit)) ** 2 if len(S) else EPS * size
    values = B.eigenvalues()
    assert values.shape == (d,)
    assert (np.diff(values) >= 0.0).all()
    assert np.abs(values - np.linalg.eigvalsh(dense)).max() <= bound + spectral
    for v in np.eye(d):
        assert np.linalg.norm(B @ v - dense @ v) <= bound
    assert B.shape == (d, d)


@pytest.mark.parametrize("gamma", [-2.0, 0.0, 3.0])
def test_no_pairs(gamma):
    B = mblsr1.LSR1(np.zeros((0, 4)), np.zeros((0, 4)), gamma)
    np.testing.assert_array_equal(B.to_dense(), gamma * np.eye(4))
    np.testing.assert_array_equal(B.eigenvalues(), np.full(4, gamma))
    np.testing.assert_array_equal(B @ np.arange(4.0), gamma * np.arange(4.0))
    assert B.n_skipped == 0


@given(seeds, gammas, st.integers(1, 6))
def test_as_many_pairs_as_dimensions_give_the_hessian(seed, gamma, d):
    rng = np.random.default_rng(seed)
    H = rng.standard_normal((d, d))
    H, S = H + H.T, rng.standard_normal((d, d))
    _, bound = usable(S, S @ H, gamma)
    B = mblsr1.LSR1(S, S @ H, gamma)
    assert np.abs(B.to_dense() - H).max() <= bound
    assert B.spectrum.rank == d


@given(seeds, st.integers(1, 4))
def test_more_pairs_than_dimensions(seed, d):
    """Only d psi are independent, and the newest ones stay; of a quadratic they give the Hessian."""
    rng = np.random.default_rng(seed)
    H = rng.standard_normal((d, d))
    H, S = H + H.T, rng.standard_normal((d + 5, d))
    B = mblsr1.LSR1(S, S @ H, 20.0)
    assert len(B.kept) <= d
    assert B.n_skipped == d + 5 - len(B.kept)
    bound, psi = compact_error(S[-d:], S[-d:] @ H, 20.0)
    assume(independent_well(psi) and bound < 1e-6 and len(B.kept) == d)
    if B.kept == list(range(5, d + 5)):
        assert np.abs(B.to_dense() - H).max() <= bound


@pytest.mark.parametrize("factor", [1.0, 2.0, -1e5, 1e-5])
def test_duplicate_and_parallel_pairs_count_once(factor):
    rng = np.random.default_rng(4)
    H = rng.standard_normal((6, 6))
    H, S = H + H.T, rng.standard_normal((2, 6))
    S = np.concatenate([S, factor * S[:1]])
    B = mblsr1.LSR1(S, S @ H, 0.5)
    assert B.kept == [1, 2]
    assert B.n_skipped == 1
    expected = mblsr1.LSR1(S[:2], S[:2] @ H, 0.5).to_dense()
    np.testing.assert_allclose(B.to_dense(), expected, atol=1e-11)


def test_the_newest_of_contradicting_parallel_pairs_is_believed():
    s = np.array([[1.0, 0.0], [1.0, 0.0]])
    y = np.array([[2.0, 1.0], [5.0, 2.5]])
    B = mblsr1.LSR1(s, y, 0.0)
    assert B.kept == [1]
    np.testing.assert_allclose(B @ s[1], y[1], rtol=1e-15)


@pytest.mark.parametrize("gamma", [-1.5, 0.0, 2.0])
def test_a_pair_that_says_nothing_new(gamma):
    """y = gamma s: psi is zero, and the pair is not part of the matrix."""
    s = np.array([[1.0, 2.0, -1.0]])
    B = mblsr1.LSR1(s, gamma * s, gamma)
    assert B.kept == []
    assert B.n_skipped == 1
    np.testing.assert_array_equal(B.to_dense(), gamma * np.eye(3))
    assert not B.update(s[0], gamma * s[0])
    assert B.n_skipped == 2


@pytest.mark.parametrize("gamma", [-1.7, 0.3])
def test_a_pair_that_says_nothing_new_up_to_rounding(gamma):
    """y = gamma s, rounded: psi comes from inner products and is zero to some eps (||y|| + gamma ||s||)^2."""
    for seed in range(30):
        s = np.random.default_rng(seed).standard_normal((1, 20))
        assert mblsr1.LSR1(s, gamma * s, gamma).kept == []


@pytest.mark.parametrize("gamma", [-1.0, 1.0])
@pytest.mark.parametrize("curvature", [-2.0, 0.0, 3.0])
def test_s_parallel_to_y(gamma, curvature):
    """y = c s, c = 0 included: the eigenvalue along s is c and gamma elsewhere."""
    s = np.array([[3.0, 0.0, 4.0]])
    B = mblsr1.LSR1(s, curvature * s, gamma)
    np.testing.assert_allclose(B.eigenvalues(), sorted([curvature, gamma, gamma]), atol=1e-15 * 40)
    np.testing.assert_allclose(B @ s[0], curvature * s[0], atol=1e-14)


def test_y_zero_with_gamma_zero_says_nothing():
    B = mblsr1.LSR1(np.ones((1, 3)), np.zeros((1, 3)), 0.0)
    assert B.n_skipped == 1
    np.testing.assert_array_equal(B.eigenvalues(), np.zeros(3))


@pytest.mark.parametrize(
    ("s", "y"),
    [
        ([0.0, 0.0], [1.0, 1.0]),
        ([math.nan, 1.0], [1.0, 1.0]),
        ([1.0, 1.0], [math.inf, 1.0]),
        ([1.0, 1.0], [math.inf, -math.inf]),
        ([1e200, 1.0], [1.0, 1.0]),
    ],
)
def test_a_pair_that_cannot_be_used_is_refused(s, y):
    good = np.array([[1.0, 0.0]]), np.array([[3.0, 1.0]])
    B = mblsr1.LSR1(*good, 1.0)
    before = B.to_dense()
    with np.errstate(all="ignore"):
        assert not B.update(np.array(s), np.array(y))
        both = mblsr1.LSR1(np.array([*good[0].tolist(), s]), np.array([*good[1].tolist(), y]), 1.0)
    np.testing.assert_array_equal(B.to_dense(), before)
    assert B.n_skipped == both.n_skipped == 1
    np.testing.assert_array_equal(both.to_dense(), before)


def test_a_pair_with_a_small_denominator_is_refused_by_update():
    B = mblsr1.LSR1(np.zeros((0, 2)), np.zeros((0, 2)), 1.0)
    s, y = np.array([1.0, 0.0]), np.array([1.0, 1.0])  # s'(y - s) = 0
    assert not B.update(s, y)
    assert B.n_skipped == 1
    assert B.update(s, y + np.array([1e-7, 0.0]))
    assert not B.update(s, y + np.array([1e-9, 0.0]))


def test_memory_full_drops_the_oldest():
    H = np.diag([1.0, 2.0, 3.0, 4.0])
    B = mblsr1.LSR1(np.eye(4)[:0], np.eye(4)[:0], 10.0, memory=2)
    for i in range(4):
        assert B.update(np.eye(4)[i], H[i])
    np.testing.assert_allclose(B.to_dense(), np.diag([10.0, 10.0, 3.0, 4.0]), atol=1e-14)
    assert B.n_skipped == 0
    B = mblsr1.LSR1(np.eye(4), H, 10.0, memory=3)
    np.testing.assert_allclose(B.to_dense(), np.diag([10.0, 2.0, 3.0, 4.0]), atol=1e-14)


def test_memory_zero():
    B = mblsr1.LSR1(np.eye(3)[:0], np.eye(3)[:0], 2.0, memory=0)
    B.update(np.ones(3), 5 * np.ones(3))
    np.testing.assert_array_equal(B.to_dense(), 2 * np.eye(3))


@given(seeds, st.integers(1, 5))
def test_the_condition_number_of_psi_limits_what_is_kept(seed, digits):
    """Whatever is kept has cond(normalised Psi) of about 1e5 at most: each pivot over 1e-10 (k = 6 rows)."""
    rng = np.random.default_rng(seed)
    S = rng.standard_normal(30) + 10.0 ** (-2.0 * digits) * rng.standard_normal((6, 30))
    H = rng.standard_normal((30, 30))
    B = mblsr1.LSR1(S, S @ (H + H.T), -60.0)
    psi = (S @ (H + H.T) + 60.0 * S)[B.kept]
    psi /= np.linalg.norm(psi, axis=1, keepdims=True)
    distance = np.abs(np.diagonal(np.linalg.qr(psi[::-1].T)[1]))
    assert distance.min() ** 2 > 0.5 * PIVOT  # the Gram is rounded to some eps = 1e-16, a share of 1e-5 of the pivot
    assert B.kept[-1] == 5


@given(seeds)
def test_indefinite_middle_matrix_is_no_reason_to_drop_a_pair(seed):
    """docs/deviations.md, 17: with eigenvalues on both sides of gamma N is indefinite, and all pairs stay."""
    rng = np.random.default_rng(seed)
    V = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    S = V[:4]
    H = V.T @ np.diag([-3.0, 5.0, -4.0, 6.0, 1.0, 1.0, 1.0, 1.0]) @ V
    B = mblsr1.LSR1(S, S @ H, 1.0)
    assert B.n_skipped == 0
    np.testing.assert_allclose(B.eigenvalues(), [-4, -3, 1, 1, 1, 1, 5, 6], atol=1e-12)


def test_every_library(xp):
    rng = np.random.default_rng(2)
    H = rng.standard_normal((9, 9))
    H, S, v = H + H.T, rng.standard_normal((4, 9)), rng.standard_normal(9)
    S, v = S.astype(np.float32).astype(float), v.astype(np.float32).astype(float)
    Y = (S @ H).astype(np.float32).astype(float)
    expected = mblsr1.LSR1(S, Y, 2.0)
    B = mblsr1.LSR1(xp(S), xp(Y), 2.0)
    tolerance = 100 * xp.eps * np.linalg.norm(expected.to_dense(), 2)
    assert np.abs(B.to_dense() - expected.to_dense()).max() <= tolerance
    assert np.abs(B.eigenvalues() - expected.eigenvalues()).max() <= tolerance
    product = B @ xp(v)
    assert xp.is_kind(product)
    assert np.abs(xp.to_numpy(product) - expected @ v).max() <= tolerance
    assert B.update(xp(v), xp(H @ v))
    assert B.update(xp(v), xp(H @ v + 1.0)) in (True, False)
    assert B.kept == list(range(len(B.pairs)))[-len(B.kept) :]


@pytest.mark.parametrize("gamma_type", [float, np.float64, int])
def test_gamma_of_any_number_type_keeps_float32(gamma_type):
    S = np.eye(2, 5, dtype=np.float32)
    B = mblsr1.LSR1(S, 3 * S, gamma_type(2))
    assert (B @ np.ones(5, dtype=np.float32)).dtype == np.float32
    assert type(B.gamma) is float


def test_errors_name_the_argument_and_its_range():
    S, ones = np.eye(2, 3), np.ones(3)
    for name, S_, Y_, error, text in [
        ("S", [[1.0]], S, TypeError, r"must be a \(k, d\) array, got list"),
        ("Y", S, None, TypeError, r"must be a \(k, d\) array, got NoneType"),
        ("S", np.ones(3), S, ValueError, r"must have shape \(k, d\) with d >= 1, got \(3,\)"),
        ("Y", S, np.ones((2, 0)), ValueError, r"must have shape \(k, d\) with d >= 1, got \(2, 0\)"),
        ("S", np.eye(2, 3, dtype=int), S, TypeError, "must be real floating, got dtype int"),
        ("Y", S, S.astype(complex), TypeError, "must be real floating, got dtype complex"),
        ("Y", S, np.eye(3), ValueError, r"must have the shape of S, \(2, 3\), got \(3, 3\)"),
        ("Y", S, S.astype(np.float32), TypeError, "must be of the library, dtype and device of S"),
    ]:
        with pytest.raises(error, match=f"^{name}: {text}"):
            mblsr1.LSR1(S_, Y_, 1.0)
    for gamma in (math.nan, math.inf, -math.inf, 1e155, 10**400):
        with pytest.raises(ValueError, match=r"^gamma: must be a finite number of at most 1e\+152 in size, got"):
            mblsr1.LSR1(S, S, gamma)
    with pytest.raises(TypeError, match=r"^gamma: must be a finite number"):
        mblsr1.LSR1(S, S, "1")
    for memory in (-1, 2.0, True, "3"):
        with pytest.raises(ValueError, match=r"^memory: must be an int >= 0, got"):
            mblsr1.LSR1(S, S, 1.0, memory=memory)
    for skip in (-1e-9, 1.0, math.nan):
        with pytest.raises(ValueError, match=r"^skip_tolerance: must be in \[0, 1\), got"):
            mblsr1.LSR1(S, S, 1.0, skip_tolerance=skip)
    B = mblsr1.LSR1(S, S, 2.0)
    for bad in (np.ones(2), np.ones((3, 3)), [1.0, 1.0, 1.0]):
        what = "list" if isinstance(bad, list) else re.escape(f"an array of shape {bad.shape}")
        with pytest.raises(ValueError, match=rf"^v: must be an array of shape \(3,\), got {what}$"):
            B @ bad
        with pytest.raises(ValueError, match=rf"^s: must be an array of shape \(3,\), got {what}$"):
            B.update(bad, ones)
        with pytest.raises(ValueError, match=rf"^y: must be an array of shape \(3,\), got {what}$"):
            B.update(ones, bad)


@given(seeds, st.floats(-3, 3))
def test_all_products_use_one_matrix(seed, power):
    """B v and to_dense agree to eps cond(Psi), not its square: N^-1 is applied with exact residuals."""
    rng = np.random.default_rng(seed)
    H = rng.standard_normal((20, 20))
    S = rng.standard_normal(20) + 1e-4 * rng.standard_normal((5, 20))
    B = mblsr1.LSR1(S, S @ (H + H.T), 10.0**power)
    assume(len(B.kept) > 1)
    psi = (S @ (H + H.T) - B.gamma * S)[B.kept]
    kappa = np.linalg.cond(psi / np.linalg.norm(psi, axis=1, keepdims=True))
    dense = B.to_dense()
    v = rng.standard_normal(20)
    size = np.linalg.norm(dense, 2) + B.gamma
    # products of length d = 20 with k = 5 rows, in units where ||psi N^-1|| is at most kappa: sqrt(k) d < 50
    cosines = np.abs(
        np.linalg.norm(np.linalg.solve(B._unit.N, psi / np.linalg.norm(S[B.kept], axis=1, keepdims=True)), 2)
    )
    bound = (
        50 * EPS * (cosines * np.linalg.norm(psi / np.linalg.norm(S[B.kept], axis=1, keepdims=True), 2) + size * kappa)
    )
    assert np.linalg.norm(B @ v - dense @ v) <= bound * np.linalg.norm(v)


@pytest.mark.parametrize(("k", "capacity"), [(0, 10), (3, 10), (12, 12)])
def test_the_memory_is_ten_pairs_or_those_that_are_given(k, capacity):
    S = np.random.default_rng(0).standard_normal((k, 20))
    assert mblsr1.LSR1(S, 2.0 * S, 1.0).pairs.capacity == capacity


def test_products_are_split_without_error():
    """a b = p + e exactly (Dekker), for numbers with all their 53 bits."""
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-1.0, 1.0, (2, 500)) * 10.0 ** rng.integers(-20, 20, (2, 500))
    for x, y, p, e in zip(a, b, *_two_products(a, b), strict=True):
        assert Fraction(p) + Fraction(e) == Fraction(x) * Fraction(y)


@pytest.mark.parametrize("columns", [None, 3])
def test_refined_solutions_are_exact_to_rounding(columns):
    """N has the square of the condition number of Psi, 1e9 here; against 50 digits, in units of the largest entry."""
    mp = pytest.importorskip("mpmath", reason="mpmath is not installed").mp
    for seed in range(5):
        rng = np.random.default_rng(seed)
        H = rng.standard_normal((20, 20))
        S = rng.standard_normal(20) + 3e-5 * rng.standard_normal((5, 20))
        compact = mblsr1.LSR1(S, S @ (H + H.T), 3.0)._unit
        k = len(compact.kept)
        rhs = rng.standard_normal(k if columns is None else (k, columns))
        found = compact.solve_refined(rhs)
        assert found.shape == rhs.shape
        with mp.workdps(50):
            for x, b in zip(found.reshape(k, -1).T, rhs.reshape(k, -1).T, strict=True):
                exact = np.array([float(v) for v in mp.lu_solve(mp.matrix(compact.N.tolist()), mp.matrix(b.tolist()))])
                assert np.abs(x - exact).max() <= 4.0 * EPS * np.abs(exact).max()


# ---------------------------------------------------------------- which pairs are taken


def clear_cut(S, Y, gamma, skip):
    """The pairs that sequential SR1 uses, or None where a test of it is decided by less than a share of 1e-6."""
    used = [dense_sr1(S, Y, gamma, c * skip)[1] for c in (1.0 - 1e-6, 1.0, 1.0 + 1e-6)]
    bound, _psi = compact_error(S[used[1]], Y[used[1]], gamma)
    return used[1] if used[0] == used[2] and independent_well(Y - gamma * S) and bound < 1e-6 else None


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(
    ("above", "skip"), [(0.0, 0.05), (0.0, 0.3), (0.0, 0.6), (3.0, 0.8), (3.0, 0.9), (-3.0, 0.8), (8.0, 0.98)]
)
def test_any_number_of_pairs_may_be_skipped(size, above, skip):
    """Y is not symmetric: the same pairs as in sequential SR1, one left out after the other.

    gamma is of any sign, or above or below the curvatures, which are about 1: then N is definite.
    """
    counts = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        S, Y = rng.standard_normal((6, 9)), size * rng.standard_normal((6, 9))
        gamma = size * (above + rng.uniform(-1.0, 1.0))
        used = clear_cut(S, Y, gamma, skip)
        if used is not None:
            assert mblsr1.LSR1(S, Y, gamma, skip_tolerance=skip).kept == used
            counts.add(len(used))
    assert len(counts) > 1


@pytest.mark.parametrize("size", [2.0**-40, 1.0, 2.0**40])
def test_a_denominator_of_rounding_is_none_even_where_none_is_too_small(size):
    """skip_tolerance = 0: s'(y - Bs) = 0 up to rounding with the B of the older pairs, whatever the unit of y."""
    rng = np.random.default_rng(0)
    H = np.diag(np.arange(1.0, 7.0)) + 0.3
    S = rng.standard_normal((3, 6))
    Y = S @ H
    before = mblsr1.LSR1(S[:2], Y[:2], -1.0).to_dense()
    S /= np.linalg.norm(S, axis=1, keepdims=True)
    Y = S @ H
    Y[2] -= S[2] * (S[2] @ (Y[2] - before @ S[2]))
    assert mblsr1.LSR1(S, size * Y, -size, skip_tolerance=0.0).kept == [0, 1]


@given(st.lists(st.integers(-60, 60), min_size=2, max_size=6), st.sampled_from([0.0, -1.0, "above"]), seeds)
def test_curvatures_of_any_ratio_are_all_kept(powers, gamma, seed):
    """Eigenvalues 2^p with p up to 120 apart, along the axes: no pivot of N is small beside what it is made of."""
    lam = np.random.default_rng(seed).uniform(1.0, 2.0, len(powers)) * 2.0 ** np.array(powers)
    gamma = 4.0 * lam.max() if gamma == "above" else gamma
    # y - gamma s and N = lam - gamma are rounded at gamma; there is nothing else that rounds.
    bound = 8.0 * EPS * np.maximum(lam, abs(gamma))
    if gamma > 0.0:
        assume(lam.min() > 1e-6 * gamma)  # else lam is lost in lam - gamma
    B = mblsr1.LSR1(np.eye(lam.size), np.diag(lam), gamma)
    assert B.n_skipped == 0
    assert (np.abs(B.eigenvalues() - np.sort(lam)) <= bound[np.argsort(lam)]).all()


def test_a_denominator_of_exactly_zero_is_none():
    B = mblsr1.LSR1(np.array([[1.0, 0.0]]), np.array([[2.0, 1.0]]), 2.0, skip_tolerance=0.0)
    assert B.kept == []
    np.testing.assert_array_equal(B.to_dense(), 2.0 * np.eye(2))


@pytest.mark.parametrize("length", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("skip", [0.1, 0.4])
def test_an_offered_pair_is_judged_by_its_angle(length, skip):
    """|s'(y - Bs)| >= skip ||s|| ||y - Bs|| with the dense B, for pairs of any length."""
    answers = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        H = rng.standard_normal((8, 8))
        S = rng.standard_normal((3, 8))
        B = mblsr1.LSR1(S, S @ (H + H.T), 2.0, skip_tolerance=skip)
        if len(B.kept) < 3:
            continue
        s, y = length * rng.standard_normal((2, 8))
        r = y - B.to_dense() @ s
        cosine = abs(r @ s) / float(np.linalg.norm(r) * np.linalg.norm(s))
        if abs(cosine - skip) > 1e-6:
            answers.append(cosine >= skip)
            assert B.update(s, y) == answers[-1]
    assert {bool(answer) for answer in answers} == {True, False}


@pytest.mark.parametrize("length", [2.0**-20, 1.0, 2.0**20])
def test_a_pair_that_is_predicted_to_rounding_says_nothing(length):
    """y - Bs is known to eps (||y|| + |gamma| ||s||): 1e-8 gamma ||s|| and no y is under a share of 1e-7 of that."""
    B = mblsr1.LSR1(np.array([[1.0, 0.0, 0.0]]), np.zeros((1, 3)), 1.0)
    s = length * np.array([1.0, 0.0, 0.0])
    assert not B.update(s, 0.5e-7 * s)
    assert B.update(s, 2e-7 * s)


# ---------------------------------------------------------------- what SR1 is, whatever the coordinates


@given(pairs(symmetric=True))
def test_hereditary(case):
    """On a quadratic each update keeps the secant equations of all the pairs before it."""
    S, Y, gamma = case
    _, bound = usable(S, Y, gamma)
    B = mblsr1.LSR1(S[:0], Y[:0], gamma)
    for i in range(len(S)):
        assume(B.update(S[i], Y[i]) and len(B.kept) == i + 1)
        for s, y in zip(S[: i + 1], Y[: i + 1], strict=True):
            assert np.linalg.norm(B @ s - y) <= 2 * bound * np.linalg.norm(s)


@given(pairs(), seeds)
def test_orthogonal_maps(case, seed):
    """s -> Us, y -> Uy: B becomes U B U'. Rounding of U S and U Y is of the size that `compact_error` counts."""
    S, Y, gamma = case
    _, bound = usable(S, Y, gamma)
    U = np.linalg.qr(np.random.default_rng(seed).standard_normal((S.shape[1], S.shape[1])))[0]
    turned = mblsr1.LSR1(S @ U.T, Y @ U.T, gamma).to_dense()
    assert np.linalg.norm(turned - U @ mblsr1.LSR1(S, Y, gamma).to_dense() @ U.T) <= 4 * S.shape[1] * bound


@given(pairs(), st.integers(-8, 8), st.integers(-8, 8))
def test_units_of_the_loss_and_of_the_variables(case, a, b):
    """f -> 2^a f and w -> 2^b w: y -> 2^(a - b) y, s -> 2^b s, B -> 2^(a - 2b) B. Powers of two round nothing.

    Only where a threshold for rounding has a unit of its own may the two differ; none has.
    """
    S, Y, gamma = case
    f, w = 2.0**a, 2.0**b
    plain, scaled = mblsr1.LSR1(S, Y, gamma), mblsr1.LSR1(w * S, f / w * Y, f / w**2 * gamma)
    assert scaled.kept == plain.kept
    _, bound = usable(S, Y, gamma)
    assert np.abs(scaled.to_dense() * (w**2 / f) - plain.to_dense()).max() <= 2 * bound


@given(pairs(symmetric=True), seeds)
def test_hessian_products_give_the_sampled_form(case, seed):
    """Pairs (s, Hs): B - gamma I is the Nystrom form of A = H - gamma I, A S'(S A S')^-1 S A, whatever the order."""
    S, Y, gamma = case
    _, bound = usable(S, Y, gamma)
    S, Y = (x / np.linalg.norm(S, axis=1, keepdims=True) for x in (S, Y))
    psi = Y - gamma * S
    core = S @ psi.T
    nystrom = gamma * np.eye(S.shape[1]) + (psi.T @ np.linalg.solve(0.5 * (core + core.T), psi) if len(S) else 0.0)
    order = np.random.default_rng(seed).permutation(len(S))
    for index in (np.arange(len(S)), order):
        _, other = usable(S[index], Y[index], gamma)
        assert np.abs(mblsr1.LSR1(S[index], Y[index], gamma).to_dense() - nystrom).max() <= bound + 2 * other


@given(seeds, st.integers(1, 6))
def test_finite_termination_on_a_quadratic(seed, d):
    """With gamma above the spectrum B stays above H; d independent Newton steps make B = H, and step d + 1 is the last.

    Nocedal and Wright, theorem 6.1. The radius is never reached. H has eigenvalues in [1, 3], so the condition numbers
    of psi decide, which `usable` bounds.
    """
    rng = np.random.default_rng(seed)
    V = np.linalg.qr(rng.standard_normal((d, d)))[0]
    H = (V * rng.uniform(1.0, 3.0, d)) @ V.T
    H = 0.5 * (H + H.T)
    g = rng.standard_normal(d)
    start, B, S = float(np.linalg.norm(g)), mblsr1.LSR1(np.zeros((0, d)), np.zeros((0, d)), 4.0), []
    for _ in range(d):
        p = mblsr1.solve_trust_region(B, g, 1e3).p
        assume(B.update(p, H @ p) and len(B.kept) == len(S) + 1)
        S.append(p)
        g = g + H @ p
    _, bound = usable(np.array(S), np.array(S) @ H, 4.0)
    last = mblsr1.solve_trust_region(B, g, 1e3)
    assert np.abs(B.to_dense() - H).max() <= bound
    # The gradient after the last step is (H - B)p; it and the sums g + Hp are rounded to eps of what they add.
    assert np.linalg.norm(g + H @ last.p) <= d * bound * last.norm + 40 * EPS * start
