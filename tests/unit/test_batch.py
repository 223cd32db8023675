"""Algorithm 6: when the batch doubles, and what the rule remembers."""

import math
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mblsr1.rules.batch import default_check_size, fixed, initial_check_state, noise_growth, progress_check
from mblsr1.types import CheckState, Outcome


class Problem:
    """Hands out losses from a list and records what was asked."""

    def __init__(self, n_samples, losses):
        self.n_samples, self.losses, self.asked = n_samples, list(losses), []

    def fresh_loss(self, size, *iterates):
        self.asked.append((size, iterates))
        return [self.losses.pop(0) for _ in iterates]


def outcome(achieved=-1.0, w="w"):
    return Outcome(w, 0.0, None, achieved, {})


def run(rule, problem, start, achieved):
    state, sizes = initial_check_state(start), []
    for i, a in enumerate(achieved):
        state = rule(state, outcome(a, f"w{i + 1}"), problem)
        sizes.append(state.size)
    return state, sizes


@given(st.integers(1, 10**7))
def test_default_check_size(n):
    """ceil(min(1.1 n_b, 5000)), without a rounding of 1.1."""
    assert default_check_size(n) == math.ceil(min(Fraction(11, 10) * n, 5000))


losses = st.floats(-100, 100) | st.sampled_from([math.nan, math.inf])


@given(
    st.integers(1, 3000) | st.none(),
    st.integers(1, 200),
    st.integers(1, 4),
    st.floats(0, 1),
    st.floats(0, 0.9),
    st.lists(st.floats(-10, 10), max_size=30),
    st.lists(losses, min_size=70, max_size=70),
    st.booleans(),
)
def test_the_batch_only_doubles_and_never_exceeds_the_set(total, start, every, g1, g2, achieved, values, both):
    start = start if total is None else min(start, total)
    problem = Problem(total, values)
    _, sizes = run(progress_check(every, g1, g2, both=both), problem, start, achieved)
    last = start
    for size in sizes:
        assert size in (last, 2 * last if total is None else min(2 * last, total))
        last = size
    for size, _ in problem.asked:
        assert size >= 1
        assert total is None or size <= total


@given(
    st.integers(1, 4),
    st.floats(0, 1),
    st.floats(0, 0.9),
    st.lists(st.floats(-10, 10), min_size=1, max_size=30),
    st.lists(st.floats(-100, 100), min_size=40, max_size=40),
)
def test_against_the_text(every, g1, g2, achieved, values):
    """The first step sets f_K; then after exactly K steps f - f_K < -gamma_1 + gamma_2 sum R, or the batch doubles."""
    problem = Problem(10**9, values)
    _, sizes = run(progress_check(every, g1, g2), problem, 10, achieved)
    queue, size, f_K, total, since, expected = list(values), 10, None, 0.0, 0, []
    for a in achieved:
        total, since = total + a, since + 1
        if f_K is None:
            f_K, total, since = queue.pop(0), 0.0, 0
        elif since == every:
            f = queue.pop(0)
            if not f - f_K < -g1 + g2 * total:
                size *= 2
            f_K, total, since = f, 0.0, 0
        expected.append(size)
    assert sizes == expected
    assert problem.losses == queue


@given(st.lists(st.floats(-10, 10), min_size=7, max_size=7), st.lists(st.floats(-100, 100), min_size=9, max_size=9))
def test_both_iterates_on_one_sample(achieved, values):
    """`both` measures w_K anew: two losses a check, of the new iterate and the one of the last check."""
    problem = Problem(10**9, values)
    _, sizes = run(progress_check(2, 0.0, 0.5, both=True), problem, 10, achieved)
    asked = [iterates for _, iterates in problem.asked]
    assert asked == [("w1",), ("w3", "w1"), ("w5", "w3"), ("w7", "w5")]
    size, expected = 10, [10, 10]
    for i, first in ((1, 1), (3, 3), (5, 5)):
        if not values[first] - values[first + 1] < 0.5 * (achieved[i] + achieved[i + 1]):
            size *= 2
        expected += [size] * 2
    assert sizes == expected[:7]


def test_the_first_check_only_sets_the_reference():
    problem = Problem(1000, [5.0])
    state, sizes = run(progress_check(10), problem, 8, [-1.0])
    assert sizes == [8]
    assert (state.reference, state.sum_decrease, state.since) == (5.0, 0.0, 0)


def test_a_whole_batch_is_never_checked():
    problem = Problem(8, [])
    state, sizes = run(progress_check(1), problem, 8, [-1.0, 1.0])
    assert sizes == [8, 8]
    assert state == initial_check_state(8) or state.size == 8
    assert problem.asked == []


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_doubles_and_is_no_reference(bad):
    problem = Problem(1000, [1.0, bad, 3.0, 2.0])
    state, sizes = run(progress_check(1), problem, 8, [-1.0] * 4)
    assert sizes == [8, 16, 16, 16]
    assert state.reference == 2.0


def test_the_start():
    """No step, no sum and no reference yet."""
    *counts, reference = (initial_check_state(7)._replace(reference=0.0), initial_check_state(7).reference)
    assert counts == [CheckState(7, 0.0, 0.0, 0, None)]
    assert math.isnan(reference)


def test_by_default_every_tenth_step_is_checked_and_no_iterate_is_kept():
    problem = Problem(10**6, [0.0] * 9)
    state, _ = run(progress_check(), problem, 8, [-1.0] * 31)
    assert [iterates for _, iterates in problem.asked] == [("w1",), ("w11",), ("w21",), ("w31",)]
    assert state.w is None


