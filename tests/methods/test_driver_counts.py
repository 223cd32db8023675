"""What a run costs: every call is recorded and compared with the counts; budgets; the first-order methods."""

import dataclasses
import math
from collections import Counter

import numpy as np
import problems
import pytest
from choices import RESOLVING

import mblsr1

WELLS, NETWORK = problems.wells(), problems.network()
SEED = 3


class Recorder:
    """Wraps a problem and keeps (kind, bytes of w, bytes of the batch, size) of each call."""

    def __init__(self, problem):
        self.problem, self.calls = problem, []

    def note(self, kind, w, batch):
        size = len(batch[0]) if batch else 1
        self.calls.append((kind, w.tobytes(), batch[0].tobytes() if batch else b"", size))

    def fun(self, w, *batch):
        self.note("fun", w, batch)
        return self.problem.fun(w, *batch)

    def grad(self, w, *batch):
        self.note("grad", w, batch)
        return self.problem.grad(w, *batch)

    def fused(self, w, *batch):
        self.note("fused", w, batch)
        return self.problem.fun(w, *batch), self.problem.grad(w, *batch)

    def hvp(self, w, v, *batch):
        self.note("hvp", w, batch)
        return self.problem.hvp(w, v, *batch)

    def of(self, kind):
        return [call for call in self.calls if call[0] == kind]

    def cost(self):
        """In thirds of a sample-gradient, so that it is exact."""
        thirds = {"fun": 1, "grad": 3, "fused": 3, "hvp": 6}
        return sum(thirds[kind] * size for kind, _, _, size in self.calls)

    def minimize(self, *, fused=False, hvp=False, **arguments):
        first, second = (self.fused, True) if fused else (self.fun, self.grad)
        hvp = self.hvp if hvp else None
        return mblsr1.minimize(first, second, self.problem.w0, self.problem.n, hvp=hvp, rng=SEED, **arguments)


def assert_counted(recorder, result):
    assert 3.0 * result.n_samples == pytest.approx(recorder.cost(), rel=1e-15)
    fused = len(recorder.of("fused"))
    assert result.nfev == len(recorder.of("fun")) + fused
    assert result.njev == len(recorder.of("grad")) + fused


LINE_SEARCH = mblsr1.Options.paper(gtol=0.0, memory=4, initial_radius=0.1, restart_memory=None, sgd_weight=0.0)
SETTINGS = {
    "recommended": mblsr1.Options(gtol=0.0, memory=4),
    "re-solving": RESOLVING.replace(gtol=0.0, memory=4),
    "paper": LINE_SEARCH,
    "paper, no momentum": LINE_SEARCH.replace(momentum=0.0),
}


@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("problem", [problems.rosenbrock(10), NETWORK.whole()], ids=["Rosenbrock", "network"])
def test_no_point_is_evaluated_twice_where_the_batch_is_the_whole_set(problem, fused, options):
    recorder = Recorder(problem)
    result = recorder.minimize(fused=fused, options=options, max_steps=40)
    assert result.nit == 40
    assert max(Counter(recorder.calls).values()) == 1
    assert_counted(recorder, result)


def test_a_full_batch_of_a_finite_sum_is_drawn_once_and_costs_n():
    recorder = Recorder(WELLS)
    result = recorder.minimize(options=mblsr1.Options(gtol=0.0, batch_size=500), max_steps=12)
    assert max(Counter(recorder.calls).values()) == 1
    assert {call[2] for call in recorder.calls} == {np.arange(60).tobytes()}
    assert_counted(recorder, result)


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_on_a_fresh_batch_costs_two_gradients_and_two_losses(fused):
    """f_K is taken after step 1 and the next check is far off; quadratics: nothing is rejected."""
    recorder = Recorder(WELLS)
    o = RESOLVING.replace(gtol=0.0, batch_size=10, check_every=1000, initial_radius=1e-3)
    result = recorder.minimize(fused=fused, options=o, max_steps=8)
    assert sum(result.history["rejections"]) == 0
    if fused:
        check = [call for call in recorder.calls if call[3] == 11]
        assert len(check) == 1
        assert len(recorder.calls) == 2 * 8 + 1
    else:
        assert [c[0] for c in recorder.calls][:5] == ["fun", "grad", "fun", "grad", "fun"]
        assert len(recorder.of("grad")) == 2 * 8
        assert [call[3] for call in recorder.of("fun")].count(11) == 1
        assert len(recorder.of("fun")) == 2 * 8 + 1
    assert max(Counter(recorder.calls).values()) == 1
    assert_counted(recorder, result)


