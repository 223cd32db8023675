"""What a run returns and does: result, history, statuses, callbacks, budgets, iterate, progress bar."""

import math
import pickle
from itertools import pairwise

import numpy as np
import pytest
from choices import RESOLVING

import mblsr1
from mblsr1 import Options, Status

N, D = 40, 6
_DATA = np.random.default_rng(5)
A = _DATA.standard_normal((N, D)) / math.sqrt(D)
B = A @ _DATA.standard_normal(D) + 0.1 * _DATA.standard_normal(N)

PRESETS = {
    "recommended": Options(),
    "re-solving": RESOLVING,
    "paper": Options.paper(),
    "l_ssr1_tr": Options.l_ssr1_tr(),
}
METHODS = {
    "sgd": mblsr1.sgd(0.1, momentum=0.9),
    "adam": mblsr1.adam(0.05),
    "rmsprop": mblsr1.rmsprop(0.02),
    "svrg": mblsr1.svrg(0.1),
    "s-lsr1": mblsr1.s_lsr1(3),
}
RUNS = [*({"options": o} for o in PRESETS.values()), *({"method": m} for m in METHODS.values())]
every_run = pytest.mark.parametrize("how", RUNS, ids=[*PRESETS, *METHODS])


def fun(w, batch=slice(None)):
    residual = A[batch] @ w.reshape(-1).astype(float) - B[batch]
    return float(residual @ residual) / len(residual)


def grad(w, batch=slice(None)):
    residual = A[batch] @ w.reshape(-1).astype(float) - B[batch]
    return ((2.0 / len(residual)) * (A[batch].T @ residual)).reshape(w.shape).astype(w.dtype)


def both(w, batch=slice(None)):
    return fun(w, batch), grad(w, batch)


SOLUTION = np.linalg.lstsq(A, B, rcond=None)[0]


class Recorder:
    """fun and grad that remember the samples, the calls and the points they were asked for."""

    def __init__(self):
        self.calls, self.points, self.cost = {"fun": 0, "grad": 0}, [], 0

    def fun(self, w, batch=slice(None)):
        self.calls["fun"] += 1
        self.cost += len(A[batch])
        self.points.append(w.copy())
        return fun(w, batch)

    def grad(self, w, batch=slice(None)):
        self.calls["grad"] += 1
        self.cost += 3 * len(A[batch])
        return grad(w, batch)


# --- the result ------------------------------------------------------------------------------------

FIELDS = {
    "x", "fun", "jac", "nit", "nfev", "njev", "success", "status", "message",
    "n_samples", "batch_size", "radius", "n_restarts", "n_skipped", "history", "state",
}  # fmt: skip
COLUMNS = {
    "step", "loss", "grad_norm", "rho", "rho_hat", "radius", "batch_size", "alpha", "sigma", "n_samples",
    "nfev", "njev",
}  # fmt: skip


@every_run
def test_fields_and_their_types(how):
    result = mblsr1.minimize(fun, grad, np.zeros(D), N, max_steps=25, rng=0, **{**how, "batch_size": 8})
    assert set(result) == FIELDS
    for name in ("nit", "nfev", "njev", "status", "batch_size", "n_restarts", "n_skipped"):
        assert type(result[name]) is int, name
    for name in ("fun", "radius"):
        assert type(result[name]) is float, name
    assert type(result.n_samples) in (int, float)
    assert type(result.success) is bool
    assert type(result.message) is str
    assert isinstance(result.x, np.ndarray)
    assert isinstance(result.jac, np.ndarray)
    assert isinstance(result.state, mblsr1.State)
    assert result.state.step == result.nit == 25
    np.testing.assert_array_equal(result.state.x, result.x)


