"""Where nothing can be gained: progress or status 5 after a bounded number of steps, never a spin."""

import math

import numpy as np
import pytest
from ways import START, WAYS, A, B, D, N, Watched, fun, grad

import mblsr1

every_way = pytest.mark.parametrize("how", WAYS.values(), ids=WAYS)
both_kinds = pytest.mark.parametrize("sampler", [None, N])
#: Methods that compare losses and so can tell that they gain nothing.
TELLING = ("default", "paper", "l_ssr1_tr", "warm start", "trust region", "blocks", "s_lsr1")
telling = pytest.mark.parametrize("how", [WAYS[name] for name in TELLING], ids=TELLING)
LOTS = 4000


def run(user, how, sampler, w0=START, **more):
    return mblsr1.minimize(user.fun, user.grad, w0, sampler, rng=1, **{**how, "batch_size": 4, **more})


# --- nothing to do ------------------------------------------------------------------------------------


@every_way
@both_kinds
@pytest.mark.parametrize(("budget", "status"), [({"max_steps": 0}, 1), ({"max_samples": 0}, 2)])
def test_a_budget_of_nothing(how, sampler, budget, status):
    user = Watched(fun, grad)
    result = run(user, how, sampler, **budget)
    assert (result.status, result.nit, user.calls, result.n_samples) == (status, 0, 0, 0)
    assert result.x.tobytes() == START.tobytes()
    assert math.isnan(result.fun)
    assert result.jac is None
    assert list(mblsr1.iterate(fun, grad, START, sampler, **how, **budget)) == []


@every_way
@both_kinds
def test_a_loss_that_is_constant_has_converged_at_once(how, sampler):
    user = Watched(lambda w, batch: 1.0, lambda w, batch: 0.0 * w)
    result = run(user, how, sampler)
    assert (result.status, result.nit) == (0, 0)
    assert user.calls <= 4


@telling
def test_a_constant_loss_whose_gradient_lies_ends_with_no_progress(how):
    user = Watched(lambda w, batch: 1.0, lambda w, batch: w)
    result = run(user, how, None)
    assert result.status == 5
    assert user.calls < LOTS


@telling
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_a_gradient_that_points_uphill_ends_with_no_progress(how, scale):
    user = Watched(lambda w, batch: scale * fun(w), lambda w, batch: -scale * grad(w))
    result = run(user, how, None, gtol=0.0)
    assert result.status == 5
    assert user.calls < LOTS
    assert result.fun <= scale * fun(START) * (1.0 + 1e-12)


@telling
def test_a_gradient_that_points_uphill_on_batches_ends_with_no_progress(how):
    """With batches that overlap the radius stayed at its floor: a lucky sample in four set the count back to zero."""
    user = Watched(fun, lambda w, batch: -grad(w, batch))
    result = run(user, how, N, max_steps=400)
    assert result.status == 5
    assert user.calls < LOTS


# --- curvature and radius -----------------------------------------------------------------------------


@telling
@pytest.mark.parametrize("curvature", [1e3, 1e8])
def test_huge_negative_curvature_is_left_behind(how, curvature):
    """f = sum c (w^4 / 4 - w^2 / 2): at the start the curvature is -c."""
    user = Watched(
        lambda w, batch: curvature * float(np.sum(w**4 / 4 - w**2 / 2)), lambda w, batch: curvature * (w**3 - w)
    )
    result = run(user, how, None, 1e-3 * START, max_steps=300)
    assert result.fun < -0.2 * curvature * D
    assert result.status in (0, 1, 5)


@telling
def test_a_loss_without_a_lower_bound_ends_far_out(how):
    user = Watched(lambda w, batch: -float(w @ w), lambda w, batch: -2.0 * w)
    result = run(user, how, None, max_steps=200)
    assert result.status in (1, 4, 5)
    assert np.isfinite(result.x).all()
    assert np.linalg.norm(result.x) > 1e2
    assert user.calls < 25 * 200


@pytest.mark.parametrize("name", ["default", "paper", "l_ssr1_tr", "trust region", "blocks"])
@both_kinds
def test_a_radius_that_starts_collapsed_grows(name, sampler):
    options = WAYS[name]["options"].replace(initial_radius=1e-300)
    result = run(Watched(fun, grad), {"options": options}, sampler, max_steps=400)
    assert result.radius > 1e-9
    assert fun(result.x) < 0.01 * fun(START)


def test_restarts_do_not_loop():
    """xi near 1 asks for a restart at almost every step: at most two of them in a step, and the run goes on."""
    for options in (
        mblsr1.Options.paper(descent_tolerance=0.999, initial_radius=0.1),
        mblsr1.Options.paper(restart_tolerance=1e9, restart_memory=0, initial_radius=0.1),
        mblsr1.Options.paper(restart_tolerance=1e9, restart_memory=4, memory=4, initial_radius=0.1),
    ):
        for sampler in (None, N):
            user = Watched(fun, grad)
            result = run(user, {"options": options}, sampler, max_steps=200)
            assert result.status in (0, 1, 5)
            assert 0 < result.n_restarts <= 2 * result.nit
            assert user.calls < 30 * 200
            assert fun(result.x) < fun(START)


# --- small and poor data --------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("batch_size", [1, 5])
def test_duplicated_data(how, batch_size):
    """All rows are one: no noise, a singular Hessian."""

    def loss(w, batch):
        return float((A[0] @ w - B[0]) ** 2)

    def gradient(w, batch):
        return 2.0 * (A[0] @ w - B[0]) * A[0]

    result = run(Watched(loss, gradient), how, 50, batch_size=batch_size, max_steps=300)
    assert result.status in (0, 1, 5)
    assert loss(result.x, None) < loss(START, None)


@every_way
@pytest.mark.parametrize(("n", "d", "batch_size"), [(1, 1, 1), (1, 3, 8), (7, 1, 1), (7, 2, 1), (2, 2, 1)])
def test_batches_of_one_dimension_one_and_a_set_of_one(how, n, d, batch_size):
    X = np.random.default_rng(n + d).standard_normal((n, d))
    if "options" in how and how["options"].metric is not None:
        how = {"options": how["options"].replace(metric=None, blocks=[d])}

    def loss(w, batch):
        return float(np.mean((X[batch] @ w - 1.0) ** 2))

    def gradient(w, batch):
        return 2.0 / len(batch) * (X[batch].T @ (X[batch] @ w - 1.0))

    user = Watched(loss, gradient)
    result = run(user, how, n, np.zeros(d), batch_size=batch_size, max_steps=300)
    assert result.status in (0, 1, 5)
    assert np.isfinite(result.x).all()
    assert user.calls < 40 * 300
    everything = np.arange(n)
    # single rows pull apart, and a step is not kept by what the others say: no method promises more there
    assert loss(result.x, everything) < loss(np.zeros(d), everything) or batch_size < n


@every_way
def test_one_parameter_without_data(how):
    if "options" in how and how["options"].metric is not None:
        how = {"options": how["options"].replace(metric=None, blocks=[1])}
    result = mblsr1.minimize(lambda w: float((w[0] - 3.0) ** 2), lambda w: 2.0 * (w - 3.0), np.zeros(1), **how)
    assert result.status in (0, 1, 5)
    assert abs(result.x[0] - 3.0) < 0.5
    assert result.nfev + result.njev < 4 * 15_000
