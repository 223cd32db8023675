"""Which rows are kept, and the eigenvectors that the matrix hands to the solver."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mblsr1
from mblsr1.linalg.spectrum import PIVOT_TOLERANCE, Spectrum, independent, unit_gram

EPS = float(np.finfo(np.float64).eps)
seeds = st.integers(0, 2**32 - 1)


def greedy(rows, limit):
    """Newest first: keep a row whose distance to the span of the kept ones is over 1e-5 of its length (by lstsq)."""
    kept = []
    for i in range(len(rows) - 1, -1, -1):
        if len(kept) == limit:
            break
        if kept:
            coefficients = np.linalg.lstsq(rows[kept].T, rows[i], rcond=None)[0]
            distance = np.linalg.norm(rows[i] - rows[kept].T @ coefficients)
        else:
            distance = np.linalg.norm(rows[i])
        if distance > 1e-5:
            kept.append(i)
    return kept[::-1]


@given(seeds, st.integers(0, 8), st.integers(1, 6))
def test_independent_rows_are_kept_newest_first(seed, k, d):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((k, d))
    for i in range(k):  # some rows repeat others, nearly or exactly
        if i and rng.random() < 0.4:
            rows[i] = rows[rng.integers(0, i)] * rng.uniform(-2, 2) + 1e-9 * rng.standard_normal(d) * (
                rng.random() < 0.5
            )
    unit, _ = unit_gram(rows @ rows.T, np.einsum("ij,ij->i", rows, rows))
    assert independent(unit, d) == greedy(rows / np.linalg.norm(rows, axis=1, keepdims=True), d)


@pytest.mark.parametrize(("angle", "kept"), [(0.9e-5, [1]), (1.1e-5, [0, 1])])
def test_the_tolerance_is_on_the_pivot(angle, kept):
    """sin^2 of the angle between two rows against 1e-10; the Gram resolves that to 1e-16."""
    assert PIVOT_TOLERANCE == 1e-10
    unit = np.array([[1.0, np.cos(angle)], [np.cos(angle), 1.0]])
    assert independent(unit, 2) == kept


def test_the_limit_keeps_the_newest():
    assert independent(np.eye(4), 2) == [2, 3]
    assert independent(np.eye(4), 4) == [0, 1, 2, 3]
    assert independent(np.zeros((0, 0)), 3) == []
    assert independent(np.diag([1.0, 0.0, 1.0]), 3) == [0, 2]


def test_rounding_and_small_pivots_are_told_apart():
    """Ten nearly dependent rows in four dimensions, as from a loss of identical blocks: pivots 1, 0.36, 0.013, 4.5e-7.

    All four are real, and what is left of the other rows is rounding: eps ||c||^2 with ||c||^2 about 1 / 4.5e-7, often
    over 1e-10. The newest four are kept, and no other.
    """
    for seed in range(200):
        rng = np.random.default_rng(seed)
        wanted = np.sqrt([1.0, 0.36, 0.013, 4.5e-7])
        newest = np.zeros((4, 4))
        for i, pivot in enumerate(wanted):  # unit rows, newest first, with exactly these pivots
            rest = rng.standard_normal(i)
            newest[i, :i] = rest / np.linalg.norm(rest) * np.sqrt(1.0 - pivot**2) if i else 0.0
            newest[i, i] = pivot
        older = rng.standard_normal((6, 4))
        frame = np.linalg.qr(rng.standard_normal((40, 4)))[0]
        rows = np.concatenate([older, newest[::-1]]) @ frame.T
        unit, _ = unit_gram(rows @ rows.T, np.einsum("ij,ij->i", rows, rows))
        assert independent(unit, 40) == [6, 7, 8, 9]


def test_unit_gram():
    G = np.array([[4.0, 2.0, 0.0], [2.0, 9.0, 0.0], [0.0, 0.0, 1e-15]])
    unit, scale = unit_gram(G, np.array([4.0, 9.0, 1.0]))
    np.testing.assert_allclose(unit, [[1.0, 1 / 3, 0.0], [1 / 3, 1.0, 0.0], [0.0, 0.0, 0.0]], rtol=1e-15)
    np.testing.assert_allclose(scale, [0.5, 1 / 3, 0.0], rtol=1e-15)


def test_rank():
    assert Spectrum(1.0, np.zeros(0), np.zeros((4, 0))).rank == 0
    assert Spectrum(1.0, np.zeros(3), np.zeros((8, 3))).rank == 3


@given(seeds, st.sampled_from([-5.0, 0.0, 1.0, 30.0]))
def test_eigenvectors_are_orthonormal_and_make_the_matrix(seed, gamma):
    """P P' = I and B = gamma (I - P'P) + P' diag(lam) P, both to eps cond(psi)^2 (a Gram factor in place of QR)."""
    rng = np.random.default_rng(seed)
    H = rng.standard_normal((12, 12))
    H, S = H + H.T, rng.standard_normal((4, 12))
    B = mblsr1.LSR1(S, S @ H, gamma)
    P = B.spectrum.T.T @ np.asarray(B.pairs.rows)
    psi = (S @ H - gamma * S)[B.kept]
    lost = (np.linalg.norm(S @ H, axis=1)[B.kept] + abs(gamma) * np.linalg.norm(S, axis=1)[B.kept]) / np.linalg.norm(
        psi, axis=1
    )
    kappa = float(np.linalg.cond(psi / np.linalg.norm(psi, axis=1, keepdims=True)) * lost.max())
    assert np.abs(P @ P.T - np.eye(B.spectrum.rank)).max() <= 12 * EPS * kappa**2
    made = gamma * (np.eye(12) - P.T @ P) + (P.T * B.spectrum.lam) @ P
    psi_unit = psi / np.linalg.norm(S[B.kept], axis=1, keepdims=True)
    left = float(np.linalg.norm(np.linalg.solve(B._unit.N, psi_unit), 2))
    size = float(np.linalg.norm(psi_unit, 2)) + abs(gamma)
    assert np.abs(made - B.to_dense()).max() <= 48 * EPS * size * ((1 + left) ** 2 + (1 + left) * kappa**2)
    assert (np.diff(B.spectrum.lam) >= 0).all()