@every_run
def test_history_is_columns_of_python_numbers_ready_for_pandas(how):
    pandas = pytest.importorskip("pandas")
    result = mblsr1.minimize(fun, grad, np.zeros(D), N, max_steps=25, rng=0, **{**how, "batch_size": 8})
    history = result.history
    assert type(history) is dict
    assert set(history) >= COLUMNS
    assert {len(column) for column in history.values()} == {result.nit}
    assert {type(x) for column in history.values() for x in column} <= {int, float}
    assert history["step"] == list(range(1, 26))
    for name in ("n_samples", "nfev", "njev", "batch_size"):
        assert all(a <= b for a, b in pairwise(history[name])), name
    frame = pandas.DataFrame(history)
    assert len(frame) == 25
    assert all(kind in "if" for kind in (t.kind for t in frame.dtypes))


def test_a_result_prints_its_history_in_one_line():
    for max_steps in (0, 3):
        result = mblsr1.minimize(fun, grad, np.zeros(D), N, max_steps=max_steps, rng=0)
        text = repr(result)
        assert f"history: {len(result.history)} columns of {max_steps} steps" in text
        assert text.count("\n") < 40
        assert result.history.get("step", []) == list(range(1, max_steps + 1))
        again = pickle.loads(pickle.dumps(result))
        assert repr(again) == text


@pytest.mark.parametrize("options", PRESETS.values(), ids=PRESETS)
def test_the_scalars_of_a_step_agree_with_each_other(options):
    h = mblsr1.minimize(fun, grad, np.zeros(D), max_steps=20, options=options).history
    made = np.array(h["alpha"]) > 0.0
    loss, after, decrease = (np.array(h[k]) for k in ("loss", "loss_after", "decrease"))
    np.testing.assert_array_equal(after - loss, decrease)
    np.testing.assert_array_equal(after[:-1], loss[1:])
    assert (np.array(h["slope"])[made] < 0.0).all()
    assert (np.array(h["predicted"])[made] < 0.0).all()
    assert (np.array(h["sigma"])[made] >= 0.0).all()
    assert made.any()


@every_run
@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 6, 1)])
def test_fun_and_jac_belong_to_x_exactly(how, shape):
    result = mblsr1.minimize(fun, grad, np.zeros(shape), max_steps=5, **how)
    assert result.nit == 5
    assert result.x.shape == result.jac.shape == shape
    assert result.fun == fun(result.x)
    np.testing.assert_array_equal(result.jac, grad(result.x))
    assert result.fun < fun(np.zeros(D))


@every_run
def test_fun_and_jac_are_those_of_the_last_batch(how):
    """Of batches that overlap, those of the samples that the next batch takes over."""
    seen, size = [], 2 if how.get("options") is PRESETS["recommended"] else 16
    sampler = mblsr1.IndexSampler(N)
    result = mblsr1.minimize(
        lambda w, b: seen.append((w.copy(), b)) or fun(w, b), grad, np.zeros(D), sampler, max_steps=7, rng=1,
        **{**how, "batch_size": 16, "check_every": 100},
    )  # fmt: skip
    batch = next(b for w, b in reversed(seen) if len(b) == size and np.array_equal(w, result.x))
    assert result.fun == fun(result.x, batch)
    np.testing.assert_array_equal(result.jac, grad(result.x, batch))


@every_run
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_and_shape_are_kept_everywhere(how, dtype):
    seen = set()

    def watched(w, batch):
        seen.add((w.dtype.name, w.shape))
        return fun(w, batch)

    w0 = np.zeros((2, 3), dtype=dtype)
    result = mblsr1.minimize(watched, grad, w0, N, max_steps=12, rng=0, **{**how, "batch_size": 8})
    assert seen == {(np.dtype(dtype).name, (2, 3))}
    assert (result.x.dtype, result.jac.dtype, result.state.x.dtype) == (dtype, dtype, dtype)
    assert type(result.fun) is float


