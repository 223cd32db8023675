"""One test for each reading of the paper, rows 1-20 of docs/deviations.md.

Tolerances: where an exact number is expected, a few eps of the largest term (rel = 1e-14); where a subproblem is
solved, 1e-12, its accuracy on the boundary.
"""

import math
from types import SimpleNamespace

import numpy as np
import problems
import pytest
import reference
from choices import RESOLVING
from numpy.testing import assert_array_equal

import mblsr1
from mblsr1.linalg.pairs import PairMemory
from mblsr1.rules import batch as batch_rules
from mblsr1.rules import hybrid, line_search
from mblsr1.rules import pairs as pair_rules
from mblsr1.rules import radius as radius_rules
from mblsr1.types import Point, Trial

EPS = np.finfo(float).eps
WELLS, NETWORK = problems.wells(), problems.network()
PRINTED = mblsr1.Options.paper(gtol=0.0, memory=4, restart_memory=None, sgd_weight=0.0, momentum=0.0)


class Recorder:
    """Keeps (kind, w, batch) of each call of a problem's functions."""

    def __init__(self, problem):
        self.problem, self.calls = problem, []

    def fun(self, w, *batch):
        self.calls.append(("fun", w.copy(), *batch))
        return self.problem.fun(w, *batch)

    def grad(self, w, *batch):
        self.calls.append(("grad", w.copy(), *batch))
        return self.problem.grad(w, *batch)

    def of(self, kind):
        return [call[1:] for call in self.calls if call[0] == kind]

    def steps(self, rng=5, sampler=None, **arguments):
        sampler = self.problem.n if sampler is None else sampler
        return list(mblsr1.iterate(self.fun, self.grad, self.problem.w0, sampler, rng=rng, **arguments))


def trial(decrease=-1.0, predicted=-1.0, s_norm=1.0, **changes):
    """A step whose R, Q and length are given."""
    blank = Trial(
        Point(np.zeros(2), 0.0, np.zeros(2)), np.array([s_norm, 0.0]), np.array([s_norm, 0.0]), s_norm, decrease,
        predicted, decrease, False, 1.0, 0.0, 1.0,
    )  # fmt: skip
    return blank._replace(**changes)


def mix(p_star, g, carried, delta=100.0, **settings):
    vectors = [None if x is None else np.asarray(x, dtype=float) for x in (p_star, g, carried)]
    return hybrid.mix(*vectors, delta, **{"eta": 0.0, "mu": 0.0, "alpha_s": 0.1, "printed": False, **settings})


def test_reading_01_mixing_never_loses_the_sgd_direction():
    p_star, g, carried = np.array([-1.0, -2.0]), np.array([4.0, 1.0]), np.array([-0.3, 0.2])
    for eta in (0.0, 0.25, 1.0):
        for mu in (0.0, 0.5):
            v = carried - eta * 0.1 * g
            found = mix(p_star, g, carried if eta or mu else None, eta=eta, mu=mu)
            expected = (1.0 - eta) * (p_star + mu * v) + eta * v if eta or mu else p_star
            assert found.p == pytest.approx(expected, rel=1e-14)
            assert found.norm > 0.0
    # as printed: (1 - eta) p* + mu v, the same at eta = 0
    for eta, mu in ((0.0, 0.5), (0.25, 0.5)):
        v = carried - eta * 0.1 * g
        assert mix(p_star, g, carried, eta=eta, mu=mu, printed=True).p == pytest.approx(
            (1.0 - eta) * p_star + mu * v, rel=1e-14
        )
    # eta = 1 is heavy-ball SGD: v = mu v - alpha g, w = w + v
    problem = problems.quadratic([1.0, 0.3], [2.0, -1.0])
    o = mblsr1.Options.paper(
        gtol=0.0, mixing="convex", sgd_weight=1.0, momentum=0.5, learning_rate=0.2, initial_radius=50.0,
        restart_memory=None,
    )  # fmt: skip
    w, v = problem.w0, np.zeros(2)
    for step in mblsr1.iterate(problem.fun, problem.grad, problem.w0, options=o, max_steps=6):
        v = 0.5 * v - 0.2 * problem.grad(w)
        w = w + v
        assert step.alpha == 1.0
        assert step.x == pytest.approx(w, rel=1e-13)
    with pytest.raises(ValueError, match=r"sgd_weight.*printed.*momentum"):
        mblsr1.Options(globalization="line-search", mixing="printed", sgd_weight=0.1, momentum=0.0)


