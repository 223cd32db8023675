"""Overlapping batches: what is evaluated where, what the step is made of, and what the parts tell of the noise."""

import math
from collections import Counter

import numpy as np
import problems
import pytest
from scipy.stats import chi2

import mblsr1
from mblsr1 import Options
from mblsr1.batches import Batches
from mblsr1.linalg.pairs import PairMemory
from mblsr1.methods import sr1_trust_region
from mblsr1.problem import Counts, Oracle, OverlapOracle, Problem
from mblsr1.rules.warm_start import sample_pairs
from mblsr1.steps.model import smoothed_model
from mblsr1.steps.overlap import annealed, overlap_step
from mblsr1.types import Carried

WELLS = problems.wells(n=4000)
SIZE, SHARED = 32, 4
PLAIN = Options(batch_size=SIZE, largest_share=1e-3, gtol=0.0)  # no growth: what a step costs is the same throughout


class Sampler(mblsr1.IndexSampler):
    """Keeps what it drew: `drawn` in order, one entry a part."""

    def __init__(self, n):
        super().__init__(n)
        self.drawn = []

    def draw(self, size, rng):
        self.drawn.append(super().draw(size, rng))
        return self.drawn[-1]


class Recorder:
    """Keeps (kind, id of the batch, bytes of w, size) of each call."""

    def __init__(self, problem):
        self.problem, self.calls, self.batches = problem, [], []

    def note(self, kind, w, batch):
        self.batches.append(batch)  # alive, so that ids differ
        self.calls.append((kind, id(batch), w.tobytes(), len(batch)))

    def fun(self, w, batch):
        self.note("fun", w, batch)
        return self.problem.fun(w, batch)

    def grad(self, w, batch):
        self.note("grad", w, batch)
        return self.problem.grad(w, batch)

    def fused(self, w, batch):
        self.note("fused", w, batch)
        return self.problem.fun(w, batch), self.problem.grad(w, batch)

    def of(self, kind):
        return [call for call in self.calls if call[0] == kind]


def run(recorder, fused, steps, options=PLAIN, sampler=None, **more):
    functions = (recorder.fused, True) if fused else (recorder.fun, recorder.grad)
    start = recorder.problem.w0
    sampler = sampler or Sampler(recorder.problem.n)
    return mblsr1.minimize(*functions, start, sampler, rng=2, options=options, max_steps=steps, **more)


# --- cost ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 15])
def test_a_step_costs_one_gradient_a_sample_where_the_loss_comes_with_it(steps):
    """The shared samples of the last step are paid for by no next step."""
    recorder = Recorder(WELLS)
    result = run(recorder, True, steps)
    assert result.n_samples == SIZE * steps + SHARED
    assert sum(call[3] for call in recorder.calls) == result.n_samples
    assert np.diff([0, *result.history["n_samples"]]).tolist() == [SIZE + SHARED, *[SIZE] * (steps - 1)]


@pytest.mark.parametrize("steps", [1, 2, 15])
def test_separate_functions_cost_the_loss_on_the_shared_samples_twice(steps):
    """At w, since they are new there, and at w + p, which serves the next batch."""
    recorder = Recorder(WELLS)
    result = run(recorder, False, steps)
    assert sum(call[3] for call in recorder.of("grad")) == SIZE * steps + SHARED
    assert [call[3] for call in recorder.of("fun")] == [SHARED] * (2 * steps)
    assert result.n_samples == pytest.approx(SIZE * steps + SHARED + 2 * SHARED * steps / 3, rel=1e-15)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("overlap", [0.125, 0.5])
@pytest.mark.parametrize("serves", [1, 3])
def test_no_samples_are_evaluated_twice_at_a_point(fused, overlap, serves):
    recorder, sampler = Recorder(WELLS), Sampler(WELLS.n)
    run(recorder, fused, 12, PLAIN.replace(overlap=overlap, steps_per_batch=serves), sampler)
    assert max(Counter(recorder.calls).values()) == 1
    later = sampler.drawn[2::2] if overlap < 0.5 else sampler.drawn[2:]  # at a half there are no further samples
    shared = [sampler.drawn[0], *later]
    assert len(shared) == 12 // serves
    for batch in shared[:-1]:
        points = {call[2] for call in recorder.calls if call[1] == id(batch)}
        # iterates before and after each step on its own batch, and between the steps on the next
        assert len(points) == (serves + 1) + (serves - 1)


