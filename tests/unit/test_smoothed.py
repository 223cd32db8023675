"""The matrix for noisy pairs: curvature on the span of the steps, read off S'Y."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_lbfgs import memory_of, to_dense

import mblsr1
from mblsr1.linalg.pairs import PairMemory
from mblsr1.linalg.smoothed import flat, median_curvature, smoothed

EPS = float(np.finfo(np.float64).eps)
seeds = st.integers(0, 2**32 - 1)


def steps(seed, k, d):
    """Unit steps with singular values from 1 to 0.2, so that no direction is near the cut (0.04 against 1e-3)."""
    rng = np.random.default_rng(seed)
    U, V = np.linalg.qr(rng.standard_normal((k, k)))[0], np.linalg.qr(rng.standard_normal((d, k)))[0]
    S = (U * np.geomspace(1.0, 0.2, k)) @ V.T
    return rng, S / np.linalg.norm(S, axis=1, keepdims=True)


def symmetric(rng, d):
    H = rng.standard_normal((d, d))
    return H + H.T


def made_of(S, A, gamma, absolute):
    """gamma I + Q (|A| - gamma I) Q' with A given on the basis Q of span(S) that QR finds."""
    Q = np.linalg.qr(S.T)[0]
    lam, U = np.linalg.eigh(Q.T @ A @ Q)
    U = Q @ U
    return gamma * (np.eye(S.shape[1]) - U @ U.T) + (U * (np.abs(lam) if absolute else lam)) @ U.T


def bound(S, A, gamma):
    """The basis comes from a Gram matrix: eps cond(S)^2 times the size of the matrix; |.| is as smooth as log k."""
    return 64 * S.shape[1] * EPS * float(np.linalg.cond(S)) ** 2 * (float(np.linalg.norm(A, 2)) + abs(gamma))


@given(seeds, st.integers(1, 6), st.integers(8, 20), st.booleans())
def test_of_consistent_pairs_it_is_the_projected_hessian(seed, k, d, absolute):
    rng, S = steps(seed, k, d)
    H = symmetric(rng, d)
    lengths = rng.uniform(1e-3, 1e3, (k, 1))  # the length of a pair does not matter
    matrix = smoothed(memory_of(lengths * S, lengths * S @ H), absolute)
    largest = float(np.linalg.norm(S @ H, axis=1).max())
    gamma = max(float(np.median(np.einsum("ij,ij->i", S @ H, S))), 1e-3 * largest)
    assert matrix.spectrum.gamma == pytest.approx(gamma, rel=1e-10, abs=1e-12 * np.linalg.norm(H))
    assert np.abs(to_dense(matrix) - made_of(S, H, gamma, absolute)).max() <= bound(S, H, gamma)


@given(seeds, st.integers(1, 6), st.integers(8, 20))
def test_of_noisy_pairs_it_is_sr1_of_the_smoothed_ones(seed, k, d):
    """Before |.|: SR1 from gamma I with the pairs (s_i, B s_i) is B, in any order."""
    rng, S = steps(seed, k, d)
    Y = S @ symmetric(rng, d) + rng.standard_normal((k, d))
    matrix = smoothed(memory_of(S, Y), absolute=False)
    B, gamma = to_dense(matrix), matrix.spectrum.gamma
    change = S @ (B - gamma * np.eye(d)) @ S.T
    condition = float(np.linalg.cond(change))
    if condition > 1e6:
        return
    order = rng.permutation(k)
    sr1 = mblsr1.LSR1(S[order], (S @ B)[order], gamma, skip_tolerance=0.0)
    if len(sr1.kept) == k:
        size = float(np.linalg.norm(B, 2)) + abs(gamma)
        assert np.abs(sr1.to_dense() - B).max() <= 64 * d * EPS * size * condition**2 * float(np.linalg.cond(S)) ** 2


@given(seeds, st.integers(1, 6))
def test_the_symmetric_part_on_the_span_is_kept(seed, k):
    """s_i'B s_j = (s_i'y_j + s_j'y_i) / 2 for every two pairs, whatever the noise."""
    rng, S = steps(seed, k, 12)
    Y = rng.standard_normal((k, 12))
    B = to_dense(smoothed(memory_of(S, Y), absolute=False))
    expected = 0.5 * (S @ Y.T + Y @ S.T)
    assert np.abs(S @ B @ S.T - expected).max() <= bound(S, np.diag([np.linalg.norm(Y, 2) / 0.2]), 1.0) * 10