def test_reading_02_clipping_only_beyond_the_radius_and_of_the_stored_momentum():
    long, short = np.array([-30.0, -40.0]), np.array([-0.3, -0.4])
    clipped = mix([-1e-3, 0.0], [1.0, 1.0], long, delta=2.0, mu=0.5)
    assert np.linalg.norm(clipped.v) == pytest.approx(2.0, rel=1e-14)
    assert clipped.v == pytest.approx(long * (2.0 / 50.0), rel=1e-14)
    assert_array_equal(mix([-1e-3, 0.0], [1.0, 1.0], short, delta=2.0, mu=0.5).v, short)
    with np.errstate(all="raise"):  # no division by a zero norm
        zero = mix([-1.0, 0.0], [1.0, 1.0], np.zeros(2), delta=2.0, mu=0.5)
    assert_array_equal(zero.v, np.zeros(2))
    assert_array_equal(zero.p, [-1.0, 0.0])
    # line 7: p itself is clipped too
    assert mix([-2.0, 0.0], [1.0, 0.0], [-2.0, 0.0], delta=2.0, mu=0.5).norm == pytest.approx(2.0, rel=1e-14)
    # what the next step sees is the clipped v: mu v + (1 - eta) s
    assert hybrid.carry(clipped.v, short, 0.0, 0.5) == pytest.approx(0.5 * clipped.v + short, rel=1e-14)


def test_reading_03_the_batch_gradient_everywhere_in_a_step():
    recorder = Recorder(WELLS)
    o = PRINTED.replace(batch_size=10, initial_radius=0.1)
    for step in recorder.steps(options=o, max_steps=6):
        assert step.alpha == 1.0
    assert {len(batch) for _, batch in recorder.of("grad")} == {10}
    before = WELLS.w0
    gradients = recorder.of("grad")
    for k, step in enumerate(recorder.steps(options=o, max_steps=6)):
        g = WELLS.grad(before, gradients[2 * k][1])
        assert step.grad_norm == pytest.approx(np.linalg.norm(g), rel=1e-14)
        # s is a difference of iterates: absolute rounding eps |w|, beside ||s|| = 0.1
        assert step.slope == pytest.approx(g @ (step.x - before), rel=1e-13)
        before = step.x


def test_reading_04_an_ascent_direction_is_turned_and_its_slope_with_it():
    g = np.array([1.0, 2.0])
    turned = mix([-0.1, 0.0], g, [3.0, 1.0], mu=0.5)
    assert turned.flipped
    p = -(np.array([-0.1, 0.0]) + 0.5 * np.array([3.0, 1.0]))
    assert turned.p == pytest.approx(p, rel=1e-14)
    assert turned.slope == pytest.approx(g @ p, rel=1e-14)
    assert turned.slope < 0.0
    assert not turned.is_model_step
    assert not mix([-0.1, 0.0], g, [-3.0, -1.0], mu=0.5).flipped
    # in a run: recorded, and never without momentum, since p* descends
    flips = {}
    for momentum in (0.0, 0.9):
        o = PRINTED.replace(momentum=momentum, initial_radius=1.0, batch_size=12)
        steps = Recorder(NETWORK).steps(options=o, max_steps=50)
        assert all(step.slope < 0.0 for step in steps)
        flips[momentum] = sum(step.flipped for step in steps)
    assert flips[0.0] == 0 < flips[0.9]


def test_reading_05_at_most_one_restart_in_a_step_and_then_the_gradient_step():
    """With delta = 1e-5 the tested ratio is at most 1e-5, under xi = 1e-3: the print would restart for ever."""
    o = PRINTED.replace(momentum=0.9, descent_tolerance=1e-3, initial_radius=1e-5, batch_size=60)
    recorder = Recorder(WELLS)
    before, radius = WELLS.w0, 1e-5
    for k, step in enumerate(recorder.steps(options=o, max_steps=6), start=1):
        g = WELLS.grad(before, np.arange(60))
        s = step.x - before
        # iterates of size 5 with steps of 1e-5 .. 1e-3: eps 5 / 1e-5 = 1e-10 relative
        assert s == pytest.approx(-min(1.0, radius / np.linalg.norm(g)) * g, rel=0.0, abs=10.0 * EPS * 5.0)
        assert step.n_restarts == k
        assert step.n_pairs == 1  # cleared, then this step's
        assert step.radius == pytest.approx(2.0 * radius, rel=1e-12)  # delta is kept and Alg. 5 moves it
        before, radius = step.x, step.radius
    # rho_hat and T stay as well: the mean of ratios goes on over the restarts
    averaged = Recorder(WELLS).steps(options=o.replace(batch_size=10, ratio_memory=1.0, check_every=100), max_steps=6)
    ratios = [step.rho for step in averaged]
    assert averaged[-1].n_restarts == 6
    assert averaged[-1].rho_hat == pytest.approx(np.mean(ratios), rel=1e-13)