@pytest.mark.parametrize("rate", [np.float64(0.1), np.float32(0.1), 1])
def test_numpy_scalars_as_settings_do_not_change_the_dtype(rate):
    for how in ({"method": mblsr1.sgd(rate, 0 * rate)}, {"initial_radius": rate}, {"method": mblsr1.adam(rate)}):
        result = mblsr1.minimize(fun, grad, np.zeros(D, dtype=np.float32), max_steps=3, **how)
        assert result.x.dtype == np.float32


@every_run
@pytest.mark.parametrize("shape", [(), (1,)])
def test_one_variable(how, shape):
    result = mblsr1.minimize(lambda w: float(np.sum((w - 3.0) ** 2)), lambda w: 2.0 * (w - 3.0), np.zeros(shape), **how)
    assert result.x.shape == result.jac.shape == shape
    assert abs(float(result.x.reshape(-1)[0]) - 3.0) < 1e-4


@every_run
@pytest.mark.parametrize("order", ["C", "F"])
def test_w0_is_never_modified(how, order):
    w0 = np.asarray(np.arange(6.0).reshape(2, 3), order=order)
    before = w0.copy()
    mblsr1.minimize(fun, grad, w0, max_steps=5, **how)
    np.testing.assert_array_equal(w0, before)
    w0.flags.writeable = False
    result = mblsr1.minimize(fun, grad, w0, max_steps=5, **how)
    assert not np.shares_memory(result.x, w0)


def test_the_fused_form_makes_the_same_run_with_fewer_calls():
    for options in PRESETS.values():
        two = mblsr1.minimize(fun, grad, np.zeros(D), max_steps=10, options=options)
        one = mblsr1.minimize(both, True, np.zeros(D), max_steps=10, options=options)
        assert one.nfev == one.njev
        assert one.n_samples == one.nfev
        if options.globalization == "line-search":  # with re-solving a rejected point's free gradient gives a pair
            np.testing.assert_array_equal(one.x, two.x)
            assert one.njev >= two.njev


@every_run
def test_calls_and_cost_are_counted_exactly(how):
    user = Recorder()
    result = mblsr1.minimize(
        user.fun, user.grad, np.zeros(D), N, max_steps=23, rng=3, **{**how, "batch_size": 7, "check_every": 4}
    )
    assert (result.nfev, result.njev) == (user.calls["fun"], user.calls["grad"])
    assert result.n_samples == pytest.approx(user.cost / 3, abs=1e-9)
    if user.cost % 3 == 0:
        assert type(result.n_samples) is int


# --- statuses --------------------------------------------------------------------------------------


def raises_after(n):
    def callback(step):
        if step.step == n:
            raise StopIteration

    return callback


ENDS = {
    Status.CONVERGED: ({}, "converged"),
    Status.STEP_BUDGET: ({"max_steps": 2}, "max_steps"),
    Status.SAMPLE_BUDGET: ({"max_samples": 5}, "max_samples"),
    Status.STOPPED: ({"callback": raises_after(1)}, "callback"),
    Status.NON_FINITE: ({"fun": lambda w: math.nan}, "finite"),
    Status.NO_PROGRESS: ({"grad": lambda w: -grad(w)}, "no further progress"),
}


@pytest.mark.parametrize("status", list(Status), ids=lambda s: s.name)
@pytest.mark.parametrize("options", PRESETS.values(), ids=PRESETS)
def test_every_status_can_be_reached_and_only_0_is_a_success(status, options):
    changes, word = ENDS[status]
    changes = {"max_steps": 2_000, **changes}
    if status is Status.SAMPLE_BUDGET:
        del changes["max_steps"]
    functions = [changes.pop("fun", fun), changes.pop("grad", grad)]
    result = mblsr1.minimize(*functions, np.zeros(D), options=options, gtol=1e-3, **changes)
    assert result.status == int(status)
    assert word in result.message
    assert result.success is (status is Status.CONVERGED)


def test_the_numbers_of_the_statuses_are_public():
    assert [int(s) for s in Status] == [0, 1, 2, 3, 4, 5]