def test_after_a_loss_that_is_not_finite_the_next_step_sets_the_reference():
    problem = Problem(10**6, [1.0, math.inf, 5.0, 4.0])
    _, sizes = run(progress_check(3), problem, 8, [-1.0] * 8)
    assert [iterates for _, iterates in problem.asked] == [("w1",), ("w4",), ("w5",), ("w8",)]
    assert sizes == [8, 8, 8, 16, 16, 16, 16, 16]


@pytest.mark.parametrize(
    ("size", "total", "expected"),
    [
        (default_check_size, 1000, 11),
        (1, 1000, 1),
        (7, 1000, 7),
        (7, 5, 5),
        ("all", 999, 999),
        (lambda n: 3 * n, 999, 30),
    ],
)
def test_check_size(size, total, expected):
    problem = Problem(total, [1.0])
    run(progress_check(size=size), problem, min(10, total - 1), [-1.0])
    assert problem.asked[0][0] in (expected, min(expected, total))
    assert problem.asked[0][0] == (expected if total >= 999 else 5)


def test_all_needs_a_known_size():
    with pytest.raises(ValueError, match=r'^check_size: "all" needs a sampler with a known n_samples'):
        run(progress_check(size="all"), Problem(None, [1.0]), 10, [-1.0])


@pytest.mark.parametrize("bad", [0, -3, 2.5, "many"])
def test_a_function_that_returns_no_size(bad):
    with pytest.raises(ValueError, match=r"^check_size: must return an int >= 1 for a batch of 10, got"):
        run(progress_check(size=lambda n: bad), Problem(100, [1.0]), 10, [-1.0])


def test_fixed():
    state = initial_check_state(8)
    assert fixed()(state, outcome(5.0), Problem(1000, [])) is state


def noisy(*shares):
    return [Outcome("w", 0.0, None, -1.0, {} if share is None else {"noise": share}) for share in shares]


def grown(rule, problem, start, outcomes):
    state, sizes = initial_check_state(start), []
    for step in outcomes:
        state = rule(state, step, problem)
        sizes.append(state.size)
    return state, sizes


def test_the_batch_doubles_once_the_mean_noise_has_weight_four():
    """Weights 1, 1.9, 2.71, 3.439, 4.095: the fifth step is the first that may double, and the count begins anew."""
    problem = Problem(10**6, [])
    _, sizes = grown(noise_growth(0.5), problem, 8, noisy(*[0.6] * 11))
    assert sizes == [8] * 4 + [16] * 5 + [32] * 2
    assert problem.asked == []


@pytest.mark.parametrize(("share", "size"), [(0.499, 8), (0.5, 8), (0.501, 16)])
def test_the_limit_of_the_noise(share, size):
    _, sizes = grown(noise_growth(0.5), Problem(10**6, []), 8, noisy(*[share] * 5))
    assert sizes[-1] == size


@pytest.mark.parametrize(("share", "sizes"), [(0.59, [8] * 10), (0.61, [8] * 4 + [16] * 6)])
def test_the_defaults_of_the_noise(share, sizes):
    """More than 0.6 of noise, and batches up to a quarter of the set, 64 here."""
    assert grown(noise_growth(), Problem(64, []), 8, noisy(*[share] * 10))[1] == sizes


@given(st.lists(st.floats(0.0, 3.0), min_size=1, max_size=40), st.floats(0.1, 1.0))
def test_the_mean_noise_is_the_weighted_one(shares, limit):
    """Literally: weights 0.9^age over the steps since the last change."""
    rule, state, since, size = noise_growth(limit), initial_check_state(8), [], 8
    for share in shares:
        state = rule(state, noisy(share)[0], Problem(None, []))
        since.append(share)
        weights = [0.9 ** (len(since) - 1 - i) for i in range(len(since))]
        mean = sum(w * x for w, x in zip(weights, since, strict=True)) / sum(weights)
        if abs(mean - limit) < 1e-9:
            return  # rounding decides
        if sum(weights) > 4.0 and mean > limit:
            size, since = 2 * size, []
        assert state.size == size
        if since:
            assert state.sum_decrease == pytest.approx(mean, rel=1e-9, abs=1e-12)
            assert state.since == pytest.approx(sum(weights), rel=1e-12)


@given(st.integers(1, 5000) | st.none(), st.integers(1, 300), st.floats(0.01, 1.0))
def test_noise_never_grows_the_batch_above_its_share(total, start, share):
    start = start if total is None else min(start, total)
    _, sizes = grown(noise_growth(0.5, share), Problem(total, []), start, noisy(*[1.0] * 60))
    assert all(b in (a, 2 * a) for a, b in pairwise([start, *sizes]))
    if total is not None:
        assert sizes[-1] == start or sizes[-1] <= share * total
        assert 2 * sizes[-1] > share * total or len(set(sizes)) == 13


def test_a_step_without_a_noise_changes_nothing():
    """A batch without parts, one without a gradient, a rejected step."""
    rule, problem = noise_growth(0.5), Problem(10**6, [])
    with_gaps = grown(rule, problem, 8, noisy(0.6, None, 0.6, math.nan, 0.6, math.inf, 0.6, 0.6))
    without = grown(rule, problem, 8, noisy(0.6, 0.6, 0.6, 0.6, 0.6))
    assert with_gaps[1][-1] == without[1][-1] == 16
    assert with_gaps[1][-2] == 8