def test_reading_06_armijo_with_the_slope_and_what_follows_where_it_fails():
    tried = []

    def phi(alpha):
        tried.append(alpha)
        return 1.0 - 2.0 * alpha + 3.0 * alpha**2  # below 1 - c1 2 alpha where alpha <= (2 - 2 c1) / 3

    found = line_search.halving(phi, 1.0, -2.0, 1e-4, EPS)
    assert (tried, found.alpha, found.f) == ([1.0, 0.5], 0.5, 0.75)
    assert line_search.halving(phi, 1.0, -2.0, 0.6, EPS).alpha == 0.25  # 0.5 gives 0.75 > 1 - 0.6
    tried.clear()
    assert line_search.halving(lambda a: tried.append(a) or 2.0, 1.0, -2.0, 1e-4, EPS).alpha == 0.0
    assert tried == [0.5**i for i in range(21)]  # 20 halvings
    # the slack is 10 eps |f|
    assert line_search.halving(lambda a: 1e3 * (1.0 + 8.0 * EPS), 1e3, -1e-30, 1e-4, EPS).alpha == 1.0
    assert line_search.halving(lambda a: 1e3 * (1.0 + 12.0 * EPS), 1e3, -1e-30, 1e-4, EPS).alpha == 0.0
    # on failure: no move, no pair, the radius halves (here the gradient has the wrong sign), and the run ends
    arguments = {"options": PRINTED.replace(initial_radius=1.0)}
    wrong = mblsr1.minimize(lambda w: float(w @ w), lambda w: -2.0 * w, np.ones(3), max_steps=10, **arguments)
    assert_array_equal(wrong.x, np.ones(3))
    assert wrong.history["n_pairs"] == wrong.history["alpha"] == [0] * 10
    assert wrong.history["radius"] == [0.5**i for i in range(1, 11)]
    assert mblsr1.minimize(lambda w: float(w @ w), lambda w: -2.0 * w, np.ones(3), **arguments).status == 5


def test_reading_07_the_ratio_is_taken_at_the_model_step():
    recorder = Recorder(NETWORK)
    o = PRINTED.replace(momentum=0.9, initial_radius=0.5, batch_size=60)
    steps = recorder.steps(options=o, max_steps=5)
    assert steps[0].rho * steps[0].predicted == pytest.approx(steps[0].decrease, rel=1e-14)  # v = 0: p* is the step
    assert len(recorder.of("fun")) > 1 + 2 * 4  # one more where it is not
    # R by hand: p* is the minimiser of the dense model
    before, S, Y = NETWORK.w0, [], []
    whole = np.arange(60)
    delta = 0.5
    for step in steps:
        f, g = NETWORK.fun(before, whole), NETWORK.grad(before, whole)
        B = reference.dense_sr1(S, Y, 1.0, 1e-8, g.size)
        p = reference.solve_subproblem(B, g, delta)
        # Q = g'p/2 - sigma ||p||^2/2 against g'p + p'Bp/2, which loses some digits
        assert step.predicted == pytest.approx(g @ p + 0.5 * p @ B @ p, rel=1e-9)
        assert step.predicted == pytest.approx(0.5 * (g @ p) - 0.5 * step.sigma * (p @ p), rel=1e-9)
        assert step.rho == pytest.approx((NETWORK.fun(before + p, whole) - f) / step.predicted, rel=1e-8)
        S, Y = [*S, step.x - before][-4:], [*Y, NETWORK.grad(step.x, whole) - g][-4:]
        before, delta = step.x, step.radius
    assert any(abs(step.rho * step.predicted - step.decrease) > 1e-3 * abs(step.decrease) for step in steps[1:])
    # rounding: |Q| = 1e-18 beside |f| = 1 decides nothing, and neither radius nor pairs are touched
    flat = mblsr1.minimize(
        lambda w: float(1.0 + 1e-9 * w[0]), lambda w: np.array([1e-9, 0.0]), np.zeros(2), max_steps=1,
        options=PRINTED.replace(initial_radius=1e-9, restart_memory=0, restart_tolerance=1e9),
    )  # fmt: skip
    assert math.isnan(flat.history["rho"][0])
    assert math.isnan(flat.history["rho_hat"][0])
    assert (flat.radius, flat.n_restarts) == (1e-9, 0)
    # a loss that is not finite at p* is the worst ratio, -10
    wall = mblsr1.minimize(
        lambda w: float(w[0]) if w[0] > -0.5 else math.nan, np.ones_like, np.zeros(1), max_steps=1,
        options=PRINTED.replace(initial_radius=1.0),
    )  # fmt: skip
    assert wall.history["rho"] == [-10.0]
    assert wall.history["alpha"] == [0.25]


