"""Functions that misbehave: numerical trouble is a rejected trial or a status, never an exception."""

import math
from itertools import pairwise

import numpy as np
import pytest
from choices import RESOLVING
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import rosen, rosen_der
from ways import A, B, D, N, fun, grad

import mblsr1
from mblsr1 import LSR1, Options, TrustRegionSolution, scaling, solve_trust_region
from mblsr1.linalg.pairs import PairMemory
from mblsr1.problem import Counts, Problem
from mblsr1.rules import hybrid, radius
from mblsr1.steps.resolve import resolve
from mblsr1.types import Trial


def two_rows(w):
    """A metric of a matrix with two rows and what is left over, whatever the length of w."""
    half, rest = divmod(int(w.shape[0]), 2)
    return mblsr1.metric.kronecker([*[(2, half)] * (half > 0), *[1] * rest], every=3, stride=2)(w)


PRESETS = {
    "recommended": Options(),
    "re-solving": RESOLVING,
    "paper": Options.paper(),
    "l_ssr1_tr": Options.l_ssr1_tr(),
    "kronecker": Options(metric=two_rows),
    "diagonal": RESOLVING.replace(metric=mblsr1.metric.diagonal(every=1, floor=0.0, exponent=0.5)),
}
WARM = Options.paper(restart_memory=2, restart_tolerance=0.5, memory=4)
METHODS = {"sgd": mblsr1.sgd(0.005, 0.9), "adam": mblsr1.adam(0.05)}
OTHERS = {"svrg": mblsr1.svrg(0.005, 0.5), "s-lsr1": mblsr1.s_lsr1(3)}
WAYS = {**{k: {"options": o} for k, o in PRESETS.items()}, "warm": {"options": WARM},
        **{k: {"method": m} for k, m in {**METHODS, **OTHERS}.items()}}  # fmt: skip
every_preset = pytest.mark.parametrize("options", PRESETS.values(), ids=PRESETS)
every_way = pytest.mark.parametrize("how", WAYS.values(), ids=WAYS)


# --- faults at random ------------------------------------------------------------------------------

LOSS_FAULTS = {
    "nan": lambda f: math.nan,
    "inf": lambda f: math.inf,
    "-inf": lambda f: -math.inf,
    "huge": lambda f: 1e300,
    "-huge": lambda f: -1e300,
    "jump": lambda f: f + 3.0,
    "drop": lambda f: f - 3.0,
    "flat": lambda f: 1.0,
    "tiny": lambda f: 1e-310,
}
GRADIENT_FAULTS = {
    "nan": lambda g: np.where(np.arange(g.size) == 1, np.nan, g),
    "inf": lambda g: np.where(np.arange(g.size) == 0, np.inf, g),
    "sign": lambda g: -g,
    "zero": lambda g: 0.0 * g,
    "huge": lambda g: np.full_like(g, 1e300),
    "tiny": lambda g: 1e-300 * np.sign(g),
    "denormal": lambda g: np.full_like(g, 5e-324),
    "uneven": lambda g: np.where(np.arange(g.size) == 0, 1e200, 1e-200),
    "turned": lambda g: g[::-1].copy(),
}


class Faulty:
    """fun and grad that fail at chosen calls, count what they are asked for and refuse a bad iterate."""

    def __init__(self, loss_faults, gradient_faults):
        self.faults = {"f": dict(loss_faults), "g": dict(gradient_faults)}
        self.asked = {"f": 0, "g": 0}
        self.thirds = 0

    def _next(self, kind, w, batch, thirds):
        assert np.isfinite(w).all()
        assert w.dtype == np.float64
        self.asked[kind] += 1
        self.thirds += thirds * (1 if isinstance(batch, slice) else len(batch))
        return self.faults[kind].get(self.asked[kind] - 1)

    def fun(self, w, batch=slice(None)):
        fault = self._next("f", w, batch, 1)
        with np.errstate(all="ignore"):
            return fun(w, batch) if fault is None else LOSS_FAULTS[fault](fun(w, batch))

    def grad(self, w, batch=slice(None)):
        fault = self._next("g", w, batch, 3)
        with np.errstate(all="ignore"):
            return grad(w, batch) if fault is None else GRADIENT_FAULTS[fault](grad(w, batch))

    def both(self, w, batch=slice(None)):
        return self.fun(w, batch), self.grad(w, batch)


def faults(kinds):
    calls = st.one_of(st.integers(0, 6), st.integers(0, 60))
    return st.dictionaries(calls, st.sampled_from(sorted(kinds)), max_size=12)


def check(result, user, budget, w0):
    assert np.isfinite(result.x).all()
    assert result.x.shape == w0.shape
    assert np.isfinite(result.state.x).all()
    assert result.status in range(6)
    assert result.success is (result.status == 0)
    assert user.thirds <= 3 * budget
    assert result.n_samples <= budget
    history = result.history
    assert {len(column) for column in history.values()} == {result.nit}
    assert not any(math.isinf(x) for x in history["loss"])
    if "rejections" in history:
        assert all(math.isfinite(x) and x > 0.0 for x in history["radius"])
        assert all(0.0 <= a <= 1.0 for a in history["alpha"])
    assert result.jac is None or result.status == 4 or np.isfinite(result.jac).all()