@every_run
def test_a_start_that_is_optimal_takes_no_step(how):
    result = mblsr1.minimize(fun, grad, SOLUTION, **how)
    assert (result.status, result.nit, result.njev) == (0, 0, 1)
    np.testing.assert_array_equal(result.x, SOLUTION)
    assert result.fun == fun(SOLUTION)
    np.testing.assert_array_equal(result.jac, grad(SOLUTION))
    assert set(result.history) >= COLUMNS
    assert all(column == [] for column in result.history.values())
    assert "history" in str(result)


@every_run
def test_convergence_means_the_gradient_over_the_whole_set(how):
    result = mblsr1.minimize(
        fun, grad, np.zeros(D), N, rng=0, gtol=0.05, max_steps=5000,
        **{**how, "batch_size": 20, **({} if "method" in how else {"initial_radius": 0.1})},
    )  # fmt: skip
    assert result.success
    assert np.linalg.norm(grad(result.x)) <= 0.05


@every_run
def test_no_steps_allowed(how):
    user = Recorder()
    w0 = np.ones(D)
    result = mblsr1.minimize(user.fun, user.grad, w0, max_steps=0, **how)
    assert not np.shares_memory(result.x, w0)
    assert (result.status, result.nit, result.n_samples, user.calls) == (1, 0, 0, {"fun": 0, "grad": 0})
    np.testing.assert_array_equal(result.x, np.ones(D))
    assert math.isnan(result.fun)
    assert result.jac is None


@every_run
def test_no_samples_allowed(how):
    user = Recorder()
    result = mblsr1.minimize(user.fun, user.grad, np.ones(D), N, max_samples=0, **how)
    assert (result.status, result.nit, result.n_samples, user.calls) == (2, 0, 0, {"fun": 0, "grad": 0})
    np.testing.assert_array_equal(result.x, np.ones(D))


@every_run
@pytest.mark.parametrize("budget", [1, 39.9, 53, 53.4, 90, 100.5, 333])
def test_the_sample_budget_is_never_exceeded_and_well_used(how, budget):
    user = Recorder()
    result = mblsr1.minimize(
        user.fun, user.grad, np.zeros(D), N, rng=0, max_samples=budget, gtol=0.0, **{**how, "batch_size": 13}
    )
    assert result.status == 2
    assert result.n_samples == pytest.approx(user.cost / 3)
    assert user.cost / 3 <= budget
    # what is left would not pay for one more evaluation of the largest kind
    assert budget - user.cost / 3 < 1.1 * 40 + 40
    assert np.isfinite(result.x).all()


@pytest.mark.parametrize("options", PRESETS.values(), ids=PRESETS)
def test_a_budget_smaller_than_one_step_leaves_the_start(options):
    result = mblsr1.minimize(fun, grad, np.ones(D), options=options, max_samples=1.4)
    assert (result.status, result.nit) == (2, 0)
    np.testing.assert_array_equal(result.x, np.ones(D))
    assert result.fun == fun(np.ones(D))
    np.testing.assert_array_equal(result.jac, grad(np.ones(D)))


def test_without_budgets_the_number_of_steps_is_limited():
    always = mblsr1.minimize(lambda w, b: 0.0, lambda w, b: np.ones(1), np.zeros(1), 3, method=mblsr1.sgd(1e-3))
    assert (always.status, always.nit) == (1, 1000)


def test_budgets_are_those_of_the_call():
    first = mblsr1.minimize(fun, grad, np.zeros(D), N, rng=0, batch_size=8, max_steps=4)
    second = mblsr1.minimize(fun, grad, np.zeros(D), N, state=first.state, batch_size=8, max_steps=3)
    assert (second.status, second.nit, len(second.history["step"])) == (1, 7, 3)
    third = mblsr1.minimize(fun, grad, np.zeros(D), N, state=second.state, batch_size=8, max_samples=100)
    assert third.status == 2
    assert second.n_samples < third.n_samples <= second.n_samples + 100