def test_reading_08_the_batch_rule_sums_what_the_step_achieved():
    o = PRINTED.replace(momentum=0.9, initial_radius=0.5, batch_size=12, check_every=100)
    steps = Recorder(NETWORK).steps(options=o, max_steps=6)
    for step in steps:
        # two losses near f: a few eps f
        assert step.decrease == pytest.approx(step.loss_after - step.loss, rel=0.0, abs=4.0 * EPS * step.loss)
    at_p_star = sum(step.rho * step.predicted for step in steps[1:])
    achieved = sum(step.decrease for step in steps[1:])  # the first step came before the first check
    assert abs(at_p_star - achieved) > 1e-3 * abs(achieved)
    last = mblsr1.minimize(NETWORK.fun, NETWORK.grad, NETWORK.w0, 60, rng=5, options=o, max_steps=6)
    assert last.state.tree["check"]["sum_decrease"] == pytest.approx(achieved, rel=1e-14)


class Losses:
    """Stands for the driver in a batch rule: hands out the given losses, notes the sizes asked for."""

    def __init__(self, losses, n_samples=1000):
        self.losses, self.n_samples, self.sizes, self.iterates = list(losses), n_samples, [], []

    def fresh_loss(self, size, *iterates):
        self.sizes.append(size)
        self.iterates.append(iterates)
        return [self.losses.pop(0) for _ in iterates]


def run_checks(rule, source, achieved, size=10):
    state, sizes = batch_rules.initial_check_state(size), []
    for k, change in enumerate(achieved):
        state = rule(state, SimpleNamespace(w=np.array([float(k)]), achieved=change), source)
        sizes.append(state.size)
    return sizes


def test_reading_09_the_sum_has_exactly_k_terms():
    """K = 3 steps of -1, gamma_2 = 0.5: the bound is -1.5; with the printed K + 1 terms it would be -2."""
    rule = batch_rules.progress_check(every=3, gamma_1=0.0, gamma_2=0.5)
    assert run_checks(rule, Losses([0.0, -1.75, -1.75 - 1.75]), [-1.0] * 7) == [10] * 7
    assert run_checks(rule, Losses([0.0, -1.25, -1.25 - 1.75]), [-1.0] * 7) == [10] * 3 + [20] * 4
    assert run_checks(rule, Losses([0.0, -1.5]), [-1.0] * 4) == [10] * 3 + [20]  # equality is too little
    # gamma_1 shifts the bound to -2
    rule = batch_rules.progress_check(every=3, gamma_1=0.5, gamma_2=0.5)
    assert run_checks(rule, Losses([0.0, -1.75]), [-1.0] * 4)[-1] == 20
    assert run_checks(rule, Losses([0.0, -2.25]), [-1.0] * 4)[-1] == 10


def test_reading_10_the_first_check_only_sets_the_reference():
    for reference_loss in (1e9, -1e9):
        source = Losses([reference_loss, reference_loss - 100.0])
        assert run_checks(batch_rules.progress_check(every=2), source, [-1.0, -1.0, -1.0]) == [10] * 3
        assert len(source.sizes) == 2  # after steps 1 and 3