@every_way
@pytest.mark.parametrize("sampler", [None, N])
@settings(max_examples=25, deadline=None)
@given(loss_faults=faults(LOSS_FAULTS), gradient_faults=faults(GRADIENT_FAULTS), seed=st.integers(0, 3))
def test_any_faults_at_any_calls(how, sampler, loss_faults, gradient_faults, seed):
    user, w0 = Faulty(loss_faults, gradient_faults), np.linspace(-1.0, 1.0, D)
    budget = 80 if sampler is None else 400
    result = mblsr1.minimize(
        user.fun, user.grad, w0, sampler, rng=seed, max_samples=budget, max_steps=60,
        **{**how, "batch_size": 4, "check_every": 3},
    )  # fmt: skip
    check(result, user, budget, w0)


@every_preset
def test_gradients_too_small_to_be_scaled_to_the_radius(options):
    user, w0 = Faulty({}, dict.fromkeys(range(3), "denormal")), np.linspace(-1.0, 1.0, D)
    result = mblsr1.minimize(user.fun, user.grad, w0, N, rng=0, options=options, batch_size=4, max_steps=20)
    assert np.isfinite(result.x).all()


@every_preset
@settings(max_examples=20, deadline=None)
@given(loss_faults=faults(LOSS_FAULTS), gradient_faults=faults(GRADIENT_FAULTS))
def test_any_faults_in_a_fused_function(options, loss_faults, gradient_faults):
    user, w0 = Faulty(loss_faults, gradient_faults), np.linspace(-1.0, 1.0, D)
    result = mblsr1.minimize(
        user.both, True, w0, N, rng=0, options=options, batch_size=5, max_samples=300, max_steps=60
    )
    assert np.isfinite(result.x).all()
    assert result.status in range(6)
    assert result.n_samples <= 300


@every_way
@settings(max_examples=15, deadline=None)
@given(
    fault=st.sampled_from(sorted(GRADIENT_FAULTS)), loss_fault=st.sampled_from(sorted(LOSS_FAULTS)),
    every=st.integers(1, 4), which=st.sampled_from(["f", "g", "both"]),
)  # fmt: skip
def test_faults_that_keep_coming(how, fault, loss_fault, every, which):
    calls = range(1, 1000, every)
    user = Faulty(
        dict.fromkeys(calls if which != "g" else (), loss_fault), dict.fromkeys(calls if which != "f" else (), fault)
    )
    w0 = np.linspace(-1.0, 1.0, D)
    result = mblsr1.minimize(user.fun, user.grad, w0, N, rng=0, max_samples=300, **{**how, "batch_size": 4})
    check(result, user, 300, w0)


def test_a_case_that_once_divided_by_zero():
    user, w0 = Faulty({0: "-huge"}, {27: "huge"}), np.linspace(-1.0, 1.0, D)
    result = mblsr1.minimize(
        user.fun, user.grad, w0, N, rng=2, max_samples=400, max_steps=60, batch_size=4, check_every=3
    )
    check(result, user, 400, w0)


@every_way
def test_a_gradient_of_denormal_numbers(how):
    """Its square is zero; the step to the boundary must be a step or none, never nan."""
    user, w0 = Faulty({}, {0: "denormal"}), np.linspace(-1.0, 1.0, D)
    result = mblsr1.minimize(
        user.fun, user.grad, w0, N, rng=0, max_samples=400, max_steps=60, **{**how, "batch_size": 4}
    )
    check(result, user, 400, w0)


def test_a_step_that_is_not_a_number_is_rejected_and_leaves_a_radius():
    class Broken:
        g_norm = 1.0

        def solve(self, delta):
            return TrustRegionSolution(np.full(D, np.nan), math.inf, -1.0, True, False, math.nan, -1.0)

    asked = Faulty({}, {})
    oracle = Problem(asked.fun, asked.grad, None, np.ones(D), False, Counts()).bind(None, 1, True)
    point = oracle.point(np.ones(D))
    trial = resolve(oracle, point, PairMemory(point.w, 3), 0.5, 1e-10, lambda memory, g: Broken())
    assert trial.point is None
    assert 0.0 < trial.radius < 0.5
    assert asked.asked == {"f": 1, "g": 1}


# --- at a trial point ------------------------------------------------------------------------------