def test_a_batch_that_serves_two_steps_hands_its_gradient_on():
    recorder = Recorder(WELLS)
    o = RESOLVING.replace(gtol=0.0, batch_size=10, check_every=1000, initial_radius=1e-3, steps_per_batch=2)
    result = recorder.minimize(options=o, max_steps=8)
    assert len(recorder.of("grad")) == 4 * 3
    assert len({call[2] for call in recorder.of("grad")}) == 4
    assert max(Counter(recorder.calls).values()) == 1
    assert_counted(recorder, result)


def test_the_loss_at_the_model_step_is_one_more_only_where_it_is_not_the_step():
    """Reading 7 in calls: with momentum p* is not p, so a step of Alg. 4 has at least three losses."""
    for momentum, losses in ((0.0, 2), (0.5, 3)):
        recorder = Recorder(WELLS)
        o = LINE_SEARCH.replace(momentum=momentum, sgd_weight=0.0, batch_size=10, check_every=1000, initial_radius=1e-3)
        result = recorder.minimize(options=o, max_steps=6)
        assert result.history["alpha"] == [1.0] * 6
        # the first step has no past: v = 0 and p = p*
        assert len([c for c in recorder.of("fun") if c[3] == 10]) == (2 * 6 if losses == 2 else 2 + 3 * 5)
        assert_counted(recorder, result)


@pytest.mark.parametrize("count", [1, 3])
def test_warm_starts_cost_two_samples_a_product_or_one_a_gradient(count):
    options = LINE_SEARCH.replace(
        momentum=0.0, sgd_weight=0.0, restart_memory=count, restart_tolerance=1e9, batch_size=10, check_every=1000
    )
    with_products, with_differences = Recorder(WELLS), Recorder(WELLS)
    a = with_products.minimize(hvp=True, options=options, max_steps=5)
    b = with_differences.minimize(options=options, max_steps=5)
    assert len(with_products.of("hvp")) == 5 * count
    assert len(with_products.of("grad")) == 2 * 5
    assert len(with_differences.of("grad")) == (2 + count) * 5
    assert_counted(with_products, a)
    assert_counted(with_differences, b)


@pytest.mark.parametrize(("check_size", "size"), [(17, 17), (100, 60), ("all", 60), (lambda n: 2 * n + 1, 21)])
def test_check_samples_are_counted(check_size, size):
    """All terms of this sum are the same, so progress is steady and the batch does not grow."""
    recorder = Recorder(problems.wells(noise=0.0, depth=0.0))
    o = RESOLVING.replace(gtol=0.0, batch_size=10, check_every=3, check_size=check_size, initial_radius=1e-3)
    result = recorder.minimize(options=o, max_steps=10)
    assert result.history["batch_size"] == [10] * 10
    assert [call[3] for call in recorder.of("fun")].count(size) == 4  # after steps 1, 4, 7, 10
    assert_counted(recorder, result)


def test_gradients_over_the_whole_set_are_counted_and_made_once_in_k_steps():
    """The batches say "stationary" at every step, the whole set never does."""
    calls = []

    class TwoFaced(mblsr1.IndexSampler):
        def draw(self, size, rng):
            return np.zeros(size, dtype=int)

    def grad(w, batch):
        calls.append(len(batch))
        return np.ones(2) if not batch.any() else np.full(2, 10.0)

    result = mblsr1.minimize(
        lambda w, batch: float(np.sum(w)), grad, np.zeros(2), TwoFaced(7), max_steps=9, options=RESOLVING,
        batch_size=3, check_every=4, gtol=2.0, initial_radius=1e-3,
    )  # fmt: skip
    assert result.nit == 9
    assert calls.count(7) == 3  # before steps 1, 5, 9
    assert calls.count(3) == 2 * 9
    assert result.njev == len(calls)
    # Losses: two a step on three samples, and three checks (after steps 1, 5, 9) on ceil(3.3) = 4.
    assert result.nfev == 2 * 9 + 3
    assert 3.0 * result.n_samples == pytest.approx(3 * sum(calls) + 3 * 18 + 4 * 3, rel=1e-15)