def test_the_parts_of_a_batch_are_the_shared_samples_and_fresh_ones():
    sampler = Sampler(WELLS.n)
    run(Recorder(WELLS), True, 4, sampler=sampler)
    assert [len(batch) for batch in sampler.drawn] == [SHARED, SIZE - SHARED, *[SHARED, SIZE - 2 * SHARED] * 3]


@pytest.mark.parametrize("overlap", [0.01, 0.125, 0.3, 0.49, 0.5])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 8, 15, 100])
def test_the_parts_add_up_to_the_batch(overlap, size):
    counts = Counts()
    problem = Problem(WELLS.fun, WELLS.grad, None, WELLS.w0, True, counts)
    batches = Batches(problem, mblsr1.IndexSampler(WELLS.n), np.random.default_rng(0), overlap, 2)
    for _ in range(3):
        oracle, fresh = batches.draw(size)
        assert fresh
        assert oracle.size == size
        oracle.gradient(WELLS.w0.copy())  # another array: nothing is known there
        for _ in range(2):
            batches.made_step()
        assert not batches.serves_on(size)
    assert counts.n_samples == 3 * size


# --- the step --------------------------------------------------------------------------------------


def gradient_mean(beta, gradients):
    """Weights beta^(k - i) that add up to one: (1 - beta) sum / (1 - beta^(k + 1)), with 0^0 = 1."""
    weights = np.array([beta ** (len(gradients) - 1 - i) for i in range(len(gradients))])
    return weights @ np.array(gradients) / weights.sum()


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_the_linear_term_is_the_running_mean_without_its_bias(beta):
    """Without pairs B = 0 and p = -delta mean / ||mean||; w + p is rounded by eps ||w||, about 1e-15."""
    seen = []
    recorder = Recorder(WELLS)
    options = PLAIN.replace(memory=0, gradient_memory=beta, initial_radius=1e-3, poor_ratio=0.0, good_ratio=1.0)
    steps = mblsr1.iterate(
        recorder.fused, True, WELLS.w0, Sampler(WELLS.n), rng=2, options=options, max_steps=6
    )  # fmt: skip
    before, first, taken = WELLS.w0, 0, []
    for step in steps:
        calls = zip(recorder.calls[first:], recorder.batches[first:], strict=True)
        new = [(call[2] == before.tobytes(), batch) for call, batch in calls]
        seen.append(WELLS.grad(before, np.concatenate([*taken, *(batch for at_old, batch in new if at_old)])))
        taken = [batch for at_old, batch in new if not at_old]
        mean = gradient_mean(beta, seen)
        p = step.x - before
        np.testing.assert_allclose(p, -step.step_norm * mean / np.linalg.norm(mean), rtol=0, atol=1e-14)
        assert step.slope == pytest.approx(mean @ p, rel=1e-10)  # its length too, not its direction alone
        before, first = step.x, len(recorder.calls)


def bound_oracle(parts, fun=WELLS.fun, grad=WELLS.grad):
    """The overlapping oracle of these index arrays, the second of which is shared."""
    problem = Problem(fun, grad, None, WELLS.w0, True, Counts())
    oracles = [Oracle(problem, (part,), len(part), False) for part in parts]
    return OverlapOracle(oracles, oracles[1])