@every_preset
@pytest.mark.parametrize("outside", [math.nan, math.inf, -math.inf, 1e300])
def test_a_loss_that_is_not_finite_at_a_trial_is_a_rejected_trial(options, outside):
    asked = []

    def barrier(w):
        asked.append((w > 0.0).all())
        return float(np.sum(w - np.log(w))) if asked[-1] else outside

    result = mblsr1.minimize(
        barrier,
        lambda w: 1.0 - 1.0 / w,
        np.full(3, 8.0),
        options=options,
        initial_radius=30.0,
        gtol=1e-4,
        max_steps=3000,
    )
    assert result.success
    assert not all(asked)
    np.testing.assert_allclose(result.x, 1.0, atol=1e-3)
    assert np.isfinite(result.history["loss_after"]).all()


@every_preset
@pytest.mark.parametrize("outside", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_at_a_trial_is_a_rejected_step(options, outside):
    asked = []

    def gradient(w):
        asked.append(bool((w > 0.5).all()))
        return 2.0 * (w - 0.8) if asked[-1] else np.full(3, outside)

    result = mblsr1.minimize(
        lambda w: float(np.sum((w - 0.8) ** 2)), gradient, np.full(3, 3.0),
        options=options, initial_radius=4.9, gtol=1e-4, max_steps=3000,
    )  # fmt: skip
    assert result.status == 0
    assert not all(asked)
    np.testing.assert_allclose(result.x, 0.8, atol=1e-3)


@every_preset
def test_a_rejected_step_leaves_the_iterate_and_shrinks_the_radius(options):
    def gradient(w):
        return grad(w) if np.array_equal(w, np.ones(D)) else np.full(D, np.nan)

    steps = list(mblsr1.iterate(fun, gradient, np.ones(D), options=options, max_steps=3))
    for step in steps:
        np.testing.assert_array_equal(step.x, np.ones(D))
        assert step.alpha == step.step_norm == step.decrease == 0.0
    radii = [options.initial_radius, *(step.radius for step in steps)]
    assert all(b < a for a, b in pairwise(radii) if a > 1e-9)
    assert steps[-1].n_pairs == 0


# --- at the iterate --------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_at_the_start_is_status_4(how, bad):
    result = mblsr1.minimize(fun, lambda w: np.array([0.0, bad, 1.0, 1.0]), np.ones(D), **how)
    assert (result.status, result.nit, result.success) == (4, 0, False)
    np.testing.assert_array_equal(result.x, np.ones(D))
    assert result.jac is None
    assert result.fun == fun(np.ones(D)) or "method" in how


@every_preset
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_at_the_start_is_status_4(options, bad):
    result = mblsr1.minimize(lambda w: bad, grad, np.ones(D), options=options)
    assert (result.status, result.nit, result.fun) == (4, 0, math.inf)
    np.testing.assert_array_equal(result.x, np.ones(D))


@every_way
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_bad_batch_in_mid_run_is_status_4_at_the_last_vouched_iterate(how, where):
    batches = []

    class Source(mblsr1.IndexSampler):
        def draw(self, size, rng):
            batches.append(super().draw(size, rng))
            return batches[-1]

    how = {**how, "batch_size": 4, "check_every": 1000}
    if "method" in how and where == "loss":
        pytest.skip("first-order methods do not look at the loss")

    def bad_batch(b):
        return len(b) <= 4 and any(b is x for x in batches[4:])  # a check sample has 5

    result = mblsr1.minimize(
        lambda w, b: math.nan if where == "loss" and bad_batch(b) else fun(w, b),
        lambda w, b: np.full(D, np.nan) if where == "gradient" and bad_batch(b) else grad(w, b),
        np.ones(D), Source(N), rng=1, **how,
    )  # fmt: skip
    assert result.status == 4
    last_good = 5 - 1 - (len(batches) - len({id(b) for b in batches}))
    assert 1 <= result.nit <= last_good
    assert np.isfinite(result.x).all()
    assert math.isfinite(result.fun) or math.isnan(result.fun)
    prefix = mblsr1.minimize(fun, grad, np.ones(D), N, rng=1, **how, max_steps=result.nit - ("method" in how))
    np.testing.assert_array_equal(result.x, prefix.x)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_first_order_step_that_overflows_is_not_made(method):
    gradient = 1e307 if method.name == "sgd" else 1.0
    result = mblsr1.minimize(
        lambda w: 1.0, lambda w: np.full(D, -gradient), np.full(D, 1.79e308),
        method=mblsr1.sgd(1.0) if method.name == "sgd" else mblsr1.adam(1e307), max_steps=20,
    )  # fmt: skip
    assert result.status == 4
    assert np.isfinite(result.x).all()
    assert np.isfinite(result.state.x).all()


# --- no silent stall -------------------------------------------------------------------------------


@every_preset
@pytest.mark.parametrize(
    "broken",
    [
        (lambda w: 1.0, grad),
        (fun, lambda w: -grad(w)),
        (lambda w: float(np.floor(1e-3 * fun(w))), grad),
    ],
    ids=["constant loss", "wrong sign", "steps"],
)
def test_a_radius_that_collapses_ends_the_run_with_status_5(options, broken):
    result = mblsr1.minimize(*broken, np.ones(D), options=options, gtol=0.0, max_steps=5000)
    assert result.status == 5
    assert result.nit < 500
    assert "no further progress" in result.message


@pytest.mark.parametrize("offset", [0.0, 1e3, -1e6])
def test_at_full_precision_the_run_ends_by_itself(offset):
    result = mblsr1.minimize(lambda w: fun(w) + offset, grad, np.ones(D), gtol=0.0)
    assert result.status in (0, 5)
    assert result.nit < 200
    solution = np.linalg.lstsq(A, B, rcond=None)[0]
    assert fun(result.x) - fun(solution) < 1e-9 * fun(solution)


@every_way
def test_a_gradient_that_is_zero_everywhere_is_convergence(how):
    result = mblsr1.minimize(lambda w, b: 2.0, lambda w, b: 0.0 * w, np.ones(D), N, rng=0, **{**how, "batch_size": 3})
    assert (result.status, result.nit, result.fun) == (0, 0, 2.0)


@every_preset
def test_batches_without_any_gradient_change_nothing(options):
    """One sample of twelve has a gradient: most batches say nothing, and must not cost radius or pairs."""
    options = options.replace(batch_size=1, check_every=1000, initial_radius=0.1)

    def one_fun(w, b):
        return float(np.mean((b == 3) * np.sum((w - 1.0) ** 2)))

    def one_grad(w, b):
        return np.mean(b == 3) * 2.0 * (w - 1.0)

    steps = list(mblsr1.iterate(one_fun, one_grad, np.zeros(D), N, rng=2, options=options, max_steps=60))
    idle = [(before, step) for before, step in pairwise(steps) if step.grad_norm == 0.0]
    assert len(idle) > 20
    for before, step in idle:
        np.testing.assert_array_equal(step.x, before.x)
        assert (step.radius, step.n_restarts) == (before.radius, before.n_restarts)
        assert step.n_pairs + step.n_skipped == before.n_pairs + before.n_skipped
    assert np.linalg.norm(steps[-1].x - 1.0) < 0.5 * np.linalg.norm(np.zeros(D) - 1.0)


@every_preset
def test_one_hopeless_batch_does_not_collapse_the_radius(options):
    options = options.replace(batch_size=3, check_every=1000, initial_radius=0.5)
    steps = []
    hopeless = [False]

    def odd(w, b):
        return 1.0 if hopeless[0] else fun(w, b)

    for step in mblsr1.iterate(odd, grad, np.ones(D), N, rng=0, options=options, max_steps=6):
        hopeless[0] = step.step == 3
        steps.append(step)
    assert steps[3].alpha == 0.0 or steps[3].decrease == 0.0
    assert steps[3].radius >= 0.25 * steps[2].radius


# --- extreme sizes ---------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e-100, 1e100, 1e150, 1e200, 1e290])
def test_losses_of_any_size(how, scale):
    with np.errstate(all="ignore"):
        result = mblsr1.minimize(
            lambda w: scale * fun(w), lambda w: scale * grad(w), np.ones(D), gtol=0.0, max_steps=60, **how
        )
    assert np.isfinite(result.x).all()
    if "options" in how:
        assert result.fun <= scale * fun(np.ones(D))
        assert np.isfinite(result.history["radius"]).all()


@pytest.mark.parametrize("scale", [1e-100, 1e-10, 1e10, 1e100])
def test_the_recommended_method_does_not_depend_on_the_size_of_the_loss(scale):
    result = mblsr1.minimize(lambda w: scale * fun(w), lambda w: scale * grad(w), np.ones(D), gtol=1e-6 * scale)
    assert result.success


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("power", [-100, -60, -40, -20, -10, 10, 20, 60])
def test_a_loss_times_a_power_of_two_makes_the_same_run(power, dtype):
    """No threshold on the loss is absolute: Rosenbrock, down to where rounding decides."""
    if dtype == np.float32 and abs(power) > 20:
        pytest.skip("gradients or their squares leave the range of float32")

    def run(scale):
        return mblsr1.minimize(
            lambda w: dtype(scale * rosen(w)), lambda w: dtype(scale) * rosen_der(w), np.full(10, -0.5, dtype),
            gtol=1e-4 * scale, max_steps=300,
        )  # fmt: skip

    one, other = run(1.0), run(2.0**power)
    assert one.success
    assert other.nit == one.nit
    np.testing.assert_array_equal(other.x, one.x)


@pytest.mark.parametrize("power", [-100, -20, -10, 10, 100])
def test_so_it_does_on_samples(power):
    """The default: overlap, smoothed model, growth by noise."""

    def run(scale):
        return mblsr1.minimize(
            lambda w, i: scale * fun(w, i), lambda w, i: scale * grad(w, i), 5.0 * np.ones(D), N, rng=0, batch_size=4,
            gtol=0.0, max_samples=600,
        )  # fmt: skip

    one, other = run(1.0), run(2.0**power)
    assert one.nit > 100
    np.testing.assert_array_equal(other.x, one.x)


@every_way
@pytest.mark.parametrize("scale", [1e-300, 1e-100, 1e100, 1e300])
def test_iterates_of_any_size(how, scale):
    result = mblsr1.minimize(
        lambda w: float(np.sum(np.abs(w) / D)), lambda w: np.sign(w) / D, scale * np.ones(D), max_steps=60, **how
    )
    assert np.isfinite(result.x).all()
    if "options" in how:
        assert result.fun <= scale


@every_preset
@pytest.mark.parametrize("size", [1e290, 1e300, 1e308])
@pytest.mark.parametrize("delta", [1e-10, 1.0])
def test_a_gradient_that_is_infinite_beside_the_radius(options, size, delta):
    result = mblsr1.minimize(
        lambda w: -1e300, lambda w: np.full(D, size), np.ones(D), options=options, initial_radius=delta, max_steps=80
    )
    assert result.status in (1, 5)
    assert np.isfinite(result.x).all()


@pytest.mark.parametrize("size", [1e-300, 1e-150, 1e150, 1e300])
@pytest.mark.parametrize("delta", [1e-100, 1e-10, 1.0])
def test_the_subproblem_with_a_gradient_of_any_size(size, delta):
    g = size * np.array([3.0, -4.0, 0.0])
    solution = solve_trust_region(LSR1(np.eye(3)[:1], -np.eye(3)[:1], gamma=1.0), g, delta)
    assert np.isfinite(solution.p).all()
    assert np.linalg.norm(solution.p) <= delta * (1.0 + 1e-12)
    if size / delta < 1e300:
        assert solution.model_change < 0.0 or size * delta < 1e-300
        assert np.linalg.norm(solution.p) == pytest.approx(delta, rel=1e-12)


def test_a_pair_whose_curvature_has_no_square_is_refused():
    matrix = LSR1(np.zeros((0, 3)), np.zeros((0, 3)), gamma=1.0)
    s = np.array([1e-10, 0.0, 0.0])
    assert not matrix.update(s, 1e150 * np.ones(3))
    assert matrix.update(s, 1e130 * np.ones(3))
    gamma = scaling.ceiling()(matrix.pairs.blocks())
    assert math.isfinite(LSR1(s[None, :], 1e130 * np.ones((1, 3)), gamma=gamma).eigenvalues()[0])


GAMMAS = {
    "ceiling": scaling.ceiling(), "last_pair": scaling.last_pair(), "from_below": scaling.from_below(),
    "constant": scaling.constant(-1.0), "huge": scaling.constant(1e160), "tiny": scaling.constant(5e-324),
}  # fmt: skip


@given(
    st.integers(-1070, 1020), st.sampled_from(list(GAMMAS)), st.sampled_from(["sr1", "better", "smoothed", "l-bfgs"])
)
@example(-520, "ceiling", "better")
@example(-520, "last_pair", "better")
@example(0, "huge", "sr1")
@example(-532, "ceiling", "sr1")
@settings(max_examples=60, deadline=None)
def test_curvature_of_any_size_with_any_matrix(power, gamma, matrix):
    """A chained Rosenbrock function times 2^power: a run ends with a status, and not above the start."""
    size = 2.0**power

    def rosenbrock(w):
        return size * float(np.sum(100.0 * (w[1:] - w[:-1] ** 2) ** 2 + (1.0 - w[:-1]) ** 2))

    def gradient(w):
        t, g = w[1:] - w[:-1] ** 2, np.zeros_like(w)
        g[:-1] = -400.0 * w[:-1] * t - 2.0 * (1.0 - w[:-1])
        g[1:] += 200.0 * t
        return size * g

    w0 = np.array([-1.2, 1.0, -1.2, 1.0])
    for options in (
        Options(whole_matrix=matrix, absolute=False),
        Options.paper(whole_matrix=matrix, initial_radius=1.0),
    ):
        with np.errstate(all="ignore"):
            result = mblsr1.minimize(
                rosenbrock, gradient, w0, options=options.replace(scaling=GAMMAS[gamma], gtol=0.0), max_steps=150
            )
            assert result.fun <= rosenbrock(w0)
        assert np.isfinite(result.x).all()


def test_a_pair_whose_products_are_lost_to_underflow_is_refused():
    """y'y is denormal, or zero where s'y is not; a y that is zero is no such pair."""
    s = np.array([1.0, 0.0, 0.0])
    for small in (1e-155, 1e-170, 1e-300):
        matrix = LSR1(np.zeros((0, 3)), np.zeros((0, 3)), gamma=1.0)
        assert not matrix.update(s, small * np.ones(3))
        assert matrix.update(s, 0.0 * s)
    assert matrix.update(np.array([0.0, 1.0, 0.0]), 1e-140 * np.ones(3))
    assert not matrix.update(np.array([0.0, 0.0, 1.0]), 1e-146 * np.ones(3))


@every_way
def test_a_loss_that_no_float_can_hold_is_infinite(how):
    """An int of 400 digits, at every trial or from the start: the run is that with a loss of inf."""
    for start in (True, False):
        results = [
            mblsr1.minimize(
                lambda w, far=far, start=start: fun(w) if start and (w == 1.0).all() else far,
                grad, np.ones(D), max_steps=20, gtol=0.0, **how,
            )
            for far in (10**400, math.inf)
        ]  # fmt: skip
        assert results[0].status == results[1].status
        np.testing.assert_array_equal(results[0].x, results[1].x)
        np.testing.assert_array_equal(results[0].fun, results[1].fun)


@pytest.mark.parametrize("value", [math.nan, math.inf, "x", None, np.ones(1), True])
@pytest.mark.parametrize("matrix", ["sr1", "better"])
def test_a_gamma_rule_that_returns_no_number_is_named(value, matrix):
    options = Options(whole_matrix=matrix, scaling=lambda blocks: value if blocks.k else 1.0)
    error = ValueError if isinstance(value, float) else TypeError
    with pytest.raises(error, match=r"^scaling: must be a rule that returns a finite number, got"):
        mblsr1.minimize(fun, grad, np.ones(D), options=options)


@pytest.mark.parametrize("size", [1e-300, 1.0, 1e200, 1e300])
@pytest.mark.parametrize("rho", [-1e3, -1.0, 0.0, 0.05, 0.3, 0.9, 1.0, 1e3])
@pytest.mark.parametrize("slope_new", [-1e4, -1.0, 0.0, 1.0, 1e4])
def test_the_interpolated_radius_is_never_nan_and_does_not_depend_on_the_size_of_the_loss(size, rho, slope_new):
    rule = radius.interpolated(radius.progressive())

    def moved(size):
        trial = Trial(
            None, None, None, 1.0, -rho * size, -size, -rho * size, True, 1.0, 1.0, 1.0, -2.0 * size, slope_new * size
        )
        return rule.update(rule.init(1.0, 1.0, 2e-16), trial, True).delta

    assert 0.1 <= moved(size) <= 10.0
    assert moved(size) == pytest.approx(moved(1.0), rel=1e-9)
    assert moved(size) < 1.0 if rho < 0.1 else moved(size) >= 1.0


def test_slopes_that_overflow_leave_a_radius():
    rule = radius.interpolated(radius.progressive())
    trial = Trial(None, None, None, 1.0, -1e300, -1e300, -1e300, True, 1.0, 1.0, 1.0, -math.inf, 0.0)
    assert rule.update(rule.init(1.0, 1.0, 2e-16), trial, True).delta == 2.0


@every_way
@pytest.mark.parametrize("n", [1, 2])
def test_tiny_sets(how, n):
    data = np.array([[1.0, 2.0], [3.0, -1.0]])[:n]
    result = mblsr1.minimize(
        lambda w, batch: float(np.mean(np.sum((w - batch[0]) ** 2, axis=1))),
        lambda w, batch: 2.0 * (w - batch[0]).mean(axis=0),
        np.zeros(2), mblsr1.ArraySampler(data), rng=0, gtol=1e-3, max_steps=3000, **how,
    )  # fmt: skip
    assert result.success
    np.testing.assert_allclose(result.x, data.mean(axis=0), atol=1e-2)


@pytest.mark.parametrize("how", [how for name, how in WAYS.items() if name != "s-lsr1"])
def test_batches_of_one(how):
    """Not with S-LSR1, whose model is exact for the one sample, so that its radius grows on noise."""
    result = mblsr1.minimize(
        fun, grad, np.zeros(D), N, rng=0, max_steps=150, **{**how, "batch_size": 1, "check_every": 5}
    )
    assert np.isfinite(result.x).all()
    assert fun(result.x) < fun(np.zeros(D))


@every_preset
def test_one_variable_with_a_large_memory(options):
    result = mblsr1.minimize(
        lambda w: float(np.cos(w[0]) + 0.01 * w[0] ** 2), lambda w: -np.sin(w) + 0.02 * w, np.array([0.1]),
        options=options, max_steps=3000,
    )  # fmt: skip
    assert result.success
    assert 3.0 < abs(result.x[0]) < 3.2


@every_preset
def test_duplicated_data_and_columns(options):
    rows = np.repeat(A[:3], 4, axis=0)[:, [0, 0, 1, 1, 1]]
    target = np.repeat(B[:3], 4)
    result = mblsr1.minimize(
        lambda w, b: float(np.mean((rows[b] @ w - target[b]) ** 2)),
        lambda w, b: 2.0 * rows[b].T @ (rows[b] @ w - target[b]) / len(b),
        np.zeros(5), N, rng=0, options=options, batch_size=6, max_steps=300,
    )  # fmt: skip
    assert np.isfinite(result.x).all()
    best = np.linalg.lstsq(rows, target, rcond=None)[0]
    assert np.mean((rows @ result.x - target) ** 2) < np.mean((rows @ best - target) ** 2) + 0.2 * np.mean(target**2)


@every_preset
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), size=st.sampled_from([1e-8, 0.1, 1.0, 1e3]))
def test_a_loss_that_jumps_between_calls(options, seed, size):
    noise = np.random.default_rng(seed)
    result = mblsr1.minimize(
        lambda w: fun(w) + size * noise.standard_normal(), grad, np.ones(D), options=options, max_samples=100
    )
    assert np.isfinite(result.x).all()
    assert result.n_samples <= 100