# --- callbacks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "stops"),
    [(True, True), (1, True), (np.True_, True), (np.array(True), True),
     (False, False), (None, False), (0, False), (np.False_, False)],
    ids=repr,
)  # fmt: skip
def test_what_the_callback_returns(answer, stops):
    result = mblsr1.minimize(fun, grad, np.zeros(D), max_steps=4, callback=lambda step: answer)
    assert (result.status, result.nit) == ((3, 1) if stops else (1, 4))


def test_stop_iteration_stops_after_its_step():
    result = mblsr1.minimize(fun, grad, np.zeros(D), callback=raises_after(3))
    assert (result.status, result.nit, len(result.history["step"])) == (3, 3, 3)
    same = mblsr1.minimize(fun, grad, np.zeros(D), max_steps=3)
    np.testing.assert_array_equal(result.x, same.x)


@pytest.mark.parametrize("changes", [{"max_steps": 5}, {"max_samples": 150}, {"gtol": 1e-2}, {"callback_only": 1}])
@every_run
def test_the_callback_sees_every_step(how, changes):
    steps = []
    changes = {k: v for k, v in changes.items() if k != "callback_only"}
    result = mblsr1.minimize(
        fun, grad, np.zeros(D), N, rng=1, callback=lambda step: steps.append(dict(step.scalars)),
        **{**how, "batch_size": 8, "max_steps": 40, **changes},
    )  # fmt: skip
    assert [s["step"] for s in steps] == result.history["step"]
    assert [s["n_samples"] for s in steps] == result.history["n_samples"]


def test_the_callback_sees_the_step_at_which_nothing_more_is_possible():
    steps = []
    result = mblsr1.minimize(
        fun, lambda w: -grad(w), np.zeros(D), callback=lambda step: steps.append(step.step) or True
    )
    assert result.nit == len(steps) >= 1
    stuck = mblsr1.minimize(fun, lambda w: -grad(w), np.zeros(D), callback=lambda step: steps.append(step.step))
    assert (stuck.status, steps[-1]) == (5, stuck.nit)


def test_the_callbacks_own_errors_pass_through():
    def broken(step):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        mblsr1.minimize(fun, grad, np.zeros(D), callback=broken)


def test_a_step_has_the_scalars_as_attributes():
    step = next(mblsr1.iterate(fun, grad, np.zeros((2, 3))))
    assert (step.step, step.batch_size, step.loss) == (1, 1, fun(np.zeros(D)))
    assert step.x.shape == (2, 3)
    assert set(step.scalars) <= set(dir(step))
    assert "step=1" in repr(step)
    with pytest.raises(AttributeError, match="Step has no scalar 'lossy'; it has step, loss"):
        _ = step.lossy


# --- progress bar ----------------------------------------------------------------------------------


@every_run
@pytest.mark.parametrize("budget", [{"max_steps": 5}, {"max_samples": 100}, {"max_samples": math.inf}, {"gtol": 1.0}])
def test_the_bar_goes_to_stderr_and_changes_nothing(how, budget, capfd):
    budget = {"callback": raises_after(30), **budget}
    quiet = mblsr1.minimize(fun, grad, np.zeros(D), N, rng=0, **{**how, "batch_size": 8, **budget})
    assert capfd.readouterr() == ("", "")
    shown = mblsr1.minimize(fun, grad, np.zeros(D), N, rng=0, disp=True, **{**how, "batch_size": 8, **budget})
    out, err = capfd.readouterr()
    assert out == ""
    name = how["method"].name if "method" in how else "mb-lsr1"
    assert name in err
    np.testing.assert_array_equal(quiet.x, shown.x)
    np.testing.assert_equal(quiet.history, shown.history)
    assert (quiet.status, quiet.n_samples) == (shown.status, shown.n_samples)


# --- iterate ---------------------------------------------------------------------------------------


