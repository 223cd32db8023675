"""Any fault at any evaluation of any method: no exception but the user's own, nothing infinite, a true status."""

import math
import time
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ways import START, WAYS, D, N, Watched, fun, grad

import mblsr1

every_way = pytest.mark.parametrize("how", WAYS.values(), ids=WAYS)
both_kinds = pytest.mark.parametrize("sampler", [None, N])
SMALL = {"batch_size": 4, "check_every": 3}
STEPS = 40

FAULTS = {
    "nan": lambda x: x * math.nan,
    "inf": lambda x: x * 0.0 + math.inf,
    "-inf": lambda x: x * 0.0 - math.inf,
    "one nan": lambda x: np.where(np.arange(np.size(x)) == 1, math.nan, x) if np.ndim(x) else x,
    "1e300": lambda x: x * 0.0 + 1e300,
    "-1e300": lambda x: x * 0.0 - 1e300,
    "1e-310": lambda x: x * 0.0 + 1e-310,
    "wrong sign": lambda x: -x,
    "zero": lambda x: x * 0.0,
    "jump": lambda x: x + 3.0,
    "drop": lambda x: x - 3.0,
    "another scale": lambda x: x * 1e12,
    "slow": lambda x: time.sleep(1e-4) or x,
}


class Mine(Exception):
    """The user's own exception."""


def run(user, how, sampler, fused, call=mblsr1.minimize, **more):
    return call(*user.arguments(fused), START, sampler, **{**how, **SMALL, "rng": 1, "max_steps": STEPS, **more})


def check_result(result, user, budget):
    assert np.isfinite(result.x).all()
    assert np.isfinite(result.state.x).all()
    assert result.x.shape == START.shape
    assert result.x.dtype == START.dtype
    assert {len(column) for column in result.history.values()} == {result.nit}
    assert result.nit <= STEPS
    assert user.thirds <= 3 * budget
    assert 3 * result.n_samples == pytest.approx(user.thirds, abs=1e-9 * budget)


def check_status(result, user, budget, sampler):
    """The status is true."""
    step_cost = 3 * (N + 20) if sampler else 3 * 5  # nothing that a step asks for at once costs more, in thirds
    assert {
        0: lambda: result.success and (sampler or np.linalg.norm(result.jac) <= 1e-5),
        1: lambda: result.nit == STEPS,
        2: lambda: 3 * budget - user.thirds < step_cost,
        4: lambda: user.bad > 0 or max(np.abs(result.x)) > 1e100,
        5: lambda: True,
    }[result.status]()
    assert result.success is (result.status == 0)


@every_way
@both_kinds
@pytest.mark.parametrize("fused", [False, True])
@settings(max_examples=10, deadline=None)
@given(
    faults=st.dictionaries(
        st.one_of(st.integers(0, 5), st.integers(0, 80)), st.sampled_from(sorted(FAULTS)), min_size=1, max_size=10
    ),
    budget=st.sampled_from([30, 200, 500.5]),
)
def test_any_fault_at_any_evaluation(how, sampler, fused, faults, budget):
    user = Watched(fun, grad, {call: FAULTS[name] for call, name in faults.items()})
    result = run(user, how, sampler, fused, max_samples=budget)
    check_result(result, user, budget)
    check_status(result, user, budget, sampler)


ALWAYS = ["nan", "-inf", "1e300", "-1e300", "1e-310", "wrong sign", "drop", "zero", "another scale"]


@every_way
@both_kinds
@pytest.mark.parametrize("fault", ALWAYS)
def test_a_function_that_is_broken_for_good(how, sampler, fault):
    since = 7 if fault in ("nan", "-inf") else 3
    for of_loss, of_gradient in ((True, False), (False, True), (True, True)):
        calls = range(since, 10_000)
        loss = Watched(fun, grad, dict.fromkeys(calls, FAULTS[fault]) if of_loss else None)
        gradient = Watched(fun, grad, dict.fromkeys(calls, FAULTS[fault]) if of_gradient else None)
        result = mblsr1.minimize(loss.fun, gradient.grad, START, sampler, max_steps=STEPS, rng=1, **{**how, **SMALL})
        assert np.isfinite(result.x).all()
        assert result.status in (0, 1, 4, 5)
        if result.status == 4:
            assert loss.bad or gradient.bad or max(np.abs(result.x)) > 1e100


@every_way
@both_kinds
def test_functions_that_answer_at_random(how, sampler):
    rng = np.random.default_rng(0)
    for scale in (1e-12, 1.0, 1e150):
        user = Watched(partial(rng.normal, 0.0, scale), partial(rng.normal, 0.0, scale, D))
        user._fun, user._grad = (lambda w, batch, draw=draw: draw() for draw in (user._fun, user._grad))
        result = run(user, how, sampler, False, max_samples=500)
        check_result(result, user, 500)
        check_status(result, user, 500, sampler)