# --- failure modes seen in other implementations ---------------------------------------------------


@every_preset
def test_good_steps_have_a_positive_ratio_and_the_radius_grows(options):
    """A guard on the sign of rho pinned it to 0: the radius fell to its minimum in a dozen steps."""
    history = mblsr1.minimize(fun, grad, np.ones(D), options=options, initial_radius=1e-4, max_steps=14).history
    rho = np.array(history["rho"])
    assert (rho[np.isfinite(rho)] > 0.0).all()
    assert max(history["radius"]) > 0.1


@pytest.mark.parametrize(
    "options", [*PRESETS.values(), WARM, Options(globalization="line-search", momentum=0.9, sgd_weight=0.5)]
)  # fmt: skip
def test_no_trial_lies_outside_the_trust_region(options):
    """The first trial of a line search was alpha = 5."""
    trials, delta, x = [], options.initial_radius, np.ones(D)
    for step in mblsr1.iterate(lambda w: trials.append(w) or fun(w), grad, x, options=options, max_steps=40):
        if options is not WARM and options.metric is None:  # a metric measures otherwise
            assert max(np.linalg.norm(w - x) for w in trials) <= delta * (1.0 + 1e-9)
        assert step.step_norm <= delta * (1.0 + 1e-9)
        trials.clear()
        x, delta = step.x, step.radius


