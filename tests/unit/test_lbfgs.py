"""The limited-memory BFGS matrix against dense updates, and the error with which a matrix predicts a pair."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import mblsr1
from mblsr1.linalg.lbfgs import lbfgs
from mblsr1.linalg.pairs import NewPair, PairMemory
from mblsr1.linalg.scaling import ceiling
from mblsr1.steps.model import better_model

EPS = float(np.finfo(np.float64).eps)
seeds = st.integers(0, 2**32 - 1)


def memory_of(S, Y, capacity=None, like=None):
    memory = PairMemory(S[0] if like is None else like, capacity or len(S))
    for s, y in zip(S, Y, strict=True):
        memory.push(s, y)
        memory.project([])
    return memory


def dense_bfgs(S, Y):
    """BFGS by sequential rank-two updates from y'y / s'y of the newest pair (Nocedal and Wright, 6.19 and 7.20)."""
    B = float(Y[-1] @ Y[-1] / (S[-1] @ Y[-1])) * np.eye(S.shape[1])
    for s, y in zip(S, Y, strict=True):
        Bs = B @ s
        B = B - np.outer(Bs, Bs) / (s @ Bs) + np.outer(y, y) / (y @ s)
    return B


def to_dense(matrix):
    return np.stack([matrix @ e for e in np.eye(matrix.pairs.length)], axis=1)


def error_bound(S, Y):
    """eps times what the compact form divides by.

    The rows of [S; Y] enter through their Gram matrix, whose condition number is cond^2, and the (scaled) middle matrix
    is solved with; both act on a matrix of size ||B||.
    """
    k, d = S.shape
    S, Y = S / np.linalg.norm(S, axis=1, keepdims=True), Y / np.linalg.norm(S, axis=1, keepdims=True)
    gamma, SY = float(Y[-1] @ Y[-1] / (S[-1] @ Y[-1])), S @ Y.T
    lower = np.tril(SY, -1)
    middle = np.block([[gamma * S @ S.T, lower], [lower.T, -np.diag(SY.diagonal())]])
    even = 1.0 / np.sqrt(np.abs(middle.diagonal()))
    unit = np.concatenate([S, Y / np.linalg.norm(Y, axis=1, keepdims=True)])
    singular = np.linalg.svd(unit, compute_uv=False)
    rows = float(singular[0] / singular[min(2 * k, d) - 1])
    size = float(np.linalg.norm(dense_bfgs(S, Y), 2)) + gamma
    return 16 * d * EPS * size * (rows**2 + float(np.linalg.cond(middle * np.outer(even, even))))


def convex_pairs(seed, k, d, noise=0.1):
    """Pairs of a quadratic with eigenvalues from 0.1 to 10 whose y are noisy; those with s'y <= 0 are left out."""
    rng = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.standard_normal((d, d)))
    S = rng.standard_normal((k, d)) * rng.uniform(0.01, 100.0, (k, 1))
    Y = S @ (Q * np.geomspace(0.1, 10.0, d)) @ Q.T
    Y = Y + noise * np.linalg.norm(Y, axis=1, keepdims=True) * rng.standard_normal((k, d)) / np.sqrt(d)
    good = np.einsum("ij,ij->i", S, Y) > 0.05 * np.linalg.norm(S, axis=1) * np.linalg.norm(Y, axis=1)
    return S[good], Y[good]


@given(seeds, st.integers(1, 6), st.integers(14, 20))
def test_it_is_dense_bfgs(seed, k, d):
    S, Y = convex_pairs(seed, k, d)
    if len(S):
        matrix = lbfgs(memory_of(S, Y))
        assert np.abs(to_dense(matrix) - dense_bfgs(S, Y)).max() <= error_bound(S, Y)