def test_pair_ratio_and_prediction_are_on_the_shared_samples():
    """R exactly; y exactly; Q = g'p + p'Bp / 2 with the gradient of the shared samples (p'Bp from sigma: 1e-10)."""
    rng = np.random.default_rng(0)
    parts = [rng.choice(WELLS.n, n, replace=False) for n in (4, 4, 24)]
    oracle, w = bound_oracle(parts), WELLS.w0.copy()
    memory = PairMemory(w, 5)
    for _ in range(4):
        s = rng.standard_normal(w.size)
        memory.push(s, WELLS.hvp(w, s, parts[2]))
    build = smoothed_model()
    point = oracle.point(w)
    for delta in (1e-2, 1e3):  # on the boundary, and inside
        trial, mean = overlap_step(oracle, point, memory, delta, Carried(), 0.5, build)
        new, p = trial.point.w, trial.s
        np.testing.assert_array_equal(new, w + p)
        assert trial.decrease == trial.achieved == WELLS.fun(new, parts[1]) - WELLS.fun(w, parts[1])
        np.testing.assert_array_equal(trial.y, WELLS.grad(new, parts[1]) - WELLS.grad(w, parts[1]))
        np.testing.assert_array_equal(trial.point.g, WELLS.grad(new, parts[1]))
        curvature = p @ (build(memory, point.g).B @ p)
        expected = WELLS.grad(w, parts[1]) @ p + 0.5 * curvature
        assert trial.predicted == pytest.approx(expected, rel=1e-10, abs=1e-10 * abs(curvature))
        assert trial.on_boundary is (delta < 1.0)
        assert mean.weight == 0.5


def test_the_batch_gradient_is_that_of_all_parts_weighted_by_size():
    rng = np.random.default_rng(1)
    parts = [rng.choice(WELLS.n, n, replace=False) for n in (4, 4, 24)]
    everything = np.concatenate(parts)
    oracle = bound_oracle(parts)
    point = oracle.point(WELLS.w0)
    np.testing.assert_allclose(point.g, WELLS.grad(WELLS.w0, everything), rtol=1e-13, atol=1e-14)
    assert point.f == WELLS.fun(WELLS.w0, parts[1])  # the other losses would cost extra
    assert oracle.loss(WELLS.w0) == pytest.approx(WELLS.fun(WELLS.w0, everything), rel=1e-14)
    assert oracle.size == 32


@pytest.mark.parametrize(
    ("share", "factor"), [(0.0, 1.0), (0.5, 1.0), (0.75, 1.0), (0.8, 0.8), (0.9, 0.4), (1.0, 1e-3)]
)
def test_annealed(share, factor):
    assert annealed(3.0, share) == pytest.approx(3.0 * factor, rel=1e-14)


def test_the_radius_is_annealed_in_the_last_quarter_of_max_samples_and_only_there():
    """Radius and ratio rule are kept still, and the flat model makes every step as long as the radius."""
    options = PLAIN.replace(memory=0, initial_radius=1e-3, poor_ratio=0.0, good_ratio=1.0)
    budget = SIZE * 100 + SHARED
    for anneal in (True, False):
        history = mblsr1.minimize(
            WELLS.fused(), True, WELLS.w0, WELLS.n, rng=0, options=options.replace(anneal=anneal), max_samples=budget
        ).history
        norms = np.array(history["step_norm"])
        before = np.array(history["n_samples"]) - SHARED  # what is spent when the step is made: its batch is paid
        expected = [annealed(1e-3, n / budget) for n in before] if anneal else np.full(len(norms), 1e-3)
        assert len(norms) == 100
        np.testing.assert_allclose(norms, expected, rtol=1e-9)
        np.testing.assert_allclose(history["radius"], 1e-3, rtol=0)


def test_the_radius_does_not_grow_where_it_is_annealed():
    """Ratios near 1 double the radius after each step as long as it, and in the last quarter none is."""
    options = PLAIN.replace(memory=0, initial_radius=1e-6, poor_ratio=0.0, good_ratio=0.5)
    budget = SIZE * 12 + SHARED
    history = mblsr1.minimize(
        WELLS.fused(), True, WELLS.w0, WELLS.n, rng=0, options=options, max_samples=budget
    ).history
    spent = np.array(history["n_samples"]) - SHARED
    grows = np.array([annealed(1.0, n / budget) for n in spent]) == 1.0
    assert 0 < np.sum(~grows) < 6
    np.testing.assert_allclose(history["radius"], 1e-6 * 2.0 ** np.cumsum(grows), rtol=1e-12)