def test_reading_11_the_size_of_the_check_sample():
    sizes = [batch_rules.default_check_size(n) for n in (1, 10, 11, 256, 4545, 4546, 100_000)]
    assert sizes == [2, 11, 13, 282, 5000, 5000, 5000]  # ceil(min(1.1 n, 5000)), in exact arithmetic
    source = Losses([0.0], n_samples=12)
    run_checks(batch_rules.progress_check(), source, [-1.0], size=11)
    assert source.sizes == [12]  # at most N
    for size, expected in ((7, 7), ("all", 1000), (lambda n: 3 * n, 30)):
        source = Losses([0.0])
        run_checks(batch_rules.progress_check(size=size), source, [-1.0])
        assert source.sizes == [expected]
    # both iterates on the new sample: 5 against 5.5 on the same data, though f_K was 0
    both = Losses([0.0, 5.0, 5.5])
    assert run_checks(batch_rules.progress_check(every=2, both=True), both, [-1.0] * 3)[-1] == 10
    assert [float(w[0]) for w in both.iterates[1]] == [2.0, 0.0]
    assert run_checks(batch_rules.progress_check(every=2), Losses([0.0, 5.0]), [-1.0] * 3)[-1] == 20
    # drawn anew, not from the batch
    recorder = Recorder(WELLS)
    recorder.steps(options=PRINTED.replace(batch_size=20, initial_radius=1e-3), max_steps=1)
    (training,) = {tuple(batch) for _, batch in recorder.of("grad")}
    (check,) = {tuple(batch) for _, batch in recorder.of("fun") if len(batch) == 22}
    rng = np.random.default_rng(5)
    assert training == tuple(rng.choice(60, 20, replace=False, shuffle=False))
    assert check == tuple(rng.choice(60, 22, replace=False, shuffle=False))
    for unusable in ({"progress_decrease": 0.0, "progress_fraction": 0.0}, {"progress_fraction": 1.0}):
        with pytest.raises(ValueError, match="progress_"):
            mblsr1.Options(**unusable)


@pytest.mark.parametrize("refill", [None, 0, 2, 4])
def test_reading_12_refills_with_exactly_m_hat_pairs(refill):
    """tau = 1e9: every step restarts, although the averaged ratio is good."""
    recorder = Recorder(WELLS)
    o = PRINTED.replace(restart_memory=refill, restart_tolerance=1e9, batch_size=10, initial_radius=0.1, check_every=99)
    steps = recorder.steps(options=o, max_steps=6)
    assert all(step.rho_hat > 0.5 for step in steps)
    expected = [1, 2, 3, 4, 4, 4] if refill is None else [refill] * 6
    assert [step.n_pairs for step in steps] == expected
    assert [step.n_restarts for step in steps] == [0] * 6 if refill is None else [1, 2, 3, 4, 5, 6]
    # sampled on the batch of the step, at the new iterate, within sqrt(eps) max(1, ||w||)
    calls = recorder.of("grad")
    a_step = 2 + (refill or 0)
    assert len(calls) == 6 * a_step
    for k, step in enumerate(steps):
        batch = calls[k * a_step][1]
        for w, used in calls[k * a_step + 2 : (k + 1) * a_step]:
            assert_array_equal(used, batch)
            # w + s rounds by eps |w|, so ||s|| = 1.5e-8 |w| is found to 1e-7
            length = math.sqrt(EPS) * np.linalg.norm(step.x)
            assert np.linalg.norm(w - step.x) == pytest.approx(length, rel=1e-6)


def test_reading_12_the_raw_ratio_counts_and_the_current_pair_is_dropped():
    memory = PairMemory(np.zeros(2), 3)
    sampled = [(np.array([0.0, 1.0]), np.array([0.0, 5.0]))]
    rule = pair_rules.restart(tolerance=0.25, refill=1)
    assert not rule(memory, trial(decrease=-0.3), lambda count: sampled[:count])
    assert rule(memory, trial(decrease=-0.2), lambda count: sampled[:count])
    memory.project([])
    assert len(memory) == 1
    assert memory.blocks().YY[0, 0] == 25.0
    assert not rule(memory, trial(decrease=math.nan), lambda count: sampled)  # rounding decides nothing