def test_momentum_is_not_zero():
    """The momentum was made from an iterate that had been overwritten. Here B = I and nothing is clipped."""
    options = Options(
        memory=0,
        scaling=scaling.constant(1.0),
        globalization="line-search",
        momentum=0.5,
        initial_radius=100.0,
        gtol=0.0,
    )
    steps = list(
        mblsr1.iterate(lambda w: 0.05 * float(w @ w), lambda w: 0.1 * w, np.ones(D), options=options, max_steps=4)
    )
    w, s, v = np.ones(D), np.zeros(D), np.zeros(D)
    for step in steps:
        v = 0.5 * v + s
        s = -0.1 * w + 0.5 * v
        w = w + s
        assert step.alpha == 1.0
        np.testing.assert_allclose(step.x, w, rtol=1e-12)


@pytest.mark.parametrize("small", [1e-6, 1e-8, 1e-12])
def test_small_components_of_the_gradient_do_not_hide_the_hard_case(small):
    """-1/delta was returned whenever any |a_j| was small."""
    eigenvalues = np.array([-2.0, 1.0, 3.0])
    S = np.eye(3)
    matrix = LSR1(S, S * eigenvalues, gamma=5.0)
    solution = solve_trust_region(matrix, np.array([0.0, 1.0, small]), radius=10.0)
    assert solution.hard_case
    assert solution.sigma == pytest.approx(2.0, rel=1e-12)
    assert np.linalg.norm(solution.p) == pytest.approx(10.0, rel=1e-12)
    easy = solve_trust_region(matrix, np.array([1.0, 1.0, small]), radius=0.1)
    assert not easy.hard_case
    assert np.linalg.norm(easy.p) == pytest.approx(0.1, rel=1e-12)