@every_run
def test_iterate_is_the_same_run_step_for_step(how):
    changes = {**how, "batch_size": 8, "max_steps": 12}
    columns, iterates = {}, []
    for step in mblsr1.iterate(fun, grad, np.zeros(D), N, rng=2, **changes):
        iterates.append(step.x.copy())
        for name, value in step.scalars.items():
            columns.setdefault(name, []).append(value)
    result = mblsr1.minimize(fun, grad, np.zeros(D), N, rng=2, **changes)
    np.testing.assert_equal(columns, result.history)
    np.testing.assert_array_equal(iterates[-1], result.x)
    for k in (1, 5, 11):
        shorter = mblsr1.minimize(fun, grad, np.zeros(D), N, rng=2, **{**changes, "max_steps": k})
        np.testing.assert_array_equal(iterates[k - 1], shorter.x)


def test_iterates_are_not_overwritten_by_later_steps():
    kept, copies = [], []
    for step in mblsr1.iterate(fun, grad, np.zeros(D), max_steps=6):
        kept.append(step.x)
        copies.append(step.x.copy())
    for a, b in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len({x.tobytes() for x in kept}) == 6


def test_nothing_is_evaluated_before_the_first_step_is_asked_for():
    user = Recorder()
    steps = mblsr1.iterate(user.fun, user.grad, np.zeros(D))
    assert user.calls == {"fun": 0, "grad": 0}
    next(steps)
    assert user.calls["fun"] > 0


def test_break_at_will():
    user = Recorder()
    for step in mblsr1.iterate(user.fun, user.grad, np.zeros(D), N, rng=0, batch_size=8):
        if step.step == 3:
            break
    calls = dict(user.calls)
    assert step.nfev == calls["fun"]
    assert step.njev == calls["grad"]


@every_run
def test_the_state_is_at_hand_until_the_next_step_only(how):
    steps = mblsr1.iterate(fun, grad, np.zeros(D), N, rng=0, **{**how, "batch_size": 8, "max_steps": 3})
    first = next(steps)
    assert first.state.step == 1
    second = next(steps)
    with pytest.raises(RuntimeError, match="the state of step 1 is gone: read it before the next step is made"):
        _ = first.state
    np.testing.assert_array_equal(second.state.x, second.x)
    kept = second.state
    before = kept.x.copy()
    last = list(steps)[-1]
    np.testing.assert_array_equal(kept.x, before)
    assert last.state.step == 3


def test_numpy_errors_are_the_callers_between_the_steps():
    for step in mblsr1.iterate(fun, grad, np.zeros(D), max_steps=2):
        assert np.geterr()["over"] == "warn"
        assert step.step
    mblsr1.minimize(fun, grad, np.zeros(D), max_steps=2, callback=lambda step: np.geterr()["over"] != "warn")


# --- batches ---------------------------------------------------------------------------------------


@every_run
def test_a_batch_serves_for_steps_per_batch_steps(how):
    drawn = []

    class Source(mblsr1.IndexSampler):
        def draw(self, size, rng):
            batch = super().draw(size, rng)
            drawn.append(size)
            return batch

    mblsr1.minimize(
        fun, grad, np.zeros(D), Source(N), rng=0, max_steps=9, gtol=0.0,
        **{**how, "batch_size": 8, "check_every": 1000, "steps_per_batch": 3},
    )  # fmt: skip
    if how.get("options") is PRESETS["recommended"]:  # the shared samples, and the rest less those taken over
        assert drawn == [1, 7, 1, 6, 1, 6]
    else:
        assert drawn.count(8) == 3