def test_reading_13_the_weights_and_the_whole_set():
    rule = radius_rules.progressive(ratio_memory=0.5, ratio="mean-of-ratios")
    state = rule.init(1.0, 1.0, EPS)
    weights, means = [], []
    for ratio in (1.0, 0.5, 0.25):
        state = rule.update(state, trial(decrease=-ratio, s_norm=0.1), False)
        weights.append(state.T)
        means.append(state.rho_hat)
    assert weights == [1.0, 1.5, 1.75]
    assert means == pytest.approx([1.0, 1.0 / 1.5, (0.25 + 0.25 + 0.25) / 1.75], rel=1e-14)
    # the whole set: the ratio of this step alone, with zeta still 0.5 for a batch
    for ratio in ("mean-of-ratios", "of-means"):
        rule = radius_rules.progressive(ratio_memory=0.5, ratio=ratio)
        state = rule.update(rule.init(1.0, 1.0, EPS), trial(decrease=-1.0, s_norm=0.1), False)
        whole = rule.update(state, trial(decrease=-0.25, s_norm=0.1), True)
        assert (whole.rho_hat, whole.T) == (0.25, 1.0)
        sampled = rule.update(state, trial(decrease=-0.25, s_norm=0.1), False)
        assert sampled.rho_hat == pytest.approx((0.5 * 1.0 + 0.25) / 1.5, rel=1e-14)
    # zeta = 0 is the classic ratio
    rule = radius_rules.progressive(ratio_memory=0.0)
    state = rule.update(rule.init(1.0, 1.0, EPS), trial(decrease=-3.0, s_norm=0.1), False)
    assert rule.update(state, trial(decrease=-0.25, s_norm=0.1), False).rho_hat == 0.25
    # in a run: the ratio of the step from where the batch is the whole set
    steps = Recorder(WELLS).steps(
        options=PRINTED.replace(batch_size=31, check_every=1, initial_radius=3.0), max_steps=20
    )
    sizes = [step.batch_size for step in steps]
    assert sizes[0] == 31
    assert sizes[-1] == 60
    for step in steps:
        if step.batch_size == 60:
            assert step.rho_hat == pytest.approx(step.rho, rel=1e-14)


def test_reading_14_ratio_of_means_and_clipped_mean_of_ratios():
    steps = [trial(decrease=-1.0, predicted=-2.0, s_norm=0.1), trial(decrease=5.0, predicted=-1e-3, s_norm=0.1)]
    found = {}
    for name in ("of-means", "mean-of-ratios"):
        rule = radius_rules.progressive(ratio_memory=1.0, ratio=name)
        state = rule.init(1.0, 1.0, EPS)
        for t in steps:
            state = rule.update(state, t, False)
        found[name] = state.rho_hat
    assert found["of-means"] == pytest.approx((-1.0 + 5.0) / (-2.0 - 1e-3), rel=1e-14)
    assert found["mean-of-ratios"] == pytest.approx((0.5 - 10.0) / 2.0, rel=1e-14)  # 5 / -1e-3 is clipped
    rule = radius_rules.progressive(ratio_memory=1.0, ratio="mean-of-ratios")
    assert rule.update(rule.init(1.0, 1.0, EPS), trial(decrease=-1e3), False).rho_hat == 10.0
    assert mblsr1.Options().ratio == "of-means"
    assert mblsr1.Options.paper().ratio == "mean-of-ratios"


def test_reading_15_the_boundary_the_limits_and_the_printed_rule():
    rule = radius_rules.progressive(shrink=1.0)
    state = rule.init(1.0, 1.0, EPS)
    good = {"decrease": -0.5, "predicted": -1.0}
    assert rule.update(state, trial(s_norm=0.9991, **good), True).delta == 2.0
    assert rule.update(state, trial(s_norm=0.9989, **good), True).delta == 1.0
    assert rule.update(state, trial(s_norm=1.0, decrease=-0.49), True).delta == 1.0  # rho_hat >= 0.5
    # printed: min(delta, ||s||), which keeps delta where ||s|| = delta; recommended: half of it
    poor = {"decrease": -0.09, "predicted": -1.0}
    assert rule.update(state, trial(s_norm=0.25, **poor), True).delta == 0.25
    assert rule.update(state, trial(s_norm=1.0, **poor), True).delta == 1.0
    assert rule.update(state, trial(s_norm=1.0, decrease=-0.11), True).delta == 1.0
    half = radius_rules.progressive(shrink=0.5)
    assert half.update(state, trial(s_norm=1.0, **poor), True).delta == 0.5
    assert half.update(state, trial(s_norm=0.25, **poor), True).delta == 0.125
    assert (mblsr1.Options.paper().radius_shrink, mblsr1.Options().radius_shrink) == (1.0, 0.5)
    # limits, in units of max(1, ||w_0||)
    scaled = rule.init(1.0, 7.0, EPS)
    assert scaled.with_delta(0.0).delta == pytest.approx(7e-10, rel=1e-14)
    assert scaled.with_delta(math.inf).delta == 700.0
    assert rule.init(1.0, 7.0, float(np.finfo(np.float32).eps)).with_delta(0.0).delta == pytest.approx(7e-8, rel=1e-14)


