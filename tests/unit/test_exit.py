"""Algorithm 2: the whole set is evaluated only where the batch gradient is small, and not too often."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mblsr1.rules.exit import ExitState, exit_check


def forbidden():
    raise AssertionError("the whole set was evaluated")


@pytest.mark.parametrize("norm", [1.0001, math.inf, math.nan])
@pytest.mark.parametrize("is_full", [False, True])
def test_a_large_gradient_goes_on(norm, is_full):
    assert exit_check(ExitState(), norm, 1.0, 5, is_full, forbidden) == (False, ExitState(0))


@pytest.mark.parametrize("wait", [0, 3])
def test_the_whole_set_needs_no_second_evaluation(wait):
    assert exit_check(ExitState(wait), 1.0, 1.0, 5, True, forbidden) == (True, ExitState(max(wait - 1, 0)))


@pytest.mark.parametrize(("full_norm", "done"), [(0.5, True), (1.0, True), (1.5, False), (math.nan, False)])
def test_a_small_batch_gradient_is_confirmed(full_norm, done):
    assert exit_check(ExitState(), 0.1, 1.0, 5, False, lambda: full_norm) == (done, ExitState(5))


def test_gtol_zero_needs_a_zero_gradient():
    assert exit_check(ExitState(), 0.0, 0.0, 5, True, forbidden)[0]
    assert not exit_check(ExitState(), 1e-300, 0.0, 5, True, forbidden)[0]


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 10))
def test_at_most_one_evaluation_in_k_steps(small, every):
    """And as soon as it is allowed again."""
    state, evaluated = ExitState(), []
    for step, is_small in enumerate(small):
        _, state = exit_check(
            state, 0.5 if is_small else 2.0, 1.0, every, False, lambda step=step: evaluated.append(step) or 9.0
        )
    expected = []
    for step, is_small in enumerate(small):
        if is_small and (not expected or step - expected[-1] >= every):
            expected.append(step)
    assert evaluated == expected