def test_repeated_pairs_have_no_rank_and_do_no_harm():
    """A Cholesky factor of a singular matrix was taken without a look at its rank."""
    s, y = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, -1.0, 0.5, 1.0])
    once = LSR1(s[None, :], y[None, :], gamma=3.0)
    often = LSR1(np.stack([s, 2.0 * s, s, -s]), np.stack([y, 2.0 * y, y, -y]), gamma=3.0)
    np.testing.assert_allclose(often.to_dense(), once.to_dense(), atol=1e-12)
    assert often.n_skipped == 3


def test_the_secant_equation_holds_for_every_pair():
    """M^-1 was regularised, which breaks the secant equation."""
    rng = np.random.default_rng(0)
    H = rng.standard_normal((6, 6))
    S = rng.standard_normal((4, 6))
    Y = S @ (H + H.T)
    matrix = LSR1(S, Y, gamma=1.0)
    assert matrix.n_skipped == 0
    for s, y in zip(S, Y, strict=True):
        np.testing.assert_allclose(matrix @ s, y, rtol=0, atol=1e-12 * np.linalg.norm(y) * 10)


def test_negative_curvature_is_kept():
    """gamma = y'y/s'y made implementations reject or clamp pairs with s'y < 0."""
    S = np.eye(3)[:1]
    for rule in (scaling.ceiling(), scaling.constant(1.0), scaling.last_pair(), scaling.from_below()):
        memory = LSR1(S, -2.0 * S, gamma=1.0).pairs
        matrix = LSR1(S, -2.0 * S, gamma=rule(memory.blocks()))
        assert np.abs(matrix.eigenvalues() + 2.0).min() < 1e-12


