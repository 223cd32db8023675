"""The baselines follow torch's optimizers or a literal transcription step for step, at exactly the cost they state."""

import math

import numpy as np
import problems
import pytest
import reference_baselines as reference
from libraries import LIBRARIES
from portable import MILD

import mblsr1
from mblsr1 import scaling

SEED = 3
WELLS, NETWORK, LOGISTIC = problems.wells(), problems.network(), problems.logistic()
N = 60
NUMPY = LIBRARIES["numpy-float64"]()


def batches(size, count):
    rng = np.random.default_rng(SEED)
    return [rng.choice(N, size, replace=False, shuffle=False) for _ in range(count)]


def iterates(problem, method, size, steps, **more):
    run = mblsr1.iterate(
        problem.fun, problem.grad, problem.w0, N, method=method, batch_size=size, gtol=0.0, rng=SEED, max_steps=steps,
        **more,
    )  # fmt: skip
    return list(run)


# --- torch -----------------------------------------------------------------------------------------


def torch_cases():
    """Method and torch.optim's name and settings for the same."""
    return {
        "sgd": (mblsr1.sgd(0.1), "SGD", {"lr": 0.1}),
        "momentum": (mblsr1.sgd(0.05, 0.9), "SGD", {"lr": 0.05, "momentum": 0.9}),
        "momentum of Table 2": (mblsr1.sgd(0.01, 0.99), "SGD", {"lr": 0.01, "momentum": 0.99}),
        "adam, defaults": (mblsr1.adam(), "Adam", {}),
        "adam": (mblsr1.adam(0.02, 0.8, 0.9, 1e-4), "Adam", {"lr": 0.02, "betas": (0.8, 0.9), "eps": 1e-4}),
        "rmsprop, defaults": (mblsr1.rmsprop(), "RMSprop", {}),
        "rmsprop": (mblsr1.rmsprop(0.003, 0.9, 1e-3), "RMSprop", {"lr": 0.003, "alpha": 0.9, "eps": 1e-3}),
    }


@pytest.mark.torch
@pytest.mark.parametrize("problem", [NETWORK, LOGISTIC], ids=["network", "logistic"])
@pytest.mark.parametrize("case", torch_cases())
def test_first_order_methods_equal_those_of_torch_step_for_step(case, problem):
    """100 steps. A step rounds by a few eps, and the curvature under 1 times the rate under 0.1 amplifies an error by
    at most 1.1 a step: 1e-11 is a tenth of what 100 steps could make of it, and far under what a wrong constant does.
    """
    torch = pytest.importorskip("torch", reason="torch is not installed")
    method, name, settings = torch_cases()[case]
    w = torch.nn.Parameter(torch.tensor(problem.w0))
    optimizer = getattr(torch.optim, name)([w], **settings)
    for step, batch in zip(iterates(problem, method, 12, 100), batches(12, 100), strict=True):
        w.grad = torch.tensor(problem.grad(w.detach().numpy(), batch))
        optimizer.step()
        np.testing.assert_allclose(step.x, w.detach().numpy(), rtol=0, atol=1e-11)


# --- SVRG ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", [WELLS, NETWORK, LOGISTIC], ids=["wells", "network", "logistic"])
@pytest.mark.parametrize(("size", "passes", "m"), [(1, 0.2, 12), (12, 2.0, 10), (7, 1.0, 9), (30, 0.25, 1)])
def test_svrg_equals_the_literal_algorithm_step_for_step(problem, size, passes, m):
    """Several snapshots, also where m is rounded up, and m = 1 (gradient descent)."""
    expected = reference.svrg(problem.grad, problem.w0, N, size, 0.1, m, 50, np.random.default_rng(SEED))
    steps = iterates(problem, mblsr1.svrg(0.1, passes), size, 50)
    for step, w in zip(steps, expected, strict=True):
        np.testing.assert_allclose(step.x, w, rtol=0, atol=1e-12)


def test_svrg_takes_the_noise_away_where_sgd_keeps_it():
    def error(method):
        result = mblsr1.minimize(WELLS.fun, WELLS.grad, WELLS.w0, N, method=method, rng=0, batch_size=6, max_steps=600)
        return np.linalg.norm(WELLS.grad(result.x, np.arange(N)))

    assert error(mblsr1.svrg(0.5)) < 1e-9
    assert error(mblsr1.sgd(0.5)) > 1e-2


