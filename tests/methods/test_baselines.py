"""The baselines follow torch's optimizers or a literal transcription step for step, at exactly the cost they state."""

import numpy as np
import problems
import pytest
import reference_baselines as reference

import mblsr1

SEED = 3
WELLS, NETWORK, LOGISTIC = problems.wells(), problems.network(), problems.logistic()
N = 60


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