def test_reading_16_the_exit_check_comes_before_the_step():
    problem = problems.quadratic([1.0, 5.0], [1e-6, 1e-7])
    done = mblsr1.minimize(problem.fun, problem.grad, problem.w0, gtol=2e-6)
    assert (done.nit, done.njev, done.status) == (0, 1, 0)
    assert_array_equal(done.x, problem.w0)
    # what is returned is the iterate whose gradient over the whole set was tested
    recorder = Recorder(WELLS)
    result = mblsr1.minimize(
        recorder.fun, recorder.grad, WELLS.w0, 60, rng=1, options=RESOLVING, gtol=1e-4, batch_size=12
    )
    assert np.linalg.norm(WELLS.grad(result.x, np.arange(60))) <= 1e-4
    assert result.success
    tested = recorder.of("grad")[-1]
    assert_array_equal(tested[0], result.x)
    assert len(tested[1]) == 60

    # batches that look stationary: the whole set at most once in K steps; a stream draws at least 5000 instead
    def steps_with(sampler, K):
        sizes = []

        def grad(w, batch):
            sizes.append(len(batch))
            return np.ones(2) if len(batch) <= 4 else np.full(2, 10.0)

        mblsr1.minimize(
            lambda w, batch: float(np.sum(w)), grad, np.zeros(2), sampler, max_steps=8, batch_size=3, gtol=2.0,
            check_every=K, initial_radius=1e-3,
        )  # fmt: skip
        return [size for size in sizes if size > 4]

    assert steps_with(9, 4) == [9, 9]
    assert steps_with(9, 3) == [9, 9, 9]
    stream = mblsr1.StreamSampler(lambda size, rng: rng.standard_normal(size))
    assert steps_with(stream, 4) == [5000, 5000]


def test_reading_17_which_pairs_make_the_matrix():
    A = np.diag([1.0, 2.0, -3.0])
    # a safe pair, an unsafe one (s'(y - Bs) = 0), and the tolerance in between
    B = mblsr1.LSR1(np.zeros((0, 3)), np.zeros((0, 3)), 0.5, skip_tolerance=0.1)
    s = np.array([1.0, 0.0, 0.0])
    assert not B.update(s, 0.5 * s + np.array([0.0, 1.0, 0.0]))
    assert not B.update(s, 0.5 * s + np.array([0.099, 1.0, 0.0]))  # cosine just under 0.1
    assert not B.update(s, np.array([math.nan, 1.0, 0.0]))
    assert not B.update(s, 0.5 * s)  # y = Bs: nothing to learn
    assert B.n_skipped == 4
    assert B.update(s, 0.5 * s + np.array([0.102, 1.0, 0.0]))
    # dependent psi: the newest of two parallel ones stays, whatever their order
    for new, old in ((4.0, 5.0), (5.0, 4.0)):
        S = np.array([s, [0.0, 1.0, 0.0], s])
        Y = np.array([old * s, [0.0, 2.0, 0.0], new * s])
        dense = mblsr1.LSR1(S, Y, 0.5).to_dense()
        assert np.diag(dense) == pytest.approx([new, 2.0, 0.5], rel=1e-12)
    # an angle of 1e-4 (pivot 1e-8) is kept, one of 1e-6 (pivot 1e-12) is not
    for angle, kept in ((1e-4, 2), (1e-6, 1)):
        S = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
        psi = np.array([[1.0, angle, 0.0], [1.0, 0.0, 0.0]])
        assert len(mblsr1.LSR1(S, psi + 0.5 * S, 0.5).kept) == kept
    # N indefinite: nothing is left out, and all secant equations hold
    rng = np.random.default_rng(0)
    S = rng.standard_normal((3, 3))
    exact = mblsr1.LSR1(S, S @ A, 1.5)
    assert exact.n_skipped == 0
    pivots = np.linalg.eigvalsh(np.tril(S @ A @ S.T) + np.tril(S @ A @ S.T, -1).T - 1.5 * S @ S.T)
    assert pivots[0] < 0.0 < pivots[-1]
    # B = A in exact arithmetic; the error is eps cond(Psi)^2, with cond < 1e3 here
    assert exact.to_dense() == pytest.approx(A, rel=0.0, abs=1e-10)