METHODS = {
    "recommended": {"options": mblsr1.Options(gtol=0.0, memory=4, batch_size=7)},
    "recommended, batches of 16": {"options": mblsr1.Options(gtol=0.0, memory=4, batch_size=16)},
    "re-solving": {"options": RESOLVING.replace(gtol=0.0, memory=4, batch_size=7, check_every=3)},
    "paper": {"options": LINE_SEARCH.replace(batch_size=7, check_every=3, restart_memory=4, restart_tolerance=0.5)},
    "l-ssr1-tr": {"options": mblsr1.Options.l_ssr1_tr(gtol=0.0, memory=4, batch_size=7, check_every=3)},
    "sgd": {"method": mblsr1.sgd(0.1, 0.9), "options": mblsr1.Options(gtol=0.0, batch_size=7)},
    "adam": {"method": mblsr1.adam(0.01), "options": mblsr1.Options(gtol=0.0, batch_size=7)},
    "svrg": {"method": mblsr1.svrg(0.1, 0.5), "options": mblsr1.Options(gtol=0.0, batch_size=7)},
    "s-lsr1": {"method": mblsr1.s_lsr1(4), "options": mblsr1.Options(gtol=0.0, batch_size=7)},
}


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("arguments", METHODS.values(), ids=METHODS)
def test_the_sample_budget_is_never_exceeded_and_nearly_used(arguments, fused):
    for budget in (0, 1, 6.9, 7, 9.5, 50, 123.4, 400):
        recorder = Recorder(NETWORK)
        result = recorder.minimize(fused=fused, max_samples=budget, **arguments)
        assert result.status == 2
        assert recorder.cost() <= 3.0 * budget
        assert_counted(recorder, result)
        # The next evaluation is of at most the whole set, two samples each.
        assert budget - result.n_samples <= 2 * 60


@pytest.mark.parametrize("arguments", METHODS.values(), ids=METHODS)
def test_a_budget_is_that_of_the_call_when_a_run_is_continued(arguments):
    first, second = Recorder(WELLS), Recorder(WELLS)
    begun = first.minimize(max_steps=3, **arguments)
    more = second.minimize(max_samples=100, state=begun.state, **arguments)
    assert second.cost() <= 300
    before = begun.state.tree["counts"]["thirds"]
    assert 3.0 * more.n_samples == pytest.approx(before + second.cost(), rel=1e-15)