@pytest.mark.parametrize("options", PRESETS.values(), ids=PRESETS)
def test_a_batch_larger_than_the_set_is_the_set(options):
    drawn = []

    class Source(mblsr1.IndexSampler):
        def draw(self, size, rng):
            drawn.append(size)
            return super().draw(size, rng)

    result = mblsr1.minimize(fun, grad, np.zeros(D), Source(N), options=options, max_steps=5)
    assert drawn == [N]
    assert result.batch_size == N
    alone = mblsr1.minimize(fun, grad, np.zeros(D), options=options, max_steps=5)
    np.testing.assert_array_equal(result.x, alone.x)
    assert result.n_samples == pytest.approx(N * alone.n_samples, rel=1e-15)


@pytest.mark.parametrize("overlap", [0.0, 0.125])
def test_the_batch_grows_up_to_the_set(overlap):
    result = mblsr1.minimize(
        lambda w, b: 1.0,
        lambda w, b: np.full(D, 1e-3),
        np.zeros(D),
        N,
        rng=0,
        options=RESOLVING,
        overlap=overlap,
        batch_size=8,
        check_every=2,
        max_steps=30,
    )
    assert result.batch_size == N
    sizes = result.history["batch_size"]
    assert sizes[0] == 8
    assert all(b in (a, min(2 * a, N)) for a, b in pairwise(sizes))


def test_numpy_integers_as_sizes():
    class Source:
        n_samples = np.int64(N)

        def draw(self, size, rng):
            assert type(size) is int
            return rng.choice(N, size, replace=False)

    result = mblsr1.minimize(
        fun, grad, np.zeros(D), Source(), rng=0, batch_size=np.int32(30), check_every=1, max_steps=9
    )
    assert {type(n) for n in result.history["batch_size"]} == {int}
    assert type(result.batch_size) is int


# --- checks that the budget does not allow ----------------------------------------------------------


def test_a_check_of_the_whole_set_that_the_budget_forbids_does_not_end_the_run():
    """The exit check: it is left out, nothing is spent on it, and the rest of the budget goes into steps."""
    user = Recorder()
    loose = {"batch_size": 4, "gtol": 1e3, "check_every": 2}
    result = mblsr1.minimize(user.fun, user.grad, np.zeros(D), N, rng=0, max_samples=38, **loose)
    assert result.status == 2
    assert 38 - result.batch_size < user.cost / 3 <= 38
    assert result.nit > 5
    assert mblsr1.minimize(fun, grad, np.zeros(D), N, rng=0, max_samples=60, **loose).status == 0


def test_a_check_of_progress_larger_than_the_budget_does_not_end_the_run():
    """Algorithm 6 with a check that costs a third of the set, more than the budget: L-SSR1-TR then makes its steps."""
    options = Options.l_ssr1_tr(batch_size=2, initial_radius=0.1)
    user = Recorder()
    result = mblsr1.minimize(user.fun, user.grad, np.zeros(D), N, rng=0, max_samples=13, options=options)
    assert (result.status, result.nit) == (2, 2)
    assert user.cost / 3 <= 13
    more = mblsr1.minimize(fun, grad, np.zeros(D), N, state=result.state, max_samples=40, options=options)
    assert not math.isnan(more.state.tree["check"]["reference"])  # made where the budget allows it


@pytest.mark.parametrize("size", [0, -1, 2.0, None, "8"])
def test_a_batch_rule_that_returns_no_size_is_named(size):
    method = mblsr1.sgd(0.1)._replace(batch_rule=lambda state, outcome, problem: state._replace(size=size))
    with pytest.raises(ValueError, match=r"batch_rule: must return a state whose size is an int >= 1, got "):
        mblsr1.minimize(fun, grad, np.zeros(D), N, rng=0, max_steps=3, method=method)


def test_a_batch_is_never_larger_than_the_set():
    method = mblsr1.sgd(0.1)._replace(batch_rule=lambda state, outcome, problem: state._replace(size=10**9))
    result = mblsr1.minimize(fun, grad, np.zeros(D), N, rng=0, max_steps=3, method=method, batch_size=8)
    assert result.history["batch_size"] == [8, N, N]
    assert result.history["n_samples"] == [8, 8 + N, 8 + 2 * N]