def test_svrg_costs_the_set_at_a_snapshot_and_two_batches_else():
    """m = ceil(1.5 * 60 / 7) = 13 steps; the snapshot's own batch is evaluated once."""
    cost = [step.n_samples for step in iterates(WELLS, mblsr1.svrg(0.1, 1.5), 7, 40)]
    expected = [60 + 7 if k % 13 == 0 else 2 * 7 for k in range(40)]
    assert np.diff([0, *cost]).tolist() == expected


def test_the_whole_set_is_evaluated_in_the_chunks_of_the_sampler():
    sizes = []

    class Chunked(mblsr1.IndexSampler):
        def chunks(self, size):
            assert size >= 5_000
            for part in np.array_split(np.arange(N), 4):
                yield part, len(part)

    class Bare:
        n_samples = N
        draw = mblsr1.IndexSampler(N).draw

    def grad(w, batch):
        sizes.append(len(batch))
        return WELLS.grad(w, batch)

    runs = [
        mblsr1.minimize(WELLS.fun, grad, WELLS.w0, sampler, method=mblsr1.svrg(0.1), batch_size=7, rng=0, max_steps=2)
        for sampler in (Chunked(N), Bare())
    ]
    # a step: the batch, then the set; a step: the batch twice; and the last point
    assert sizes == [7, 15, 15, 15, 15, 7, 7, 7, 7, 60, 7, 7, 7]
    np.testing.assert_allclose(runs[0].x, runs[1].x, rtol=0, atol=1e-14)
    assert runs[0].n_samples == runs[1].n_samples


@pytest.mark.parametrize("sampler", [None, N], ids=["deterministic", "whole set"])
def test_svrg_on_the_whole_set_is_gradient_descent_at_its_cost(sampler):
    problem = WELLS if sampler else WELLS.whole()
    arguments = {"rng": 0, "batch_size": N, "max_steps": 9, "gtol": 0.0}
    one, two = (
        mblsr1.minimize(problem.fun, problem.grad, problem.w0, sampler, method=method, **arguments)
        for method in (mblsr1.svrg(0.3), mblsr1.sgd(0.3))
    )
    np.testing.assert_array_equal(one.x, two.x)
    assert one.n_samples == two.n_samples


@pytest.mark.parametrize("budget", [0, 6, 7, 66.9, 67, 80, 81, 200, 241, 1000.5])
def test_a_budget_that_no_snapshot_fits_in_is_not_begun(budget):
    """Each evaluation is within the budget, and a pass over the set is made whole or not at all."""
    spent = []

    def grad(w, batch):
        spent.append(len(batch))
        return WELLS.grad(w, batch)

    class Halves(mblsr1.IndexSampler):
        def chunks(self, size):
            return ((part, 30) for part in np.arange(N).reshape(2, 30))

    result = mblsr1.minimize(
        WELLS.fun, grad, WELLS.w0, Halves(N), method=mblsr1.svrg(0.1, 1.0), batch_size=7, rng=0, gtol=0.0,
        max_samples=budget,
    )  # fmt: skip
    assert result.status == 2
    assert result.n_samples <= budget
    assert spent.count(30) % 2 == 0
    whole, steps = [60 + 7 if k % 9 == 0 else 14 for k in range(100)], result.nit
    assert sum(whole[:steps]) <= budget < sum(whole[: steps + 1])


@pytest.mark.parametrize("call", [mblsr1.minimize, mblsr1.iterate])
@pytest.mark.parametrize(
    "stream",
    [mblsr1.StreamSampler(lambda size, rng: rng.integers(N, size=size)), mblsr1.LoaderSampler(lambda: [np.arange(N)])],
    ids=["stream", "loader"],
)
def test_svrg_refuses_a_stream_at_the_call(call, stream):
    with pytest.raises(ValueError, match=r"^sampler: method 'svrg' needs one with a known n_samples, got a stream$"):
        call(WELLS.fun, WELLS.grad, WELLS.w0, stream, method=mblsr1.svrg())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_bad_sample_in_the_set_ends_svrg_at_the_last_good_iterate(bad):
    """The batch's gradient is fine, that of the set is not; then the other way round, at w~ alone."""

    def grad(w, batch):
        return np.full(w.size, bad) if len(batch) == N else WELLS.grad(w, batch)

    result = mblsr1.minimize(WELLS.fun, grad, WELLS.w0, N, method=mblsr1.svrg(0.1), batch_size=7, rng=0, max_steps=5)
    assert (result.status, result.nit) == (4, 0)
    np.testing.assert_array_equal(result.x, WELLS.w0)

    def later(w, batch):
        bad_there = np.array_equal(w, WELLS.w0) and len(batch) < N and later.seen
        later.seen = True
        return np.full(w.size, bad) if bad_there else WELLS.grad(w, batch)

    later.seen = False
    result = mblsr1.minimize(WELLS.fun, later, WELLS.w0, N, method=mblsr1.svrg(0.1), batch_size=7, rng=0, max_steps=5)
    assert (result.status, result.nit) == (4, 1)
    assert np.isfinite(result.x).all()