@given(seeds, st.integers(1, 5))
def test_more_rows_than_dimensions(seed, k):
    """2 k rows in three dimensions: the Gram matrix is singular, and what it leaves is all there is.

    Where the smallest real direction is near the cut of 1e-13 (so 1e-6.5 of the largest), it may go or stay.
    """
    S, Y = convex_pairs(seed, k, 3, noise=0.1)
    if len(S):
        unit = np.concatenate([S, Y]) / np.linalg.norm(np.concatenate([S, Y]), axis=1, keepdims=True)
        singular = np.linalg.svd(unit, compute_uv=False)
        assume(singular[min(3, 2 * len(S)) - 1] > 1e-4 * singular[0])
        matrix = lbfgs(memory_of(S, Y))
        assert matrix.spectrum.rank <= 3
        assert np.abs(to_dense(matrix) - dense_bfgs(S, Y)).max() <= error_bound(S, Y)


@given(seeds, st.integers(1, 8), st.integers(1, 12), st.floats(0.0, 3.0))
def test_it_is_positive_definite_and_finite(seed, k, d, noise):
    rng = np.random.default_rng(seed)
    H = rng.standard_normal((d, d))
    S = rng.standard_normal((k, d))
    for i in range(1, k):  # some steps repeat others, nearly or exactly
        if rng.random() < 0.4:
            S[i] = S[rng.integers(0, i)] + 10.0 ** -rng.integers(2, 20) * rng.standard_normal(d)
    Y = S @ (H @ H.T) * 10.0 ** rng.integers(-60, 60) + noise * rng.standard_normal((k, d))
    matrix = lbfgs(memory_of(S, Y))
    if matrix is None:
        assert (np.einsum("ij,ij->i", S, Y) <= 1e-7 * np.linalg.norm(S, axis=1) * np.linalg.norm(Y, axis=1)).all()
        return
    gamma, lam, T = matrix.spectrum
    assert gamma > 0.0
    assert np.isfinite(lam).all()
    assert np.isfinite(T).all()
    assert (lam > 0.0).all()


@given(seeds)
def test_pairs_without_positive_curvature_are_left_out(seed):
    S, Y = convex_pairs(seed, 4, 16)
    if len(S) < 2:
        return
    all_S, all_Y = np.insert(S, [0, 1, len(S)], S[:1] + 1.0, axis=0), np.insert(Y, [0, 1, len(S)], 0.0, axis=0)
    for i in (0, 2, len(S) + 2):
        all_Y[i] = -all_S[i]
    np.testing.assert_allclose(
        to_dense(lbfgs(memory_of(all_S, all_Y))), to_dense(lbfgs(memory_of(S, Y))), rtol=0, atol=error_bound(S, Y)
    )