def test_reading_18_both_gradients_of_a_pair_are_of_one_batch():
    recorder = Recorder(WELLS)
    o = PRINTED.replace(batch_size=10, initial_radius=0.1, memory=3, check_every=99)
    before = WELLS.w0
    calls = None
    for k, step in enumerate(recorder.steps(options=o, max_steps=5)):
        calls = calls or recorder.of("grad")
        (w_old, batch_old), (w_new, batch_new) = calls[2 * k : 2 * k + 2]
        assert_array_equal(batch_old, batch_new)
        assert_array_equal(w_old, before)
        assert_array_equal(w_new, step.x)
        before = step.x
    assert len({tuple(batch) for _, batch in calls}) == 5
    # and y is what is stored
    last = mblsr1.minimize(WELLS.fun, WELLS.grad, WELLS.w0, 60, rng=5, options=o, max_steps=1)
    pending = last.state.tree["inner"]["memory"]["pending"]
    batch = calls[0][1]
    assert pending["y"] == pytest.approx(WELLS.grad(last.x, batch) - WELLS.grad(WELLS.w0, batch), rel=1e-14)


def test_reading_19_gamma_is_a_rule():
    memory = PairMemory(np.zeros(2), 4)
    assert mblsr1.scaling.ceiling()(memory.blocks()) == 0.0
    assert mblsr1.scaling.constant(1.0)(memory.blocks()) == 1.0
    for s, y in (([1.0, 0.0], [3.0, 4.0]), ([0.0, 2.0], [0.0, 4.0])):
        memory.push(np.array(s), np.array(y))
    memory.project([])
    assert mblsr1.scaling.ceiling()(memory.blocks()) == pytest.approx(2.0 * 5.0, rel=1e-14)
    assert mblsr1.scaling.ceiling(3.0)(memory.blocks()) == pytest.approx(3.0 * 5.0, rel=1e-14)
    assert mblsr1.scaling.last_pair()(memory.blocks()) == pytest.approx(16.0 / 8.0, rel=1e-14)
    # no pairs: gamma = 0 is the longest step against the gradient, gamma = 1 the gradient step in the radius
    problem = problems.quadratic([0.1, 0.2], [3.0, 4.0])
    g = problem.grad(problem.w0)
    for options, expected in (
        (mblsr1.Options(initial_radius=2.5), -2.5 * g / np.linalg.norm(g)),
        (PRINTED.replace(initial_radius=2.5), -g),
        (PRINTED.replace(initial_radius=0.5), -0.5 * g / np.linalg.norm(g)),
        (PRINTED.replace(initial_radius=2.5, scaling=mblsr1.scaling.constant(4.0)), -0.25 * g),
    ):
        step = next(mblsr1.iterate(problem.fun, problem.grad, problem.w0, options=options))
        assert step.x - problem.w0 == pytest.approx(expected, rel=1e-12)
    # above every curvature of a quadratic, no direction outside the pairs is thought flat
    A = np.diag([1.0, 10.0, 100.0, -5.0])
    S = np.random.default_rng(1).standard_normal((2, 4))
    memory = PairMemory(np.zeros(4), 2)
    for s in S:
        memory.push(s, s @ A)
    memory.project([])
    gamma = mblsr1.scaling.ceiling()(memory.blocks())
    assert gamma >= 2.0 * max(np.linalg.norm(s @ A) / np.linalg.norm(s) for s in S) * (1.0 - 1e-14)
    assert mblsr1.LSR1(S, S @ A, gamma).eigenvalues()[-1] == pytest.approx(gamma, rel=1e-14)


def test_reading_20_everything_is_state():
    o = mblsr1.Options.paper(
        gtol=0.0, memory=3, batch_size=7, check_every=3, initial_radius=0.3, restart_memory=2, restart_tolerance=0.7,
        ratio_memory=0.9,
    )  # fmt: skip
    arguments = {"options": o, "rng": 11}
    whole = mblsr1.minimize(NETWORK.fun, NETWORK.grad, NETWORK.w0, 60, max_steps=20, **arguments)
    for cut in (1, 4, 10, 19):
        first = mblsr1.minimize(NETWORK.fun, NETWORK.grad, NETWORK.w0, 60, max_steps=cut, **arguments)
        rest = mblsr1.minimize(
            NETWORK.fun, NETWORK.grad, np.zeros_like(NETWORK.w0), 60, max_steps=20 - cut, state=first.state, options=o
        )
        assert_array_equal(rest.x, whole.x)
        for name, column in whole.history.items():
            assert_array_equal(rest.history[name], column[cut:], err_msg=name)
    assert whole.batch_size > 7  # the batch has grown, so its size, f_K and the sums were needed
    assert whole.n_restarts > 0
    tree = whole.state.tree
    assert {"size", "reference", "sum_decrease", "since"} <= set(tree["check"])
    assert {"delta", "numerator", "denominator", "T"} <= set(tree["inner"]["radius"])