# --- S-LSR1 ----------------------------------------------------------------------------------------

SHIFT, SAFETY, PREDICTABLE = 1e-13, 100.0, 1e-6


def ceiling(S, Y):
    return 2.0 * max(np.linalg.norm(y) / np.linalg.norm(s) for s, y in zip(S, Y, strict=True))


def followed(problem, size, m, radius, hvp, gamma=0.0, rule=None, skip=1e-8, steps=40):
    """Compare a run with the literal one; the tolerance is measured as in test_against_reference."""
    arguments = (problem.fun, problem.grad, problem.w0, N, size, m, radius, steps)
    noise = np.random.default_rng(1)

    def literal(rounding):
        return reference.s_lsr1(*arguments, np.random.default_rng(SEED), hvp, gamma, skip, rounding)

    expected, twin = literal(lambda s: s), literal(lambda s: s * (1.0 + SHIFT * noise.uniform(-1.0, 1.0, s.size)))
    apart = np.maximum.accumulate([np.abs(a["w"] - b["w"]).max() for a, b in zip(expected, twin, strict=True)])
    usable = int(np.searchsorted(apart, PREDICTABLE))
    found = iterates(problem, mblsr1.s_lsr1(m, radius, rule, skip), size, steps, hvp=hvp)
    assert usable >= 5
    for k, (step, r) in enumerate(zip(found[:usable], expected[:usable], strict=True)):
        where = f"step {k + 1}"
        error = 1e-10 + SAFETY * apart[k]
        assert np.abs(step.x - r["w"]).max() <= error * max(1.0, np.linalg.norm(r["w"])), where
        assert (step.alpha, step.n_pairs, step.radius) == (r["alpha"], r["n_pairs"], r["radius"]), where
        loss_error = 16.0 * np.finfo(float).eps * abs(r["f"]) + 2.0 * error * step.grad_norm
        assert step.rho == pytest.approx(r["rho"], rel=1e-6, abs=loss_error / abs(r["Q"])), where
    return expected[:usable]