def test_without_a_sample_budget_nothing_is_annealed():
    options = PLAIN.replace(memory=0, initial_radius=1e-3, poor_ratio=0.0, good_ratio=1.0)
    norms = run(Recorder(WELLS), True, 40, options).history["step_norm"]
    np.testing.assert_allclose(norms, 1e-3, rtol=1e-9)


# --- trouble ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_is_rejected_leaves_the_iterate_and_the_run_can_be_continued(fused):
    """The shared samples were evaluated at a point that is not taken: nothing of it may be remembered."""
    calls = []

    def fun(w, batch):
        calls.append(w.copy())
        bad = len(batch) == SHARED and np.linalg.norm(w - WELLS.w0) > 2.5
        return math.nan if bad else WELLS.fun(w, batch)

    functions = (lambda w, b: (fun(w, b), WELLS.grad(w, b)), True) if fused else (fun, WELLS.grad)
    options = PLAIN.replace(initial_radius=1.0)
    arguments = (*functions, WELLS.w0, WELLS.n)
    whole = mblsr1.minimize(*arguments, rng=0, options=options, max_steps=12)
    rejected = [i for i, alpha in enumerate(whole.history["alpha"]) if alpha == 0.0]
    assert 1 <= len(rejected) < 12
    for i in rejected:
        assert whole.history["loss_after"][i] == whole.history["loss"][i]
        first = mblsr1.minimize(*arguments, rng=0, options=options, max_steps=i + 1)
        second = mblsr1.minimize(*arguments, state=first.state, options=options, max_steps=11 - i)
        assert second.x.tobytes() == whole.x.tobytes()
        assert second.n_samples == whole.n_samples


def test_a_zero_gradient_is_no_step_and_leaves_everything_as_it_is():
    rng = np.random.default_rng(0)
    parts = [rng.choice(WELLS.n, n, replace=False) for n in (4, 4, 24)]
    oracle = bound_oracle(parts, lambda w, b: 1.0, lambda w, b: 0.0 * w)
    memory = PairMemory(WELLS.w0, 5)
    point = oracle.point(WELLS.w0)
    assert math.isnan(oracle.noise)
    for mean in (Carried(), Carried(np.ones_like(WELLS.w0), 0.5)):
        assert overlap_step(oracle, point, memory, 1.0, mean, 0.5, smoothed_model())[0].stationary
    # gradients that cancel in the mean are no step either
    oracle = bound_oracle(parts, lambda w, b: 1.0, lambda w, b: 1.0 + 0.0 * w)
    opposite = Carried(-np.ones_like(WELLS.w0), 1.0)
    assert overlap_step(oracle, oracle.point(WELLS.w0), memory, 1.0, opposite, 0.5, smoothed_model())[0].stationary


# --- noise -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(4, 4, 24), (4, 28), (16, 16), (1, 1, 6)])
def test_the_estimate_of_the_noise_is_unbiased(sizes):
    """Gaussian gradients of variance 1 in each of 5 coordinates: (k - 1) n |g|^2 noise is chi^2 with 5 (k - 1) degrees.

    Summed over 400 batches the degrees add up; outside these quantiles with probability 1e-6.
    """
    rng, d, repeats = np.random.default_rng(5), 5, 400
    total, parts, n = 0.0, len(sizes), sum(sizes)
    for _ in range(repeats):
        samples = 0.3 + rng.standard_normal((n, d))
        cuts = np.split(np.arange(n), np.cumsum(sizes)[:-1])
        problem = Problem(
            lambda w, b: 0.0, lambda w, b, x=samples: x[b].mean(axis=0), None, np.zeros(d), True, Counts()
        )  # fmt: skip
        oracles = [Oracle(problem, (cut,), len(cut), False) for cut in cuts]
        oracle = OverlapOracle(oracles, oracles[-2])
        g = oracle.point(np.zeros(d)).g
        total += (parts - 1) * n * oracle.noise * float(g @ g)
    low, high = chi2.ppf([5e-7, 1.0 - 5e-7], d * (parts - 1) * repeats)
    assert low < total < high


def test_parts_that_agree_have_no_noise():
    oracle = bound_oracle([np.arange(4), np.arange(4), np.arange(4)])
    oracle.point(WELLS.w0)
    assert oracle.noise == pytest.approx(0.0, abs=1e-28)