@pytest.mark.parametrize("y", [[-1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [1e-200, 0.0], [1e-10, 1.0]])
def test_without_any_usable_pair_there_is_none(y):
    """s'y < 0, = 0, so small that y'y underflows, or within 1e-8 of a right angle with ||s|| ||y||."""
    y = np.array(y)
    assert lbfgs(memory_of(np.array([[1.0, 0.0]]), y[None, :])) is None
    assert lbfgs(PairMemory(np.ones(2), 3)) is None


def test_the_ring_may_have_wrapped_and_have_holes():
    S, Y = convex_pairs(1, 12, 16)
    wrapped = memory_of(S, Y, capacity=4)
    assert np.abs(to_dense(lbfgs(wrapped)) - dense_bfgs(S[-4:], Y[-4:])).max() <= error_bound(S[-4:], Y[-4:])
    wrapped.keep_newest(2)
    assert np.abs(to_dense(lbfgs(wrapped)) - dense_bfgs(S[-2:], Y[-2:])).max() <= error_bound(S[-2:], Y[-2:])


def test_pairs_that_repeat_each_other_to_the_last_digit_give_that_of_the_newest():
    """The middle matrix has no inverse there: no exception, no warning."""
    S = np.zeros((3, 4))
    S[:, 0] = 1.0
    for Y in (S.copy(), 2.0 * S):
        matrix = lbfgs(memory_of(S, Y))
        np.testing.assert_allclose(matrix @ S[0], Y[0], rtol=1e-12)
        assert (matrix.spectrum.lam > 0.0).all()


@pytest.mark.parametrize("scale", [1e-140, 1e-70, 1.0, 1e70, 1e140])
def test_it_scales_with_the_loss(scale):
    S, Y = convex_pairs(5, 5, 16)
    expected = dense_bfgs(S, Y)
    made = to_dense(lbfgs(memory_of(S, scale * Y))) / scale
    assert np.abs(made - expected).max() <= error_bound(S, Y)


@given(seeds, st.sampled_from(["sr1", "lbfgs"]))
def test_the_prediction_error_from_inner_products_is_the_dense_one(seed, kind):
    """||y - Bs|| / ||y|| from a difference of squares: its square is off by eps of the terms.

    The compact forms are solved with, not their spectra: what they lose is eps times the condition of what is solved.
    """
    rng = np.random.default_rng(seed)
    S, Y = convex_pairs(seed, 4, 16)
    if not len(S):
        return
    memory = memory_of(S, Y)
    matrix = mblsr1.LSR1(S, Y, gamma=20.0) if kind == "sr1" else lbfgs(memory)
    rows = np.asarray(matrix.pairs.rows)
    dense = np.stack([matrix @ e for e in np.eye(16)], axis=1)
    s, y = rng.standard_normal(16), rng.standard_normal(16)
    found = matrix.prediction_error(NewPair(rows @ s, rows @ y, s @ s, s @ y, y @ y))
    exact = np.linalg.norm(y - dense @ s) / np.linalg.norm(y)
    size = (20.0 if kind == "sr1" else matrix.gamma) + np.linalg.norm(dense, 2)
    terms = (1.0 + size * np.linalg.norm(s) / np.linalg.norm(y)) ** 2
    assert abs(found**2 - exact**2) <= 64 * terms * EPS * condition(matrix, kind)


def condition(matrix, kind):
    """Condition number of the matrix that the compact form solves with, rows and columns scaled to unit diagonal."""
    SS, SY, _ = matrix.pairs.blocks()
    lower = np.tril(SY, -1)
    if kind == "sr1":
        inner = lower + lower.T + np.diag(SY.diagonal()) - 20.0 * SS
    else:
        inner = np.block([[matrix.gamma * SS, lower], [lower.T, -np.diag(SY.diagonal())]])
    even = 1.0 / np.sqrt(np.abs(inner.diagonal()))
    return 16 + np.linalg.cond(inner * np.outer(even, even)) ** 2


@pytest.mark.parametrize("kind", ["sr1", "lbfgs"])
@pytest.mark.parametrize("size", [2.0**-40, 2.0**40])
def test_the_prediction_error_does_not_depend_on_the_size_of_the_pair(kind, size):
    S, Y = convex_pairs(4, 3, 16)
    matrix = mblsr1.LSR1(S, Y, gamma=20.0) if kind == "sr1" else lbfgs(memory_of(S, Y))
    rows, (s, y) = np.asarray(matrix.pairs.rows), np.random.default_rng(4).standard_normal((2, 16))
    one, other = (
        matrix.prediction_error(NewPair(rows @ (c * s), rows @ (c * y), c * c * s @ s, c * c * s @ y, c * c * y @ y))
        for c in (1.0, size)
    )
    assert other == pytest.approx(one, rel=1e-12)
    assert one > 0.1


def test_a_pair_that_is_predicted_has_an_error_of_rounding_and_of_no_other_sign():
    """The difference of squares may come out negative: sqrt(16 eps of its terms) is what is left at most."""
    for seed in range(100):
        S, Y = convex_pairs(seed, 1, 16)
        if len(S):
            matrix = lbfgs(memory_of(S, Y))
            rows, s, y = np.asarray(matrix.pairs.rows), S[0], Y[0]
            error = matrix.prediction_error(NewPair(rows @ s, rows @ y, s @ s, s @ y, y @ y))
            size = 1.0 + matrix.gamma * np.linalg.norm(s) / np.linalg.norm(y)
            assert 0.0 <= error <= math.sqrt(16 * 16 * EPS) * size


@pytest.mark.parametrize(("share", "rank"), [(2e-14, 1), (2e-12, 2)])
def test_the_cut_is_a_share_of_the_largest_direction(share, rank):
    """Rows along e_1, off it by a variance of `share` along e_2: eigenvalues 8 and 8 `share` of the Gram matrix."""
    S = np.zeros((4, 3))
    S[:, 0], S[:, 1] = 1.0, np.sqrt(share) * np.array([1.0, -1.0, 1.0, -1.0])
    assert lbfgs(memory_of(S, 2.0 * S)).spectrum.rank == rank


def test_the_prediction_error_of_what_is_known():
    S, Y = convex_pairs(2, 1, 16)
    matrix = lbfgs(memory_of(S, Y))
    rows = np.asarray(matrix.pairs.rows)
    s, y = S[0], Y[0]
    assert matrix.prediction_error(NewPair(rows @ s, rows @ y, s @ s, s @ y, y @ y)) < 1e-6
    for known in (matrix, mblsr1.LSR1(S, Y, gamma=20.0)):
        size = 2 * known.pairs.capacity
        assert known.prediction_error(NewPair(np.ones(size), np.zeros(size), 1.0, 0.0, 0.0)) == 0.0


def test_where_the_middle_matrix_has_no_inverse_the_newest_pair_is_what_counts(monkeypatch):
    S, Y = convex_pairs(3, 4, 16)
    solve = np.linalg.solve

    def singular(a, b):
        if len(a) > 2:
            raise np.linalg.LinAlgError
        return solve(a, b)

    monkeypatch.setattr(np.linalg, "solve", singular)
    assert np.abs(to_dense(lbfgs(memory_of(S, Y))) - dense_bfgs(S[-1:], Y[-1:])).max() <= error_bound(S[-1:], Y[-1:])
    pair = NewPair(np.zeros(2 * len(S)), np.zeros(2 * len(S)), 1.0, 1.0, 1.0)
    assert lbfgs(memory_of(S, Y)).prediction_error(pair) == math.inf
    monkeypatch.setattr(np.linalg, "solve", lambda a, b: np.full(b.shape, np.nan))
    spectrum = lbfgs(memory_of(S, Y)).spectrum
    assert spectrum.rank == 0
    assert spectrum.gamma == pytest.approx(Y[-1] @ Y[-1] / (S[-1] @ Y[-1]))


# --- the better predictor --------------------------------------------------------------------------


@pytest.mark.parametrize(("curvatures", "winner"), [([-3.0, 2.0, 5.0], "sr1"), ([1.0, 3.0, 9.0], None)])
def test_the_better_predictor_is_taken(curvatures, winner):
    """On an indefinite quadratic SR1 predicts and L-BFGS cannot; the running means are those of log errors."""
    rng, d = np.random.default_rng(0), 3
    H = np.diag(curvatures)
    memory, build = PairMemory(np.zeros(d), 10), better_model(ceiling(), 1e-8)
    expected = np.zeros(2)
    for _ in range(12):
        s = rng.standard_normal(d)
        if len(memory):
            models = [mblsr1.LSR1.from_memory(memory, ceiling()(memory.blocks()), 1e-8), lbfgs(memory)]
            for i, model in enumerate(models):
                if model is not None:
                    error = np.linalg.norm(H @ s - model @ s) / np.linalg.norm(H @ s)
                    expected[i] = 0.8 * expected[i] + 0.2 * np.log(np.clip(error, 1e-4, 1e4))
        memory.push(s, H @ s)
        taken = build(memory, rng.standard_normal(d)).B
        np.testing.assert_allclose(memory.scores, expected, atol=1e-3)
        behind = memory.scores[0] >= memory.scores[1] - 0.3
        bfgs = lbfgs(memory)
        assert isinstance(taken, mblsr1.LSR1) is not (bfgs is not None and behind)
    if winner == "sr1":
        assert isinstance(taken, mblsr1.LSR1)


def test_a_prediction_that_overflows_is_the_worst_and_spoils_no_mean():
    """gamma = y'y / s'y = 3e156 has no square."""
    memory = PairMemory(np.zeros(2), 4)
    build = better_model(ceiling(), 1e-8)
    with np.errstate(all="ignore"):
        for s, y in (([1.0, 0.0], [3e141, 1e149]), ([1.0, 1.0], [1.0, 1e140]), ([0.0, 1.0], [1.0, 1.0])):
            memory.push(np.array(s), np.array(y))
            build(memory, np.ones(2))
    assert np.isfinite(memory.scores).all()
    assert memory.scores[1] >= 0.2 * np.log(1e4) * 0.8