@every_way
@both_kinds
@pytest.mark.parametrize("fused", [False, True])
def test_a_gradient_that_lies_about_its_dtype(how, sampler, fused):
    """That is a mistake, which no method can mend: a TypeError at once, that names the function and both kinds."""
    for lie in (lambda g: g.astype(np.float32), lambda g: g.astype(complex), lambda g: g.astype(int), list):
        user, calls = Watched(fun, grad), []

        def lying(w, batch, calls=calls, lie=lie):
            calls.append(1)
            return lie(grad(w, batch)) if len(calls) > 2 else grad(w, batch)

        user._grad = lying
        with pytest.raises(TypeError, match=rf"^{'fun' if fused else 'grad'}: must return an array (like w0|of w0's)"):
            run(user, how, sampler, fused)


@every_way
@both_kinds
@settings(max_examples=6, deadline=None)
@given(call=st.one_of(st.integers(0, 6), st.integers(0, 40)), fused=st.booleans())
def test_an_exception_of_the_user_leaves_the_last_good_state(how, sampler, call, fused):
    error = Mine()

    def fail(answer):
        raise error

    user = Watched(fun, grad, {call: fail})
    seen = []
    try:
        seen.extend(run(user, how, sampler, fused, mblsr1.iterate))
    except Mine as caught:
        assert caught is error
    else:
        assert user.calls <= call
    if not seen:
        return
    last, state = seen[-1], seen[-1].state
    np.testing.assert_array_equal(state.x, last.x)
    assert state.step == last.step
    assert np.isfinite(state.x).all()
    healthy = Watched(fun, grad)
    more = run(healthy, how, sampler, fused, state=state)
    assert more.status in (0, 1, 5)
    assert more.nit >= state.step
    assert np.isfinite(more.x).all()


@every_way
@both_kinds
@pytest.mark.parametrize("every", [0, 60])
@pytest.mark.filterwarnings("ignore:checkpoint. the run in .* had ended. no further progress:RuntimeWarning")
def test_an_exception_within_a_step_goes_back_to_the_last_write(how, sampler, every, tmp_path):
    whole = run(Watched(fun, grad), how, sampler, True, gtol=0.0, max_steps=12)
    for call in (0, 3, 8, 17):
        made = []

        def fail(answer):
            raise Mine

        def callback(step, made=made):
            made.append(step.step)

        path = tmp_path / f"{call}"
        arguments = {"gtol": 0.0, "max_steps": 12, "checkpoint": path, "checkpoint_every": every}
        try:
            run(Watched(fun, grad, {call: fail}), how, sampler, True, **arguments, callback=callback)
        except Mine:
            assert mblsr1.load_state(path).step == (0 if every else len(made))
        again = run(Watched(fun, grad), how, sampler, True, **arguments)
        assert again.x.tobytes() == whole.x.tobytes()
        np.testing.assert_equal(again.history, whole.history)


@both_kinds
def test_an_exception_of_the_callback_is_the_users_own_and_saves_the_step(sampler, tmp_path):
    def callback(step):
        if step.step == 3:
            raise Mine

    with pytest.raises(Mine):
        run(Watched(fun, grad), WAYS["default"], sampler, True, callback=callback, checkpoint=tmp_path / "file")
    assert mblsr1.load_state(tmp_path / "file").step == 3


@pytest.mark.parametrize("name", ["warm start", "s_lsr1"])
@pytest.mark.parametrize("fault", ["nan", "inf", "1e300", "wrong sign", "zero", "1e-310"])
def test_products_with_the_hessian_that_are_wrong(name, fault):
    def hvp(w, v, batch):
        return FAULTS[fault](v)

    user = Watched(fun, grad)
    result = mblsr1.minimize(user.fun, user.grad, START, N, hvp=hvp, max_steps=STEPS, rng=1, **{**WAYS[name], **SMALL})
    assert np.isfinite(result.x).all()
    assert result.status in (0, 1, 5)


def test_a_sampler_that_fails_passes_its_exception_through():
    class Source(mblsr1.IndexSampler):
        def draw(self, size, rng):
            if (left := left_of.pop()) == 0:
                raise Mine
            left_of.append(left - 1)
            return super().draw(size, rng)

    for count in range(6):
        left_of = [count]
        with pytest.raises(Mine):
            run(Watched(fun, grad), WAYS["default"], Source(N), True)