def test_the_noise_is_in_the_history_and_moves_the_batch():
    """At a minimiser of the whole set a batch gradient is noise alone: the batch doubles up to the share allowed."""
    start = problems.Problem(WELLS.fun, WELLS.grad, WELLS.w0, WELLS.n)
    best = mblsr1.minimize(start.whole().fun, start.whole().grad, WELLS.w0, gtol=1e-8)
    assert best.success
    options = Options(batch_size=SIZE, gtol=0.0, initial_radius=1e-6)
    result = mblsr1.minimize(WELLS.fused(), True, best.x, WELLS.n, rng=0, options=options, max_steps=60)
    noise = np.array(result.history["noise"])
    assert np.isfinite(noise).all()
    assert 0.5 < np.median(noise) < 2.0
    assert set(result.history["batch_size"]) == {32, 64, 128, 256, 512}
    assert result.batch_size <= 0.25 * WELLS.n


# --- the way to the whole set ----------------------------------------------------------------------


@pytest.mark.parametrize("growth", ["noise", "progress"])
def test_the_hand_over_to_the_whole_set(growth):
    """At most 20 pairs from there on, steps that are judged by their loss; continued bit for bit across it."""
    problem = problems.logistic(n=64, d=30)
    options = Options(
        batch_size=8, gtol=0.0, growth=growth, largest_share=1.0, noise_limit=0.5, check_every=12,
        progress_fraction=0.99, good_ratio=1.0, initial_radius=0.02,
    )  # fmt: skip
    arguments = (problem.fun, problem.grad, problem.w0, problem.n)
    whole = mblsr1.minimize(*arguments, rng=1, options=options, max_steps=80)
    sizes, pairs = np.array(whole.history["batch_size"]), np.array(whole.history["n_pairs"])
    assert sizes[0] == 8
    assert sizes[-1] == 64
    switch = int(np.argmax(sizes == 64))
    assert pairs[:switch].max() > 20
    assert pairs[switch:].max() <= 20
    full = problem.whole()
    after = np.array(whole.history["loss_after"])[switch:]
    assert (np.diff(after) <= 1e-15).all()
    assert whole.fun == full.fun(whole.x)
    for cut in (switch - 1, switch, switch + 1, switch + 4):
        first = mblsr1.minimize(*arguments, rng=1, options=options, max_steps=cut)
        second = mblsr1.minimize(*arguments, state=first.state, options=options, max_steps=80 - cut)
        assert second.x.tobytes() == whole.x.tobytes()
        assert second.n_samples == whole.n_samples
        assert second.history["n_pairs"] == whole.history["n_pairs"][cut:]
        kept = first.state.tree["inner"]["memory"]["order"]
        assert len(kept) <= 20 if cut > switch else len(kept) > 20


def test_on_the_whole_set_twenty_pairs_are_kept_from_the_start():
    problem = problems.logistic(n=20, d=40, spread=3.0)
    full = mblsr1.minimize(problem.fun, problem.grad, problem.w0, problem.n, options=Options(gtol=0.0), max_steps=40)
    assert max(full.history["n_pairs"]) == 20
    few = mblsr1.minimize(problem.fun, problem.grad, problem.w0, problem.n, memory=7, gtol=0.0, max_steps=40)
    assert max(few.history["n_pairs"]) == 7


def test_single_precision():
    """The run of a loss in float32 keeps it everywhere and goes where that in float64 goes."""
    problem = problems.logistic(n=400, d=10)

    def fun(w, batch):
        assert w.dtype == np.float32
        return np.float32(problem.fun(w.astype(float), batch))

    def grad(w, batch):
        return problem.grad(w.astype(float), batch).astype(np.float32)

    options = Options(batch_size=32, gtol=0.0, largest_share=1.0)
    single = mblsr1.minimize(fun, grad, problem.w0.astype(np.float32), 400, rng=0, options=options, max_steps=60)
    double = mblsr1.minimize(problem.fun, problem.grad, problem.w0, 400, rng=0, options=options, max_steps=60)
    assert single.x.dtype == single.jac.dtype == np.float32
    assert np.isfinite(single.x).all()
    everything = np.arange(400)
    start, end = (problem.fun(w, everything) for w in (problem.w0, double.x))
    assert end < start
    assert problem.fun(single.x.astype(float), everything) - end < 0.05 * (start - end)


