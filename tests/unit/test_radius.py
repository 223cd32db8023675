"""Algorithm 5 against its literal text, and what every radius rule keeps."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mblsr1.rules.radius import BOUNDARY, RadiusRule, doubling, interpolated, progressive
from mblsr1.types import NAN, Trial

EPS = float(np.finfo(float).eps)


def trial(decrease, predicted, s_norm, slope=NAN, slope_new=NAN):
    return Trial(
        None, None, None, s_norm, decrease, predicted, decrease, True, 1.0, 0.0, 1.0, slope=slope, slope_new=slope_new
    )


numbers = st.floats(-1e6, 1e6)
anything = numbers | st.sampled_from([math.nan, math.inf, -math.inf, 0.0])
trials = st.builds(
    trial,
    anything,
    anything | st.floats(-1e6, -1e-6),
    st.floats(0, 1e6),
    numbers | st.just(NAN),
    numbers | st.just(NAN),
)
#: (R, Q, ||s|| / delta) of steps that have a ratio
steps = st.lists(
    st.tuples(st.floats(-20, 20), st.floats(-10, -0.01), st.sampled_from([0.1, 0.9, 0.9991, 1.0])),
    min_size=1,
    max_size=12,
)
#: Made anew in each test.
RULES = [
    progressive,
    lambda: progressive(0.9, "mean-of-ratios", 1.0),
    lambda: progressive(0.0),
    lambda: progressive(0.9, "mean-of-ratios", thresholds=(0.4, 0.8), reset=True),
    lambda: interpolated(progressive(0.9)),
]
#: Here a Q that noise made positive counts in the sums.
NOISY_SUMS = lambda: progressive(0.9, thresholds=(0.4, 0.8), reset=True)  # noqa: E731
all_rules = st.sampled_from([*RULES, NOISY_SUMS, doubling])


@given(all_rules, st.lists(st.tuples(trials, st.booleans()), max_size=30), st.floats(1e-12, 1e5), st.floats(1, 1e3))
def test_the_radius_stays_within_its_limits(make, sequence, delta_0, scale):
    rule = make()
    for eps, lowest in ((2.2e-16, 1e-10), (1.2e-7, 1e-8)):
        state = rule.init(delta_0, scale, eps)
        assert state.smallest == pytest.approx(lowest * min(scale, max(1e4 * delta_0, 1e-4 * scale)), rel=4 * EPS)
        assert state.delta == pytest.approx(max(delta_0, lowest * 1e-4 * scale), rel=4 * EPS)
        assert state.largest == max(100 * scale, delta_0)
        for t, full in sequence:
            state = rule.update(state, t, full)
            assert state.smallest <= state.delta <= state.largest


@pytest.mark.parametrize("s_norm", [0.1, 1.0], ids=["inside", "boundary"])
@pytest.mark.parametrize(
    ("ratio", "factor"),
    [(0.0999, 0.5), (0.1, 1.0), (0.75, 1.0), (0.7501, 2.0), (-3.0, 0.5), (NAN, 0.5), (-math.inf, 0.5), (math.inf, 2.0)],
)
def test_doubling_is_by_the_ratio_alone(ratio, factor, s_norm):
    """adjustTR of S-LSR1: where the step ended does not matter, and a ratio that is no number is a poor one."""
    rule = doubling()
    state = rule.init(1.0, 1.0, 1e-16)
    for _ in range(2):  # no memory of older ratios
        before, state = state.delta, rule.update(state, trial(-ratio, -1.0, s_norm), False)
        assert state.delta == factor * before


def test_initial_state():
    state = progressive().init(0.5, 2.0, 2.2e-16)
    assert (state.delta, state.T, state.numerator, state.denominator) == (0.5, 0.0, 0.0, 0.0)
    assert math.isnan(state.rho_hat)


@given(all_rules, st.floats(-30, 30), st.floats(0, 30), st.floats(0.01, 1.0), st.booleans(), numbers, numbers)
def test_a_better_ratio_never_gives_a_smaller_radius(make, rho, more, share, full, slope, slope_new):
    """With all else equal; the slope along p counts after both or after neither."""
    rule, slope = make(), -abs(slope) - 1e-3
    state = rule.init(1.0, 1.0, 2.2e-16)

    def radius(ratio):
        return rule.update(state, trial(-ratio, -1.0, share, slope, slope_new), full).delta

    if not full or rho < 0.1 <= rho + more:
        assert radius(rho) <= radius(rho + more)


@given(steps, st.floats(0, 1), st.floats(0.1, 1.0))
def test_ratio_of_means_is_theorem_4_4(sequence, zeta, shrink):
    """rho_hat = sum zeta^(k-j) R_j / sum zeta^(k-j) Q_j, and lines 6-10 of Algorithm 5."""
    rule = progressive(zeta, "of-means", shrink)
    state, delta = rule.init(1.0, 1.0, 2.2e-16), 1.0
    for k in range(len(sequence)):
        R, Q, share = sequence[k]
        weights = [zeta ** (k - j) for j in range(k + 1)]
        top = sum(w * sequence[j][0] for j, w in enumerate(weights))
        bottom = sum(w * sequence[j][1] for j, w in enumerate(weights))
        state = rule.update(state, trial(R, Q, share * delta), False)
        size = sum(w * abs(sequence[j][0]) for j, w in enumerate(weights))
        assert state.rho_hat == pytest.approx(top / bottom, rel=1e-12, abs=1e-12 * size / abs(bottom))
        assert pytest.approx(sum(weights), rel=1e-12) == state.T
        delta = literal_radius(delta, state.rho_hat, share * delta, shrink, state)
        assert state.delta == delta


def literal_radius(delta, rho_hat, s_norm, shrink, state):
    """Algorithm 5, lines 6-10, with the limits of reading 15."""
    if rho_hat < 0.1:
        delta = shrink * min(delta, s_norm)
    elif rho_hat >= 0.5 and s_norm >= (1 - 1e-3) * delta:
        delta = 2 * delta
    return min(max(delta, state.smallest), state.largest)


@given(steps, st.floats(0, 1))
def test_mean_of_ratios_is_algorithm_5(sequence, zeta):
    """Lines 3-5 as printed, with each ratio clipped to [-10, 10]."""
    rule = progressive(zeta, "mean-of-ratios", 1.0)
    state, delta, T, rho_hat = rule.init(1.0, 1.0, 2.2e-16), 1.0, 0.0, 0.0
    for R, Q, share in sequence:
        rho = min(max(R / Q, -10.0), 10.0)
        rho_hat = (zeta * T * rho_hat + rho) / (zeta * T + 1)
        T = zeta * T + 1
        state = rule.update(state, trial(R, Q, share * delta), False)
        assert state.rho_hat == pytest.approx(rho_hat, rel=1e-11, abs=1e-11)
        assert pytest.approx(T, rel=1e-12) == state.T
        delta = literal_radius(delta, state.rho_hat, share * delta, 1.0, state)
        assert state.delta == delta


@given(steps, st.sampled_from(["of-means", "mean-of-ratios"]))
def test_zeta_0_and_the_whole_set_are_the_classic_ratio(sequence, ratio):
    classic, full = progressive(0.0, ratio), progressive(0.7, ratio)
    a, b = classic.init(1.0, 1.0, 2.2e-16), full.init(1.0, 1.0, 2.2e-16)
    for R, Q, share in sequence:
        t = trial(R, Q, share * a.delta)
        a, b = classic.update(a, t, False), full.update(b, t, True)
        rho = R / Q if ratio == "of-means" else min(max(R / Q, -10.0), 10.0)
        assert a.rho_hat == pytest.approx(rho, rel=1e-15, abs=0)
        assert b == a


def test_zeta_1_is_the_plain_mean():
    rule = progressive(1.0, "mean-of-ratios")
    state = rule.init(1.0, 1.0, 2.2e-16)
    for rho in (1.0, 2.0, -3.0, 4.0):
        state = rule.update(state, trial(-rho, -1.0, 0.5), False)
    assert state.rho_hat == 1.0
    assert state.T == 4.0


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pair", [(math.nan, -1.0), (-1.0, 0.0), (-1.0, 1.0), (-1.0, math.nan)])
@pytest.mark.parametrize("make", RULES, ids=range(len(RULES)))
def test_a_step_without_a_ratio_changes_nothing(make, pair, full):
    rule = make()
    state = rule.init(1.0, 1.0, 2.2e-16)
    assert rule.update(state, trial(*pair, 1.0, -1.0, -1.0), full) == state


@pytest.mark.parametrize(("shrink", "expected"), [(0.5, 0.5), (1.0, 1.0)])
def test_the_printed_rule_does_not_shrink_at_the_boundary(shrink, expected):
    """Reading 15: with ||s|| = delta the printed first branch leaves delta as it is."""
    rule = progressive(0.0, "of-means", shrink)
    state = rule.update(rule.init(1.0, 1.0, 2.2e-16), trial(1.0, -1.0, 1.0), False)
    assert state.delta == expected


@pytest.mark.parametrize("full", [False, True])
def test_interpolated_rule_is_for_the_whole_set(full):
    noisy = progressive(0.9)
    rule = interpolated(noisy)
    start, t = rule.init(1.0, 1.0, 2.2e-16), trial(-0.6, -1.0, 1.0, -1.0, 0.5)
    state = rule.update(start, t, full)
    assert (state == noisy.update(start, t, full)) is not full


@given(st.floats(-5, -0.1), st.floats(-5, 5), st.floats(0.11, 3))
def test_poor_ratio_interpolates_by_the_cubic(slope, slope_new, rise):
    """The radius becomes the minimiser, in (0.1, 0.5) of the step, of the cubic through losses and slopes."""
    rule = interpolated(progressive())
    t = trial(rise, -1.0, 0.8, slope, slope_new)
    state = rule.update(rule.init(1.0, 1.0, 2.2e-16), t, True)
    # c(x) = slope x + b x^2 + a x^3 with c(1) = rise, c'(1) = slope_new
    a, b = slope + slope_new - 2 * rise, 3 * rise - 2 * slope - slope_new
    roots = np.roots([3 * a, 2 * b, slope]) if abs(a) > 1e-9 else np.array([-slope / (2 * b)])
    minimum = [x.real for x in roots if abs(x.imag) < 1e-12 and 6 * a * x.real + 2 * b > 0]
    expected = min(max(minimum[0] if minimum else 0.5, 0.1), 0.5)
    assert state.delta == pytest.approx(0.8 * expected, rel=1e-6)


@pytest.mark.parametrize("slope", [0.0, 0.5, NAN])
def test_a_poor_step_that_does_not_descend_halves_the_radius(slope):
    rule = interpolated(progressive())
    state = rule.update(rule.init(1.0, 1.0, 2.2e-16), trial(1.0, -1.0, 0.8, slope, 0.3), True)
    assert state.delta == 0.4


def test_where_the_loss_falls_in_a_straight_line_a_poor_step_halves_the_radius():
    rule = interpolated(progressive())
    state = rule.update(rule.init(1.0, 1.0, 2.2e-16), trial(-1.0, -100.0, 0.8, -1.0, -1.0), True)
    assert state.delta == 0.4


def test_the_minimiser_is_found_wherever_it_is():
    """On a grid of slopes and changes of the loss with rho < 0.25, where the cubic has a minimum ahead or none."""
    rule, kinds = interpolated(progressive()), set()
    start = rule.init(1.0, 1.0, 2.2e-16)
    for slope in (-4.0, -1.0, -0.3):
        for slope_new in np.linspace(-30.0, 8.0, 39) + 0.01:
            for rise in np.linspace(-6.0, 3.0, 31) + 0.007:
                state = rule.update(start, trial(rise, -100.0, 0.8, slope, slope_new), True)
                a, b = slope + slope_new - 2 * rise, 3 * rise - 2 * slope - slope_new
                ahead = [x.real for x in np.roots([3 * a, 2 * b, slope]) if x.imag == 0.0 and x.real > 0.0]
                ahead = [x for x in ahead if 6 * a * x + 2 * b > 0.0]
                expected = min(max(ahead[0] if ahead else 0.5, 0.1), 0.5)
                kinds.add((a > 0, len(ahead)))
                assert state.delta == pytest.approx(0.8 * expected, rel=1e-9)
    assert kinds == {(True, 1), (False, 1), (False, 0)}


@pytest.mark.parametrize(
    ("rho", "share", "delta"), [(0.25, 0.8, 1.0), (0.6, 1.0, 1.0), (0.7, 0.8, 1.0), (0.7, 0.9, 1.8), (0.7, 0.5, 1.0)]
)
def test_the_limits_on_the_whole_set(rho, share, delta):
    """Under 0.25 it shrinks, over 0.6 and over 0.8 of the radius it grows; at the limits it stays."""
    rule = interpolated(progressive())
    state = rule.update(rule.init(1.0, 1.0, 2.2e-16), trial(-rho, -1.0, share, -1.0, -0.2), True)
    assert state.delta == pytest.approx(delta, rel=1e-15)


@pytest.mark.parametrize(("rho", "share", "delta"), [(0.1, 1.0, 1.0), (0.5, BOUNDARY, 2.0)])
def test_the_limits_of_algorithm_5(rho, share, delta):
    """Lines 6 and 8: rho_hat = 0.1 is not poor, and from the boundary on it grows."""
    rule = progressive(0.0)
    assert rule.update(rule.init(1.0, 1.0, 2.2e-16), trial(-rho, -1.0, share), False).delta == delta


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("unit", [0.25, 4.0])
@pytest.mark.parametrize("make", RULES, ids=range(len(RULES)))
def test_units_of_length(make, unit, full):
    """With all lengths times a power of two the radius is so, too: only the limits have a length of their own."""
    rule = make()
    for rho in (-1.0, 0.3, 0.9):
        for share in (0.4, 0.9, 1.0):
            one, other = (
                rule.update(rule.init(delta, 100.0, 2.2e-16), trial(-rho, -1.0, share * delta, -1.0, -0.2), full).delta
                for delta in (1.0, unit)
            )
            assert other == unit * one


def test_on_the_whole_set_the_ratio_is_that_of_the_last_step():
    rule = interpolated(progressive(0.9))
    state = rule.init(1.0, 1.0, 2.2e-16)
    for rho in (0.7, 0.3, 0.5):
        state = rule.update(state, trial(-2.0 * rho, -2.0, 0.1, -1.0, 0.0), True)
        assert state.rho_hat == pytest.approx(rho, rel=1e-15)


def test_a_sample_is_left_to_the_noisy_rule():
    calls = []
    rule = interpolated(RadiusRule(progressive().init, lambda *arguments: calls.append(arguments)))
    rule.update("state", "trial", False)
    assert calls == [("state", "trial", False)]


def test_by_default_the_sums_are_plain_ones():
    one, other = progressive(), progressive(1.0)
    a, b = one.init(1.0, 1.0, 2.2e-16), other.init(1.0, 1.0, 2.2e-16)
    for rho in (0.2, 0.9, 0.4):
        a, b = (rule.update(x, trial(-rho, -1.0, 0.5), False) for rule, x in ((one, a), (other, b)))
    assert a == b


@pytest.mark.parametrize(
    ("slope_new", "growth"), [(-0.1, 2.0), (-0.8, 5.0), (-0.99, 10.0), (-1.0, 10.0), (-1.5, 10.0), (0.5, 2.0)]
)
def test_good_ratio_grows_to_where_the_slope_vanishes(slope_new, growth):
    """Slopes -1 at 0 and slope_new at 1: the secant is zero at 1/(1 + slope_new), kept within 2 and 10."""
    rule = interpolated(progressive())
    start = rule.init(1.0, 1.0, 2.2e-16)
    state = rule.update(start, trial(-0.9, -1.0, 1.0, -1.0, slope_new), True)
    assert state.delta == pytest.approx(growth, rel=1e-12)
    short = rule.update(start, trial(-0.9, -1.0, 0.5, -1.0, slope_new), True)
    assert short.delta == 1.0
    fair = rule.update(start, trial(-0.5, -1.0, 1.0, -1.0, slope_new), True)
    assert fair.delta == 1.0


@given(
    st.lists(
        st.tuples(st.floats(-20, 20), st.floats(-10, 10), st.sampled_from([0.1, 0.9, 0.9991, 1.0])),
        min_size=1, max_size=20,
    ),
    st.sampled_from([0.0, 0.5, 0.9, 1.0]),
)  # fmt: skip
def test_with_reset_the_sums_begin_anew_after_each_change(sequence, zeta):
    """Literally: R and Q since the last change; nothing happens while the sum of Q promises no decrease."""
    rule = progressive(zeta, thresholds=(0.4, 0.8), reset=True)
    state, delta, since = rule.init(1.0, 1.0, 2e-16), 1.0, []
    for R, Q, share in sequence:
        length = share * delta
        state = rule.update(state, trial(R, Q, length), False)
        since.append((R, Q))
        weights = [zeta ** (len(since) - 1 - i) for i in range(len(since))]
        top, bottom = (sum(w * x for w, x in zip(weights, column, strict=True)) for column in zip(*since, strict=True))
        if abs(bottom) < 1e-9 or min(abs(top / bottom - 0.4), abs(top / bottom - 0.8)) < 1e-9:
            return  # rounding decides
        if bottom < 0.0 and top / bottom < 0.4:
            delta, since = 0.5 * length, []
        elif bottom < 0.0 and top / bottom >= 0.8 and share > 0.999:
            delta, since = 2.0 * delta, []
        delta = min(max(delta, state.smallest), state.largest)
        assert state.delta == pytest.approx(delta, rel=1e-12)
        assert math.isnan(state.rho_hat) if not since else state.rho_hat == pytest.approx(top / bottom, rel=1e-9)
        delta = state.delta


def test_an_average_of_ratios_with_reset_moves_the_radius():
    rule = progressive(0.9, "mean-of-ratios", thresholds=(0.4, 0.8), reset=True)
    start = rule.init(1.0, 1.0, 2e-16)
    assert rule.update(start, trial(-1.0, -1.0, 1.0), False).delta == 2.0
    assert rule.update(start, trial(1.0, -1.0, 1.0), False).delta == 0.5
    changed = rule.update(start, trial(1.0, -1.0, 1.0), False)
    assert math.isnan(changed.rho_hat)
    assert rule.update(changed, trial(-0.6, -1.0, 0.5), False).rho_hat == 0.6  # of this step alone


@pytest.mark.parametrize("ratio", ["of-means", "mean-of-ratios"])
@pytest.mark.parametrize("predicted", [0.0, NAN, math.inf, -math.inf, 1.0])
def test_a_prediction_that_is_none_leaves_the_radius_and_the_sums_usable(ratio, predicted):
    rule = progressive(0.9, ratio, thresholds=(0.4, 0.8), reset=True)
    state = rule.update(rule.init(1.0, 1.0, 2e-16), trial(-1.0, predicted, 1.0), False)
    assert state.delta == 1.0
    for _ in range(20):
        state = rule.update(state, trial(-1.0, -1.0, state.delta), False)
    assert state.delta > 10.0