@pytest.mark.parametrize("arguments", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("steps", [0, 1, 17])
def test_the_step_budget_is_exact(arguments, steps):
    result = Recorder(WELLS).minimize(max_steps=steps, **arguments)
    assert (result.nit, result.status) == (steps, 1)
    assert {len(column) for column in result.history.values()} <= {steps}
    assert result.history.get("step", []) == list(range(1, steps + 1))


def batches(size, count, n=60):
    rng = np.random.default_rng(SEED)
    return [rng.choice(n, size, replace=False, shuffle=False) for _ in range(count)]


def heavy_ball(problem, steps, size, rate, momentum):
    w, v, iterates = problem.w0.copy(), np.zeros_like(problem.w0), []
    for batch in batches(size, steps):
        v = momentum * v + problem.grad(w, batch)
        w = w - rate * v
        iterates.append(w)
    return iterates


def literal_adam(problem, steps, size, rate, b1=0.9, b2=0.999, epsilon=1e-8):
    """Kingma and Ba 2015, Algorithm 1."""
    w, m, v, iterates = problem.w0.copy(), 0.0, 0.0, []
    for t, batch in enumerate(batches(size, steps), start=1):
        g = problem.grad(w, batch)
        m, v = b1 * m + (1.0 - b1) * g, b2 * v + (1.0 - b2) * g**2
        w = w - rate * (m / (1.0 - b1**t)) / (np.sqrt(v / (1.0 - b2**t)) + epsilon)
        iterates.append(w)
    return iterates


def literal_rmsprop(problem, steps, size, rate, alpha=0.99, epsilon=1e-8):
    w, v, iterates = problem.w0.copy(), 0.0, []
    for batch in batches(size, steps):
        g = problem.grad(w, batch)
        v = alpha * v + (1.0 - alpha) * g**2
        w = w - rate * g / (np.sqrt(v) + epsilon)
        iterates.append(w)
    return iterates


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (mblsr1.sgd(0.1), lambda: heavy_ball(NETWORK, 50, 12, 0.1, 0.0)),
        (mblsr1.sgd(0.05, 0.9), lambda: heavy_ball(NETWORK, 50, 12, 0.05, 0.9)),
        (mblsr1.adam(0.01), lambda: literal_adam(NETWORK, 50, 12, 0.01)),
        (mblsr1.adam(0.02, 0.8, 0.9, 1e-4), lambda: literal_adam(NETWORK, 50, 12, 0.02, 0.8, 0.9, 1e-4)),
        (mblsr1.rmsprop(0.01), lambda: literal_rmsprop(NETWORK, 50, 12, 0.01)),
    ],
    ids=["sgd", "momentum", "adam", "adam, other constants", "rmsprop"],
)
def test_first_order_methods_equal_their_formulas_step_for_step(method, expected):
    """A step rounds by a few eps; curvature 1 and a rate of 0.1 amplify an error by at most 1.1^50 = 117 in 50 steps
    (fewer for the others), so 50 x 117 x 4 eps = 5e-12 bounds the distance."""
    recorder = Recorder(NETWORK)
    steps = mblsr1.iterate(
        recorder.fun, recorder.grad, NETWORK.w0, 60, method=method, batch_size=12, gtol=0.0, rng=SEED, max_steps=50
    )
    for step, w in zip(steps, expected(), strict=True):
        assert np.abs(step.x - w).max() <= 5e-12
    # One gradient a step on the batch, no loss.
    assert [c[0] for c in recorder.calls] == ["grad"] * 50
    assert [c[2] for c in recorder.calls] == [b.tobytes() for b in batches(12, 50)]


def test_the_last_point_of_a_first_order_method_is_evaluated_once_at_the_end():
    recorder = Recorder(NETWORK)
    result = recorder.minimize(method=mblsr1.sgd(0.1), batch_size=12, gtol=0.0, max_steps=5)
    last = batches(12, 5)[-1]
    assert [c[0] for c in recorder.calls] == ["grad"] * 5 + ["fun", "grad"]
    assert result.fun == NETWORK.fun(result.x, last)
    assert np.array_equal(result.jac, NETWORK.grad(result.x, last))
    assert_counted(recorder, result)


def test_l_ssr1_tr_is_the_paper_with_its_special_settings():
    """m_hat = -1, gamma_2 = eta = zeta = 0 and the check on all N (section 3 of the paper)."""
    special = mblsr1.Options.l_ssr1_tr()
    assert special.restart_memory is None
    assert (special.progress_fraction, special.sgd_weight, special.ratio_memory) == (0.0, 0.0, 0.0)
    assert special.check_size == "all"
    fields = ("restart_memory", "progress_decrease", "progress_fraction", "sgd_weight", "ratio_memory", "check_size")
    built = mblsr1.Options.paper().replace(**{name: getattr(special, name) for name in fields})
    for field in dataclasses.fields(special):
        if field.name != "scaling":
            assert getattr(built, field.name) == getattr(special, field.name), field.name
    recorder = Recorder(WELLS)
    result = recorder.minimize(options=special.replace(gtol=0.0, batch_size=12, check_every=3), max_steps=10)
    assert result.n_restarts == 0
    # zeta = 0: the classic ratio
    clipped = [min(max(rho, -10.0), 10.0) for rho in result.history["rho"]]
    assert result.history["rho_hat"] == pytest.approx(clipped, rel=1e-15)
    assert [c[3] for c in recorder.of("fun")].count(60) >= 4
    assert math.isfinite(result.fun)
