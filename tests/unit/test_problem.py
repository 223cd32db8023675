"""The oracle: calls, cost in thirds of a sample-gradient, budget, checks; the full gradient."""

import contextlib
import math

import numpy as np
import pytest

from mblsr1.problem import CHUNK, BudgetSpent, Counts, Problem
from mblsr1.sampling import ArraySampler, IndexSampler

W = np.array([1.0, -2.0])


class User:
    """Functions of a batch that remember how they were called."""

    def __init__(self):
        self.calls = []

    def fun(self, w, batch):
        self.calls.append(("fun", w.shape, batch))
        return float(np.sum(w**2))

    def grad(self, w, batch):
        self.calls.append(("grad", w.shape, batch))
        return 2.0 * w

    def both(self, w, batch):
        self.calls.append(("both", w.shape, batch))
        return float(np.sum(w**2)), 2.0 * w

    def hvp(self, w, v, batch):
        self.calls.append(("hvp", v.shape, batch))
        return 2.0 * v

    def names(self):
        return [name for name, *_ in self.calls]


@pytest.fixture
def user():
    return User()


def separate(user, w0=W, limit=None):
    counts = Counts()
    counts.limit(limit)
    return Problem(user.fun, user.grad, user.hvp, w0, True, counts)


def fused(user, w0=W, limit=None):
    counts = Counts()
    counts.limit(limit)
    return Problem(user.both, None, None, w0, True, counts)


# --- caching ---------------------------------------------------------------------------------------


def test_each_function_is_called_once_at_an_iterate(user):
    oracle = separate(user).bind("I", 5, False)
    for _ in range(3):
        assert oracle.loss(W) == 5.0
        np.testing.assert_array_equal(oracle.gradient(W), 2.0 * W)
    assert user.names() == ["fun", "grad"]
    assert {batch for *_, batch in user.calls} == {"I"}


def test_a_fused_function_is_called_once_for_both(user):
    oracle = fused(user).bind("I", 5, False)
    assert oracle.fused
    point = oracle.point(W)
    assert (oracle.loss(W), point.f) == (5.0, 5.0)
    assert oracle.gradient(W) is point.g
    assert user.names() == ["both"]
    assert (oracle.problem.counts.nfev, oracle.problem.counts.njev) == (1, 1)


def test_another_iterate_is_evaluated_anew_even_where_it_is_equal(user):
    oracle = separate(user).bind("I", 5, False)
    oracle.loss(W)
    oracle.loss(W.copy())
    oracle.loss(W)
    assert user.names() == ["fun"] * 3


def test_the_values_belong_to_the_iterate(user):
    oracle = separate(user).bind("I", 5, False)
    assert [oracle.loss(x) for x in (W, 2.0 * W, W)] == [5.0, 20.0, 5.0]
    oracle.loss(3.0 * W)
    np.testing.assert_array_equal(oracle.gradient(W), 2.0 * W)


def test_batches_do_not_share_what_they_know(user):
    problem = separate(user)
    problem.bind("I", 5, False).loss(W)
    problem.bind("J", 5, False).loss(W)
    assert [batch for *_, batch in user.calls] == ["I", "J"]


def test_a_method_that_needs_no_loss_pays_for_none(user):
    point = separate(user).bind("I", 5, False).point(W, needs_loss=False)
    assert math.isnan(point.f)
    assert user.names() == ["grad"]
    assert fused(user).bind("I", 5, False).point(W, needs_loss=False).f == 5.0


def test_without_a_sampler_the_functions_get_no_batch():
    problem = Problem(lambda w: float(w @ w), lambda w: 2.0 * w, lambda w, v: 2.0 * v, W, False, Counts())
    oracle = problem.bind(None, 1, True)
    assert oracle.point(W).f == 5.0
    np.testing.assert_array_equal(oracle.hvp(W, W), 2.0 * W)


def test_the_user_sees_the_shape_of_w0_and_the_method_vectors(user):
    oracle = separate(user, np.zeros((2, 3))).bind("I", 1, False)
    vector = np.arange(6.0)
    assert oracle.gradient(vector).shape == (6,)
    assert oracle.hvp(vector, vector).shape == (6,)
    oracle.loss(vector)
    assert {shape for _, shape, _ in user.calls} == {(2, 3)}


# --- cost ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "thirds", "nfev", "njev"),
    [
        (lambda o: o.loss(W), 1, 1, 0),
        (lambda o: o.gradient(W), 3, 0, 1),
        (lambda o: o.point(W), 4, 1, 1),
        (lambda o: o.hvp(W, W), 6, 0, 0),
    ],
)
def test_cost_of_each_evaluation(user, ask, thirds, nfev, njev):
    problem = separate(user)
    for size in (1, 7, 30):
        ask(problem.bind("I", size, False))
    counts = problem.counts
    assert counts.n_samples == pytest.approx(38 * thirds / 3, rel=1e-15)
    assert (counts.nfev, counts.njev) == (3 * nfev, 3 * njev)
    if (38 * thirds) % 3 == 0:
        assert type(counts.n_samples) is int