@pytest.mark.parametrize("ratio", ["of-means", "mean-of-ratios"])
@pytest.mark.parametrize("zeta", [0.0, 0.5, 0.9, 1.0])
def test_the_averaged_ratio_is_the_formula(ratio, zeta):
    """Its update contained "- r" elsewhere."""
    history = mblsr1.minimize(
        fun, grad, np.ones(D), N, rng=0, max_steps=15, options=RESOLVING, batch_size=6, ratio=ratio, ratio_memory=zeta,
        interpolate=False, check_every=1000, initial_radius=0.1,
    ).history  # fmt: skip
    rho, Q = np.array(history["rho"]), np.array(history["predicted"])
    assert np.isfinite(rho).all()
    for k in range(len(rho)):
        weights = zeta ** np.arange(k, -1.0, -1.0)
        if ratio == "of-means":
            expected = weights @ (rho * Q)[: k + 1] / (weights @ Q[: k + 1])
        else:
            expected = weights @ np.clip(rho[: k + 1], -10, 10) / weights.sum()
        assert history["rho_hat"][k] == pytest.approx(expected, rel=1e-10)


def test_the_predicted_decrease_is_that_of_the_model_at_the_old_iterate():
    """It contained the loss and the new gradient. Here B = I."""
    options = Options(memory=0, scaling=scaling.constant(1.0), initial_radius=0.3)
    for offset in (0.0, 1e3):
        before = np.ones(D)
        for step in mblsr1.iterate(lambda w, c=offset: fun(w) + c, grad, before, options=options, max_steps=6):
            p = step.x - before
            assert step.predicted == pytest.approx(grad(before) @ p + 0.5 * p @ p, rel=1e-9)
            before = step.x


