"""The pair memory: ring order, inner products, the pending pair, saving. And Algorithm 3's rules on it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mblsr1
from mblsr1 import _array
from mblsr1.linalg.pairs import NewPair, PairMemory
from mblsr1.rules import pairs as rules
from mblsr1.types import NAN, Trial

EPS = float(np.finfo(np.float64).eps)


def trial(s, y, decrease=-1.0, predicted=-1.0):
    return Trial(None, s, y, 1.0, decrease, predicted, decrease, True, 1.0, 0.0, 1.0)


def expected_blocks(pairs):
    """Gram blocks made anew from the pairs themselves."""
    if not pairs:
        return (np.zeros((0, 0)),) * 3
    S = np.array([s / np.linalg.norm(s) for s, _ in pairs])
    Y = np.array([y / np.linalg.norm(s) for s, y in pairs])
    return S @ S.T, S @ Y.T, Y @ Y.T


def assert_holds(memory, pairs):
    """The memory holds exactly these pairs, oldest first."""
    assert len(memory) == len(pairs)
    rows = np.asarray(memory.rows)
    for slot, (s, y) in zip(memory.order, pairs, strict=True):
        np.testing.assert_array_equal(rows[2 * slot], s)
        np.testing.assert_array_equal(rows[2 * slot + 1], y)
    blocks = memory.blocks()
    d = memory.length
    for got, want, unit in zip(blocks, expected_blocks(pairs), "ssy", strict=True):
        size = 1.0 + (np.abs(want).max(initial=0.0) if unit == "y" else 0.0)
        largest = max([np.linalg.norm(y) / np.linalg.norm(s) for s, y in pairs], default=0.0)
        # inner products of d terms, of vectors of length 1 and at most `largest`; to make s a unit vector costs root,
        # quotient and two products here (2.5 eps), norm and quotient for each factor there (at most 2.5 eps)
        np.testing.assert_allclose(got, want, rtol=0, atol=(d + 5) * EPS * (size + largest + largest**2))
    assert blocks.k == len(pairs)
    assert memory.active.shape == (2 * (max(memory.order) + 1) if memory.order else 0, d)


@given(
    st.integers(1, 4), st.lists(st.sampled_from("ppppcrznv"), max_size=25), st.integers(0, 2**32 - 1), st.integers(1, 7)
)
def test_random_pushes_refusals_and_clears(capacity, operations, seed, d):
    """After any sequence the products equal those of a plain list of the last pairs."""
    rng = np.random.default_rng(seed)
    memory, expected, refused = PairMemory(np.zeros(d), capacity), [], 0
    for operation in operations:
        s, y = rng.standard_normal((2, d)) * 10.0 ** rng.uniform(-3, 3)
        v = rng.standard_normal((2, d))
        if operation == "c":
            memory.clear()
            expected = []
            continue
        if operation == "z":
            s = np.zeros(d)
        if operation == "n":
            y = np.full(d, math.nan)
        memory.push(s, y)
        taken = operation in "pv"
        out = memory.project(list(v) if operation == "v" else [], None if operation != "r" else lambda pair: False)
        refused += not taken
        expected = [*expected, (s, y)][-capacity:] if taken else expected
        assert out.shape == (2 * capacity, 2 if operation == "v" else 0)
        if operation == "v":
            np.testing.assert_allclose(out, np.asarray(memory.rows) @ v.T * used(memory), rtol=1e-12, atol=1e-12)
        assert memory.n_refused == refused
        assert_holds(memory, expected)


def used(memory):
    """1 in the rows of the stored pairs, 0 in rows that were left over by a `clear`."""
    mask = np.zeros((2 * memory.capacity, 1))
    for slot in memory.order:
        mask[2 * slot : 2 * slot + 2] = 1.0
    return mask


def test_the_offered_pair_knows_its_products():
    """`accept` sees the products with the older pairs and with itself."""
    memory = PairMemory(np.zeros(2), 3)
    memory.push(np.array([1.0, 0.0]), np.array([2.0, 1.0]))
    memory.project([])
    seen = []
    memory.push(np.array([3.0, 4.0]), np.array([5.0, 6.0]))
    memory.project([], lambda pair: seen.append(NewPair(*map(np.copy, pair))) is None)
    (pair,) = seen
    np.testing.assert_array_equal(pair.rows_s, [3.0, 10.0, 0, 0, 0, 0])
    np.testing.assert_array_equal(pair.rows_y, [5.0, 16.0, 0, 0, 0, 0])
    assert (pair.ss, pair.sy, pair.yy) == (25.0, 39.0, 61.0)


def test_a_pushed_pair_waits_for_the_next_project_or_push():
    memory = PairMemory(np.zeros(2), 3)
    memory.push(np.ones(2), np.ones(2))
    assert len(memory) == 0
    assert memory.pending is not None
    memory.push(np.array([1.0, 0.0]), np.ones(2))
    assert len(memory) == 1
    memory.project([])
    assert len(memory) == 2
    assert memory.pending is None
    memory.push(np.ones(2), np.ones(2))
    memory.clear()
    assert memory.pending is None
    memory.project([])
    assert len(memory) == 0


def test_capacity_zero_takes_nothing():
    memory = PairMemory(np.zeros(2), 0)
    memory.push(np.ones(2), np.ones(2))
    assert memory.project([np.ones(2)]).shape == (0, 1)
    assert len(memory) == 0
    assert memory.blocks().k == 0


@given(st.integers(1, 5), st.integers(0, 12), st.integers(0, 6), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_keep_newest_holds_from_then_on(capacity, before, count, after, seed):
    rng = np.random.default_rng(seed)
    memory = PairMemory(np.zeros(4), capacity)
    pairs = [tuple(rng.standard_normal((2, 4))) for _ in range(before + after)]
    for i, pair in enumerate(pairs):
        if i == before:
            memory.keep_newest(count)
        memory.push(*pair)
        memory.project([])
    if before == len(pairs):
        memory.keep_newest(count)
    limit = min(count, capacity)
    kept = pairs[max(0, before - capacity) : before]
    assert_holds(memory, [*kept, *pairs[before:]][-limit:] if limit else [])
    assert memory.limit == limit


@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_coefficients_over_unit_pairs_become_ones_over_the_rows(capacity, count, columns, seed):
    """sum of a_i s_i / ||s_i|| + b_i y_i / ||s_i||, by `over_rows` and `combine`, in a ring that may have wrapped."""
    rng = np.random.default_rng(seed)
    memory, pairs, d = PairMemory(np.zeros(6), capacity), [], 6
    for _ in range(count):
        pairs.append(rng.standard_normal((2, d)) * 10.0 ** rng.uniform(-3, 3))
        memory.push(*pairs[-1])
        memory.project([])
    pairs = pairs[-capacity:]
    k, base = len(pairs), rng.standard_normal(d)
    S, Y = (np.array([pair[i] / np.linalg.norm(pair[0]) for pair in pairs]) for i in (0, 1))
    of_s, of_y = rng.standard_normal((2, k, columns))
    used = np.flatnonzero(rng.random(k) < 0.7)
    cases = [
        (memory.over_rows(of_s), S.T @ of_s),
        (memory.over_rows(of_s, of_y), S.T @ of_s + Y.T @ of_y),
        (memory.over_rows(of_s[used], of_y[used], used), S[used].T @ of_s[used] + Y[used].T @ of_y[used]),
    ]
    for T, expected in cases:
        assert T.shape == (2 * capacity, columns)
        for j in range(columns):
            made = memory.combine(T[:, j], -2.0, base)
            size = 1.0 + np.abs(Y).max()
            np.testing.assert_allclose(made, expected[:, j] - 2.0 * base, rtol=0, atol=64 * d * EPS * size * k)


def test_products_of_the_rows_become_products_of_unit_pairs():
    """The transpose of `over_rows`, of all pairs or of some, in a ring that has wrapped."""
    rng = np.random.default_rng(3)
    memory, pairs, v = PairMemory(np.zeros(6), 4), rng.standard_normal((6, 2, 6)), rng.standard_normal(6)
    for pair in pairs:
        memory.push(*pair)
        memory.project([])
    S, Y = (np.array([pair[i] / np.linalg.norm(pair[0]) for pair in pairs[-4:]]) for i in (0, 1))
    z, used = memory.project([v])[:, 0], np.array([1, 3])
    for got, rows in ((memory.of_unit_pairs(z), slice(None)), (memory.of_unit_pairs(z, used), used)):
        for found, expected in zip(got, (S[rows] @ v, Y[rows] @ v), strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=64 * EPS * np.linalg.norm(v))


def test_combine_without_pairs_is_the_scaled_base():
    memory = PairMemory(np.zeros(3, dtype=np.float32), 2)
    made = memory.combine(np.zeros(4), 0.5, np.ones(3, dtype=np.float32))
    np.testing.assert_array_equal(made, np.full(3, 0.5))
    assert made.dtype == np.float32


def test_what_was_built_from_the_pairs_goes_when_they_change():
    memory = PairMemory(np.zeros(2), 2)
    memory.matrix = "stale"
    memory.push(np.zeros(2), np.ones(2))
    memory.project([])
    assert memory.matrix == "stale"  # refused: nothing changed
    memory.push(np.ones(2), np.ones(2))
    memory.project([])
    assert memory.matrix is None
    memory.matrix = "stale"
    memory.keep_newest(1)
    assert memory.matrix == "stale"  # one pair is all there is
    memory.clear()
    assert memory.matrix is None


@pytest.mark.parametrize("capacity", [10**9, 10**12, 10**30])
def test_more_pairs_than_memory_are_named(capacity):
    with pytest.raises(MemoryError, match=f"^memory: {capacity} pairs of 3 numbers do not fit"):
        PairMemory(np.zeros(3), capacity)
    with pytest.raises(MemoryError, match=r"^memory: "):
        mblsr1.minimize(lambda w: float(w @ w), lambda w: 2.0 * w, np.ones(3), memory=capacity)


@pytest.mark.parametrize("pending", [False, True])
def test_saved_and_restored(xp, pending):
    rng = np.random.default_rng(0)
    memory = PairMemory(xp(np.zeros(5)), 3)
    for _ in range(4):
        memory.push(xp(rng.standard_normal(5)), xp(rng.standard_normal(5)))
        memory.project([])
    memory.push(xp(np.zeros(5)), xp(np.ones(5)))
    memory.project([])
    memory.scores[:] = -1.5, 0.25
    last = xp(rng.standard_normal(5)), xp(rng.standard_normal(5))
    if pending:
        memory.push(*last)
    saved = memory.to_saved()
    saved["rows"] = _array.copy(saved["rows"])  # the memory goes on in its own buffer
    gram = saved["gram"].copy()
    again = PairMemory(xp(np.zeros(5)), 3).restore(saved)
    v = xp(rng.standard_normal(5))
    assert again.n_refused == memory.n_refused == 1
    assert (again.pending is None) is not pending
    np.testing.assert_array_equal(again.scores, [-1.5, 0.25])
    np.testing.assert_array_equal(again.project([v]), memory.project([v]))
    for _ in range(2):  # both go on alike, and what was saved stays as it was
        pair = xp(rng.standard_normal(5)), xp(rng.standard_normal(5))
        for m in (memory, again):
            m.push(*pair)
            m.project([])
    assert again.order == memory.order
    np.testing.assert_array_equal(again.gram, memory.gram)
    np.testing.assert_array_equal(xp.to_numpy(again.rows), xp.to_numpy(memory.rows))
    np.testing.assert_array_equal(saved["gram"], gram)
    third = PairMemory(xp(np.zeros(5)), 3).restore(saved)
    assert third.order != memory.order or third.pending is not None


def test_restore_of_another_shape_is_an_error():
    saved = PairMemory(np.zeros(4), 3).to_saved()
    with pytest.raises(ValueError, match=r"^state: holds a pair buffer of shape \(6, 4\), but memory=2"):
        PairMemory(np.zeros(4), 2).restore(saved)
    with pytest.raises(ValueError, match=r"need \(6, 5\)"):
        PairMemory(np.zeros(5), 3).restore(saved)


def test_every_library(xp):
    rng = np.random.default_rng(1)
    memory = PairMemory(xp(np.zeros(6)), 2)
    data = rng.standard_normal((3, 2, 6)).astype(np.float32)
    for s, y in data:
        memory.push(xp(s), xp(y))
        memory.project([])
    assert xp.is_kind(memory.rows)
    S, Y = data[1:, 0].astype(float), data[1:, 1].astype(float)
    blocks, scale = memory.blocks(), np.linalg.norm(S, axis=1)
    np.testing.assert_allclose(blocks.SY, S @ Y.T / np.outer(scale, scale), rtol=0, atol=10 * xp.eps)
    np.testing.assert_allclose(blocks.YY, Y @ Y.T / np.outer(scale, scale), rtol=0, atol=30 * xp.eps)


def fill(count):
    return [(np.array([1.0, float(i)]), np.array([2.0, float(i)])) for i in range(count)]


@pytest.mark.parametrize("ratio", [-1.0, 0.5, NAN])
def test_classic_rule_keeps_every_pair(ratio):
    """m_hat = -1: Algorithm 3, lines 11-12."""
    memory = PairMemory(np.zeros(2), 3)
    assert not rules.classic()(memory, trial(np.ones(2), np.ones(2), ratio * -1.0), fill)
    memory.project([])
    assert len(memory) == 1
    for s, y in ((None, None), (np.ones(2), None), (None, np.ones(2))):
        assert not rules.classic()(memory, trial(s, y), fill)
        assert memory.pending is None
    memory.project([])
    assert len(memory) == 1


@pytest.mark.parametrize("refill", [0, 1, 3])
@pytest.mark.parametrize("tau", [-0.5, 0.0, 0.25])
@given(ratio=st.floats(-2, 2))
def test_restart_rule(refill, tau, ratio):
    """Below tau the memory holds exactly the sampled pairs, else also the new one (reading 12)."""
    memory = PairMemory(np.zeros(2), 3)
    memory.push(np.array([0.0, 1.0]), np.ones(2))
    restarted = rules.restart(tau, refill)(memory, trial(np.array([1.0, 1.0]), np.ones(2), -ratio * 4.0, -4.0), fill)
    memory.project([])
    assert restarted == (ratio < tau)
    if restarted:
        assert_holds(memory, fill(refill))
    else:
        assert_holds(memory, [(np.array([0.0, 1.0]), np.ones(2)), (np.array([1.0, 1.0]), np.ones(2))])


@pytest.mark.parametrize(("ratio", "left"), [(-0.01, 0), (0.0, 2), (0.5, 2)])
def test_by_default_a_loss_that_grows_empties_the_memory_and_nothing_is_sampled(ratio, left):
    def forbidden(count):
        raise AssertionError(f"{count} pairs were asked for")

    memory = PairMemory(np.zeros(2), 3)
    memory.push(np.array([0.0, 1.0]), np.ones(2))
    assert rules.restart()(memory, trial(np.ones(2), np.ones(2), -ratio), forbidden) == (left == 0)
    memory.project([])
    assert len(memory) == left


@pytest.mark.parametrize(("decrease", "predicted"), [(NAN, -1.0), (1.0, 0.0), (1.0, NAN)])
def test_restart_rule_without_a_ratio_keeps_the_pair(decrease, predicted):
    memory = PairMemory(np.zeros(2), 3)
    assert not rules.restart(0.0, 0)(memory, trial(np.ones(2), np.ones(2), decrease, predicted), fill)
    memory.project([])
    assert len(memory) == 1