def test_two_measurements_of_one_direction_are_averaged():
    s = np.array([1.0, 2.0, -1.0, 0.5])
    Y = np.array([[1.0, 0.0, 0.3, 0.1], [0.2, 3.0, 0.0, 0.0]])
    matrix = smoothed(memory_of(np.stack([s, s]), Y))
    assert matrix.spectrum.rank == 1
    assert s @ (matrix @ s) == pytest.approx(float((Y @ s).mean()), rel=1e-12)


def test_directions_that_only_rounding_tells_apart_are_left_out():
    rng = np.random.default_rng(0)
    s = rng.standard_normal(10)
    for closeness in 10.0 ** -np.arange(2, 17.0):
        S = s + closeness * rng.standard_normal((5, 10))
        matrix = smoothed(memory_of(S, S * np.linspace(1.0, 4.0, 10) + 0.1 * rng.standard_normal((5, 10))))
        assert matrix.spectrum.rank == (1 if closeness < 1e-3 else matrix.spectrum.rank)
        assert np.abs(matrix.spectrum.lam).max() < 50.0  # curvature 4 and noise 0.1 over a share of 1e-1.5 at least


@pytest.mark.parametrize(("share", "rank"), [(0.5e-3, 1), (2e-3, 2)])
def test_the_cut_is_a_share_of_the_largest_direction(share, rank):
    """Four steps along e_1, off it by a variance of `share` along e_2: eigenvalues 4 and 4 `share` of S'S."""
    S = np.zeros((4, 3))
    S[:, 0], S[:, 1] = 1.0, np.sqrt(share) * np.array([1.0, -1.0, 1.0, -1.0])
    assert smoothed(memory_of(S, 2.0 * S)).spectrum.rank == rank


@pytest.mark.parametrize(("curvatures", "gamma"), [([1.0, 5.0, 2.0], 2.0), ([-3.0, -4.0, 1.0], 4e-3), ([1e-9], 1e-9)])
def test_gamma_is_the_median_curvature_and_has_a_floor(curvatures, gamma):
    S = np.eye(6)[: len(curvatures)]
    memory = memory_of(3.0 * S, 3.0 * S * np.array(curvatures)[:, None])
    assert median_curvature(memory.blocks()) == pytest.approx(gamma, rel=1e-14)
    assert smoothed(memory).spectrum.gamma == pytest.approx(gamma, rel=1e-14)


def test_negative_curvature_is_turned_only_where_asked():
    S = np.eye(5)[:2]
    memory = memory_of(S, S * np.array([[-2.0], [3.0]]))
    assert sorted(smoothed(memory, absolute=True).spectrum.lam) == pytest.approx([2.0, 3.0])
    assert sorted(smoothed(memory, absolute=False).spectrum.lam) == pytest.approx([-2.0, 3.0])


def test_in_every_library(xp):
    rng, S = steps(0, 3, 8)
    H = symmetric(rng, 8)
    memory = PairMemory(xp(np.zeros(8)), 4)
    for s in S:
        memory.push(xp(s), xp(s @ H))
        memory.project([])
    matrix = smoothed(memory)
    gamma, v = matrix.spectrum.gamma, rng.standard_normal(8)
    product = matrix @ xp(v)
    assert xp.is_kind(product)
    expected = made_of(S, H, gamma, True) @ v
    assert np.abs(xp.to_numpy(product) - expected).max() <= 200 * 25 * xp.eps * np.linalg.norm(H, 2) * np.linalg.norm(v)


def test_without_pairs_the_model_is_flat():
    matrix = flat(PairMemory(np.ones(4), 3))
    np.testing.assert_array_equal(matrix @ np.arange(4.0), np.zeros(4))
    assert mblsr1.solve_trust_region(matrix, np.array([3.0, 0.0, 4.0, 0.0]), 0.5).p == pytest.approx([-0.3, 0, -0.4, 0])