def test_the_smallest_batches_share_a_sample_too_and_can_grow():
    centres = np.random.default_rng(0).standard_normal((400, 3))
    result = mblsr1.minimize(
        lambda w, i: (0.5 * float(((w - centres[i]) ** 2).sum(axis=1).mean()), w - centres[i].mean(axis=0)),
        True,
        np.full(3, 5.0),
        400,
        batch_size=2,
        max_samples=20_000,
        rng=0,
        gtol=0.0,
    )
    assert result.history["batch_size"][0] == 2
    assert result.batch_size > 2


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e6])
def test_a_ratio_of_rounding_does_not_move_the_radius(offset):
    """Reading 7 on samples: least squares without noise in float32, plus a constant that hides all decrease."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((2000, 10)).astype(np.float32)
    solution = np.arange(10, dtype=np.float32)
    b = A @ solution

    def both(w, i):
        r = A[i] @ w - b[i]
        return np.float32(offset) + np.float32(0.5) * np.mean(r * r), A[i].T @ r / np.float32(len(i))

    result = mblsr1.minimize(both, True, np.zeros(10, np.float32), 2000, rng=0, batch_size=200, gtol=1e-5)
    assert result.success
    # the gradient on the set is H (x - solution) with an H near I
    assert np.linalg.norm(result.x - solution) < 3e-5


@pytest.mark.parametrize("exact", [False, True], ids=["differences", "hvp"])
def test_a_warm_start_samples_the_pairs_of_one_function(exact, monkeypatch):
    """On the samples of the step's own pair, whose values at the new iterate stay known to the next batch."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 3))
    y = X @ np.arange(1.0, 4.0)
    sampled = []

    def sampling(*arguments):
        sampled.extend(pairs := sample_pairs(*arguments))
        return pairs

    monkeypatch.setattr(sr1_trust_region, "sample_pairs", sampling)
    result = mblsr1.minimize(
        lambda w, i: (0.5 * float(np.mean((X[i] @ w - y[i]) ** 2)), X[i].T @ (X[i] @ w - y[i]) / len(i)),
        True, np.full(3, 9.0), 400, rng=0, hvp=(lambda w, v, i: X[i].T @ (X[i] @ v) / len(i)) if exact else None,
        batch_size=64, memory=3, restart_memory=3, restart_tolerance=5.0, largest_share=0.1, max_steps=20, gtol=0.0,
    )  # fmt: skip
    assert len(sampled) == 3 * result.n_restarts > 0
    for s, y in sampled:
        # of 8 rows: ||y|| / ||s|| is at most the mean of ||x||^2, up to what cancels in a difference
        assert np.linalg.norm(y) <= np.max(np.sum(X * X, axis=1)) * np.linalg.norm(s)
        assert s @ y >= -1e-6 * (s @ s)
    cost = np.diff(result.history["n_samples"], prepend=0.0)
    restarts = np.diff(result.history["n_restarts"], prepend=0)
    assert cost[0] == 64 + 8 + 24 * restarts[0] * (1 + exact)
    np.testing.assert_array_equal(cost[1:], 64 + 24 * restarts[1:] * (1 + exact))


def test_products_with_the_hessian_are_means_over_the_parts():
    H = np.random.default_rng(0).standard_normal((40, 3, 3))
    problem = Problem(WELLS.fun, WELLS.grad, lambda w, v, i: H[i].mean(axis=0) @ v, np.zeros(3), True, Counts())
    batches = Batches(problem, mblsr1.IndexSampler(40), np.random.default_rng(0), 0.125, 1)
    oracle, _ = batches.draw(16)
    rows = np.concatenate([part._args[0] for part in oracle._parts])
    v = np.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(oracle.hvp(np.zeros(3), v), H[rows].mean(axis=0) @ v, rtol=1e-14)
    assert problem.counts.n_samples == 32