def test_a_fused_evaluation_costs_one_gradient(user):
    problem = fused(user)
    problem.bind("I", 7, False).point(W)
    assert problem.counts.n_samples == 7


def test_thirds_add_up_exactly():
    counts = Counts()
    for k in range(1, 3001):
        counts.spend(1, 1)
        assert counts.n_samples == k / 3
    assert (counts.n_samples, type(counts.n_samples)) == (1000, int)


def test_counts_are_saved_and_restored():
    counts, other = Counts(), Counts()
    counts.spend(5, 1)
    counts.nfev = 3
    other.restore(counts.to_saved())
    assert (other.n_samples, other.nfev, other.njev) == (5 / 3, 3, 0)
    other.spend(1, 1)
    assert (other.n_samples, counts.n_samples) == (2, 5 / 3)


# --- budget ----------------------------------------------------------------------------------------


def test_an_evaluation_beyond_the_budget_is_not_made(user):
    problem = separate(user, limit=10)
    oracle = problem.bind("I", 6, False)
    oracle.gradient(W)
    oracle.loss(W)  # 8 of 10
    for ask in (lambda: oracle.gradient(2.0 * W), lambda: oracle.hvp(W, W)):
        with pytest.raises(BudgetSpent):
            ask()
    assert user.names() == ["grad", "fun"]
    assert problem.counts.n_samples == 8
    oracle.loss(2.0 * W)  # the last third fits exactly
    assert problem.counts.n_samples == 10
    with pytest.raises(BudgetSpent):
        problem.bind("I", 1, False).loss(W)


def test_a_fused_evaluation_beyond_the_budget_is_not_made(user):
    oracle = fused(user, limit=10).bind("I", 6, False)
    oracle.loss(W)
    with pytest.raises(BudgetSpent):
        oracle.loss(2.0 * W)
    assert user.names() == ["both"]


def test_a_limit_counts_from_when_it_is_set():
    counts = Counts()
    counts.spend(100, 3)
    counts.limit(1)
    counts.spend(1, 3)
    with pytest.raises(BudgetSpent):
        counts.spend(1, 1)
    counts.limit(None)
    counts.spend(10**9, 3)


@pytest.mark.parametrize("k", range(1, 30))
def test_a_budget_in_thirds_is_not_lost_to_rounding(k):
    counts = Counts()
    counts.limit(k / 3)
    for _ in range(k):
        counts.spend(1, 1)
    with pytest.raises(BudgetSpent):
        counts.spend(1, 1)


# --- numbers that are not finite -------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), np.array(-np.inf)])
def test_a_loss_that_is_not_finite_is_plus_infinity(value):
    problem = Problem(lambda w: value, lambda w: w, None, W, False, Counts())
    assert problem.bind(None, 1, True).loss(W) == math.inf


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_none(value):
    g = np.array([1.0, value])
    problem = Problem(lambda w: (1.0, g), None, None, W, False, Counts())
    oracle = problem.bind(None, 1, True)
    assert oracle.gradient(W) is None
    assert oracle.gradient(W) is None
    assert oracle.loss(W) == 1.0
    assert problem.counts.njev == 1


def test_a_gradient_whose_sum_overflows_is_finite():
    g = np.full(2, 1.7e308)
    problem = Problem(lambda w: 1.0, lambda w: g, None, W, False, Counts())
    np.testing.assert_array_equal(problem.bind(None, 1, True).gradient(W), g)


@pytest.mark.parametrize("value", [3, 2.5, np.float32(2.5), np.int8(3), np.array(2.5), True, np.True_])
def test_losses_are_python_floats(value):
    loss = Problem(lambda w: value, None, None, W, False, Counts()).bind(None, 1, True).problem.loss_of(value)
    assert (loss, type(loss)) == (float(value), float)