@pytest.mark.parametrize("size", [12, 60])
@pytest.mark.parametrize("radius", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("problem", [WELLS, LOGISTIC], ids=["wells", "logistic"])
def test_s_lsr1_with_products_equals_the_literal_algorithm_step_for_step(problem, radius, size):
    followed(problem, size, 3, radius, problem.hvp)


@pytest.mark.parametrize("size", [12, 60])
@pytest.mark.parametrize("radius", [1e-3, 1.0])
@pytest.mark.parametrize("problem", [WELLS, NETWORK, LOGISTIC], ids=["wells", "network", "logistic"])
def test_s_lsr1_with_differences_equals_the_literal_algorithm_step_for_step(problem, radius, size):
    followed(problem, size, 3, radius, None)


@pytest.mark.parametrize(
    "settings",
    [
        {"m": 0}, {"m": 1}, {"m": 5}, {"m": 3, "skip": 0.5}, {"m": 3, "gamma": 1.0, "rule": scaling.constant(1.0)},
        {"m": 3, "gamma": ceiling, "rule": scaling.ceiling()},
    ],
    ids=["no pairs", "one pair", "five pairs", "half is skipped", "B0 = I", "ceiling"],
)  # fmt: skip
def test_settings_of_s_lsr1(settings):
    records = followed(WELLS, 12, **{"radius": 1.0, "hvp": WELLS.hvp, **settings})
    if "skip" in settings:
        assert min(r["n_pairs"] for r in records) < 3


def test_the_comparisons_reach_every_branch_of_s_lsr1():
    records = followed(WELLS, 60, 3, 30.0, WELLS.hvp) + followed(WELLS, 12, 3, 1e-3, WELLS.hvp)
    assert {r["alpha"] for r in records} == {0.0, 1.0}
    assert any(r["rho"] > 0.75 for r in records)
    assert any(0.1 <= r["rho"] <= 0.75 for r in records)
    assert any(r["rho"] < 0.1 for r in records)
    assert any(1e-6 < r["rho"] < 0.1 for r in records) or any(r["rho"] <= 1e-6 for r in records)


@pytest.mark.parametrize(("hvp", "a_pair"), [(None, 3), (WELLS.hvp, 6)], ids=["differences", "products"])
@pytest.mark.parametrize("m", [0, 4])
def test_s_lsr1_costs_what_it_says_on_samples(hvp, a_pair, m):
    """Loss and gradient at the iterate, m pairs, the trial's loss: (1 + 3 + m a_pair + 1) / 3 a sample."""
    steps = iterates(WELLS, mblsr1.s_lsr1(m), 7, 20, hvp=hvp)
    expected = 7 * (1 + 3 + m * a_pair + 1) / 3
    np.testing.assert_allclose(np.diff([0.0, *(s.n_samples for s in steps)]), expected, rtol=1e-12)


def test_s_lsr1_on_the_whole_set_hands_loss_and_gradient_on():
    """A rejected step costs the pairs and the trial; an accepted one its gradient too."""
    steps = iterates(WELLS, mblsr1.s_lsr1(3, 30.0), N, 20)
    cost = np.diff([N * 4 / 3, *(s.n_samples for s in steps)])
    assert {s.alpha for s in steps} == {0.0, 1.0}
    np.testing.assert_allclose(cost, [N * (3 + 1 / 3 + s.alpha) for s in steps], rtol=1e-12)


def test_two_steps_on_a_batch_evaluate_an_accepted_point_once_where_loss_and_gradient_are_one():
    run = mblsr1.iterate(
        WELLS.fused(), True, WELLS.w0, N, method=mblsr1.s_lsr1(4, 0.1), batch_size=7, steps_per_batch=2, rng=SEED,
        max_steps=6,
    )  # fmt: skip
    steps = list(run)
    assert {step.alpha for step in steps} == {1.0}
    assert np.diff([0, *(step.n_samples for step in steps)]).tolist() == [7 * 6, 7 * 5] * 3


def test_s_lsr1_finds_a_minimum_from_differences_and_from_products():
    for problem, hvp in ((problems.rosenbrock(), None), (WELLS.whole(), None), (WELLS.whole(), WELLS.whole().hvp)):
        result = mblsr1.minimize(problem.fun, problem.grad, problem.w0, method=mblsr1.s_lsr1(), rng=0, hvp=hvp)
        assert result.success
        assert np.linalg.norm(result.jac) <= 1e-5


def test_s_lsr1_with_differences_in_every_library(xp):
    """Differences over sqrt(eps) have half the digits, so libraries part; all of them come down to the minimum."""
    arguments = MILD.problem(xp, False)
    del arguments["hvp"]
    result = mblsr1.minimize(
        **arguments, w0=xp(np.full(MILD.d, 0.5)), method=mblsr1.s_lsr1(4), rng=0, gtol=1e-3, max_steps=200
    )
    assert result.success
    assert xp.is_kind(result.x)
    best = mblsr1.minimize(**MILD.problem(NUMPY, False), w0=np.full(MILD.d, 0.5)).fun
    assert result.fun == pytest.approx(best, abs=1e-3**2 / (2 * MILD.weight) + 1e-6)  # |g|^2 / (2 least curvature)


def test_s_lsr1_forgets_the_past():
    """All that is carried is the radius: an iterate alone leads to the same step, whatever was before."""
    method = mblsr1.s_lsr1(3)
    state = mblsr1.minimize(WELLS.fun, WELLS.grad, WELLS.w0, N, method=method, rng=0, max_steps=3).state
    assert set(state.tree["inner"]) == {"radius", "failures", "n_skipped"}


def test_s_lsr1_stops_where_no_radius_helps():
    """The loss rises in every direction: rejections halve the radius until the run says so."""
    result = mblsr1.minimize(
        lambda w: 0.0 if np.array_equal(w, np.ones(3)) else 1.0, lambda w: np.ones(3), np.ones(3),
        method=mblsr1.s_lsr1(2), rng=0,
    )  # fmt: skip
    assert (result.status, result.nit) == (5, 60)
    np.testing.assert_array_equal(result.x, np.ones(3))
    assert result.radius == pytest.approx(1e-10 * math.sqrt(3.0))


@pytest.mark.parametrize("fused", [False, True])
def test_a_gradient_that_is_not_finite_at_a_trial_is_a_rejection_of_s_lsr1(fused):
    def fun(w):
        return float(w @ w)

    def grad(w):
        return 2.0 * w if w[0] > 0.4 else np.full(2, np.nan)

    functions = (lambda w: (fun(w), grad(w)), True) if fused else (fun, grad)
    result = mblsr1.minimize(*functions, np.array([1.0, 1.0]), method=mblsr1.s_lsr1(2), rng=0, max_steps=30, gtol=0.0)
    assert result.x[0] > 0.4
    assert 0.0 in result.history["alpha"]
    assert result.fun < 1.0