def test_the_test_of_a_pair_has_the_sign_of_y_minus_bs():
    """Elsewhere |y's + s'Bs| was tested: it skips y = -Bs and keeps y = Bs."""
    s = np.array([1.0, -2.0, 0.5])
    assert not LSR1(np.zeros((0, 3)), np.zeros((0, 3)), gamma=2.0).update(s, 2.0 * s)
    matrix = LSR1(np.zeros((0, 3)), np.zeros((0, 3)), gamma=2.0)
    assert matrix.update(s, -2.0 * s)
    np.testing.assert_allclose(matrix @ s, -2.0 * s, rtol=1e-12)


def test_a_direction_that_was_turned_has_the_slope_of_the_turned_one():
    """g'p was computed before the sign changed and not updated."""
    g, p_star, carried = np.array([1.0, 0.5]), np.array([-0.1, 0.0]), np.array([3.0, 1.0])
    direction = hybrid.mix(p_star, g, carried, 10.0, eta=0.0, mu=0.9, alpha_s=0.1, printed=False)
    assert direction.flipped
    assert direction.slope == pytest.approx(g @ direction.p, rel=1e-15)
    assert direction.slope < 0.0
    assert not direction.is_model_step


@pytest.mark.parametrize(
    ("rho", "factor"),
    [(-1.0, 0.5), (0.05, 0.5), (0.0999, 0.5), (0.1001, 1.0), (0.3, 1.0), (0.4999, 1.0), (0.5, 2.0), (0.9, 2.0)],
)  # fmt: skip
def test_the_thresholds_of_the_radius_are_a_tenth_and_a_half(rho, factor):
    """0.1 had become 0.5 elsewhere."""
    rule = radius.progressive(0.0)
    trial = Trial(None, None, None, 1.0, -rho, -1.0, -rho, True, 1.0, 1.0, 1.0)
    state = rule.update(rule.init(1.0, 1.0, 2e-16), trial, False)
    assert state.delta == factor


def test_pairs_that_become_parallel_do_not_send_an_eigenvalue_to_minus_infinity():
    """The seed of this method stalled: directions became parallel and lambda_1(B) fell without bound."""
    rng = np.random.default_rng(3)
    diagonal = np.logspace(0, 3, 30)
    s = rng.standard_normal(30)
    for closeness in 10.0 ** -np.arange(1, 16):
        S = s + closeness * rng.standard_normal((10, 30))
        matrix = LSR1(S, S * diagonal, gamma=2000.0)  # above the spectrum: the exact B is positive definite
        values = matrix.eigenvalues()
        assert values[0] > 0.9
        assert values[-1] < 2000.1
        if closeness < 1e-9:
            assert matrix.n_skipped > 5