# --- the whole set ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 4, 7, 10, 11, 100])
def test_the_full_gradient_is_the_mean_over_the_set(size):
    data = np.random.default_rng(2).standard_normal((10, 2))
    problem = Problem(None, lambda w, b: 2.0 * (w - b[0].mean(axis=0)), None, W, True, Counts())
    g = problem.full_gradient(W, ArraySampler(data).chunks(size))
    np.testing.assert_allclose(g, 2.0 * (W - data.mean(axis=0)), rtol=1e-14)
    assert problem.counts.n_samples == 10
    assert problem.counts.njev == -(-10 // size)


def test_the_full_gradient_weighs_uneven_chunks():
    problem = Problem(None, lambda w, b: np.full(2, float(b)), None, W, True, Counts())
    g = problem.full_gradient(W, [(1.0, 1), (5.0, 3), (2.0, 6)])
    np.testing.assert_allclose(g, (1.0 + 15.0 + 12.0) / 10.0, rtol=1e-15)


def test_the_full_gradient_keeps_dtype_and_shape():
    w = np.zeros(6, dtype=np.float32)
    problem = Problem(None, lambda w, b: np.ones_like(w), None, w.reshape(2, 3), True, Counts())
    g = problem.full_gradient(w, IndexSampler(7).chunks(3))
    assert (g.dtype, g.shape) == (np.float32, (6,))


def test_the_full_gradient_is_none_where_a_chunk_is_not_finite():
    problem = Problem(None, lambda w, b: np.full(2, np.nan if 4 in b else 1.0), None, W, True, Counts())
    assert problem.full_gradient(W, IndexSampler(6).chunks(2)) is None
    assert problem.full_gradient(W, IndexSampler(4).chunks(2)) is not None


def test_the_full_gradient_respects_the_budget(user):
    problem = separate(user, limit=5)
    with pytest.raises(BudgetSpent):
        problem.full_gradient(W, IndexSampler(6).chunks(2))
    assert problem.counts.n_samples == 4


@pytest.mark.parametrize(
    ("chunks", "error", "got"),
    [
        ([], ValueError, "the whole set, n_samples=6, got 0 samples"),
        ([([0, 1], 2)], ValueError, "the whole set, n_samples=6, got 2 samples"),
        ([(range(7), 7)], ValueError, "the whole set, n_samples=6, got 7 samples"),
        ([([0], 0)], ValueError, "count an int >= 1; got "),
        ([([0], -5)], ValueError, "count an int >= 1; got "),
        ([([0], 6.0)], ValueError, "count an int >= 1; got "),
        ([np.arange(6)], ValueError, r"count an int >= 1; got array\(\[0"),
        ([np.arange(2)], ValueError, r"count an int >= 1; got array\(\[0"),
        (None, TypeError, "count an int >= 1; got NoneType"),
    ],
)
def test_chunks_are_the_whole_set(chunks, error, got, user):
    oracle = over(separate(user), 6, lambda size: chunks)
    with pytest.raises(error, match=rf"^sampler: chunks.size. must yield .*{got}"):
        oracle.whole_gradient(W)


def test_chunks_of_an_unknown_whole_are_some_at_least(user):
    with pytest.raises(ValueError, match=r"^sampler: chunks.size. must yield .*got 0 samples"):
        separate(user).full_gradient(W, [])


def test_counts_of_numpy_are_counts(user):
    oracle = over(separate(user), 6, lambda size: [(range(6), np.int64(6))])
    np.testing.assert_array_equal(oracle.whole_gradient(W), 2.0 * W)


def over(problem, n, chunks):
    problem.over_whole_set(n, chunks)
    return problem.bind([0], 1, False)


def test_an_oracle_evaluates_the_whole_set_in_large_chunks(user):
    asked = []

    def chunks(size):
        asked.append(size)
        return IndexSampler(6).chunks(4)

    oracle = over(separate(user), 6, chunks)
    np.testing.assert_array_equal(oracle.whole_gradient(W), 2.0 * W)
    assert oracle.n_samples == 6
    assert asked == [CHUNK]
    assert [len(batch) for _, _, batch in user.calls] == [4, 2]
    assert oracle.problem.counts.n_samples == 6
    oracle.size = 2 * CHUNK  # a batch of that size fits: so do chunks
    oracle.whole_gradient(W)
    assert asked == [CHUNK, 2 * CHUNK]


@pytest.mark.parametrize(("limit", "calls"), [(5.9, 0), (6, 3)])
def test_the_whole_set_is_paid_for_as_one(user, limit, calls):
    oracle = over(separate(user, limit=limit), 6, lambda size: IndexSampler(6).chunks(2))
    with pytest.raises(BudgetSpent) if not calls else contextlib.nullcontext():
        oracle.whole_gradient(W)
    assert len(user.calls) == calls
    assert oracle.problem.counts.n_samples == 2 * calls


def test_a_stream_has_no_gradient_over_the_whole_set(user):
    for oracle in (separate(user).bind([0], 1, False), over(separate(user), None, lambda size: [])):
        with pytest.raises(ValueError, match=r"^sampler: the gradient over the whole set needs a sampler with a known"):
            oracle.whole_gradient(W)
