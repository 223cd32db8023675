"""Whole runs in every array library: as NumPy's, in the caller's dtype, shape and device, saved and continued."""

import math
import re
from functools import lru_cache

import numpy as np
import pytest
from array_api_compat import array_namespace
from libraries import LIBRARIES
from portable import RUNS

import mblsr1
from mblsr1._array import spec

STEPS, START = 50, 0.5
#: A gradient of float32 is rounded to 1e-6 here: a run that goes on after convergence is led by rounding.
GTOL = 1e-3
NUMPY = LIBRARIES["numpy-float64"]()

every_run = pytest.mark.parametrize("name", RUNS)
sampled_or_not = pytest.mark.parametrize("sampled", [False, True], ids=["whole", "sampled"])


def losses(name, xp, sampled, data=None, start=START):
    """Loss over all rows after each step, evaluated in NumPy's float64."""
    problem, how = RUNS[name]
    w0 = xp(np.full(problem.d, start))
    steps = mblsr1.iterate(**problem.problem(xp, sampled, data), w0=w0, rng=0, max_steps=STEPS, gtol=GTOL, **how)
    return np.array([problem.fun(xp.to_numpy(step.x).astype(float), problem.data) for step in steps])


@lru_cache
def reference(name, sampled):
    return losses(name, NUMPY, sampled)


@every_run
@sampled_or_not
def test_runs_agree_with_numpy(xp, name, sampled):
    """float64 to 1e-12 and float32 to 1e-4 of the loss at every step; the next test says why that much is due."""
    expected, found = reference(name, sampled), losses(name, xp, sampled)
    assert len(expected) == STEPS or not sampled or name == "re-solving"  # whose batch grows to the whole set
    if not xp.single:
        assert len(found) == len(expected)
    common = min(len(found), len(expected))
    assert common >= 5
    limit = 1e-4 if xp.single else 1e-12
    np.testing.assert_allclose(found[:common], expected[:common], rtol=limit, atol=0)
    assert found[-1] == pytest.approx(expected[-1], rel=limit)


@every_run
@sampled_or_not
def test_the_compared_runs_amplify_rounding_little(name, sampled):
    """Start and data off by one eps move no loss by more than 2e-13: 1e-12 is five times what rounding explains."""
    eps = float(np.finfo(float).eps)
    expected = reference(name, sampled)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        X, y = RUNS[name][0].data
        moved = X * (1.0 + eps * rng.integers(-1, 2, X.shape)), y
        found = losses(name, NUMPY, sampled, moved, START * (1.0 + eps))
        assert len(found) == len(expected)
        np.testing.assert_allclose(found, expected, rtol=2e-13, atol=0)


@every_run
@sampled_or_not
def test_everything_returned_is_of_the_callers_kind(xp, name, sampled):
    """x, jac, x_average and the iterate of each step: library, dtype, device and shape of w0, a matrix here."""
    problem, how = RUNS[name]
    shape = (5, problem.d // 5)
    w0, seen = xp(np.full(shape, START)), []
    result = mblsr1.minimize(
        **problem.problem(xp, sampled), w0=w0, rng=0, max_steps=6, averaging=0.5, callback=lambda s: seen.append(s.x),
        **how,
    )  # fmt: skip
    arrays = [result.x, result.jac, result.x_average, result.state.x, *seen]
    assert len(seen) == result.nit == 6
    for array in arrays:
        assert xp.is_kind(array)
        assert tuple(array.shape) == shape
    np.testing.assert_array_equal(xp.to_numpy(w0), np.full(shape, START))
    numbers = [result.fun, result.radius, *(v for column in result.history.values() for v in column)]
    assert {type(v) for v in numbers} <= {float, int}


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize("name", ["recommended", "paper", "adam"])
def test_w_of_any_shape(xp, name, shape):
    """sum (w - 1)^2 from 3: the functions see the shape, and so does the caller."""

    def fun(w):
        assert tuple(w.shape) == shape
        return array_namespace(w).sum((w - 1.0) ** 2)

    def grad(w):
        assert tuple(w.shape) == shape
        return 2.0 * (w - 1.0)

    result = mblsr1.minimize(fun, grad, xp(np.full(shape, 3.0)), max_steps=8, gtol=1e-5, **RUNS[name][1])
    assert xp.is_kind(result.x)
    assert tuple(result.x.shape) == tuple(result.jac.shape) == shape
    assert result.fun < 4.0 * math.prod(shape)  # below the start's
    if name == "recommended":  # a gradient within 1e-5 is an error within 5e-6
        assert result.success
        np.testing.assert_allclose(xp.to_numpy(result.x), np.ones(shape), rtol=0, atol=5e-6)


@pytest.mark.parametrize("name", ["recommended", "re-solving", "kronecker", "paper", "adam", "svrg", "s_lsr1"])
@sampled_or_not
def test_a_saved_run_continues_bit_for_bit(xp, name, sampled, tmp_path):
    """Through a file, which holds NumPy arrays: 6 and 6 steps are 12 steps. XLA too makes the same bits twice."""
    problem, how = RUNS[name]
    arguments = {**problem.problem(xp, sampled), "w0": xp(np.full(problem.d, START)), "gtol": 0.0, **how}
    straight = mblsr1.minimize(**arguments, rng=3, max_steps=12)
    first = mblsr1.minimize(**arguments, rng=3, max_steps=6)
    mblsr1.save_state(tmp_path / "state", first.state)
    second = mblsr1.minimize(**arguments, max_steps=6, state=mblsr1.load_state(tmp_path / "state"))
    assert second.nit == straight.nit == 12
    assert xp.is_kind(second.x)
    np.testing.assert_array_equal(xp.to_numpy(second.x), xp.to_numpy(straight.x))
    assert second.fun == straight.fun
    assert second.history["loss"] == straight.history["loss"][6:] or np.isnan(second.history["loss"]).all()


@pytest.mark.parametrize("name", ["recommended", "kronecker", "adam"])
def test_a_state_moves_between_libraries(xp, name):
    """Saved in NumPy and continued here: within rounding of what NumPy makes of it."""
    problem, how = RUNS[name]
    w0 = np.full(problem.d, START)
    first = mblsr1.minimize(**problem.problem(NUMPY, True), w0=w0, rng=3, max_steps=7, **how)
    there = mblsr1.minimize(**problem.problem(xp, True), w0=xp(w0), max_steps=7, state=first.state, **how)
    here = mblsr1.minimize(**problem.problem(NUMPY, True), w0=w0, max_steps=7, state=first.state, **how)
    assert xp.is_kind(there.x)
    assert there.nit == here.nit == 14
    assert there.fun == pytest.approx(here.fun, rel=1e-4 if xp.single else 1e-12)


@pytest.mark.parametrize("name", ["recommended", "kronecker"])
def test_a_state_read_between_steps_is_a_copy(xp, name):
    """Later steps write into the pair buffer (JAX gives it away); a state taken before must not notice."""
    problem, how = RUNS[name]
    arguments = {**problem.problem(xp, True), "w0": xp(np.full(problem.d, START)), **how}
    steps = mblsr1.iterate(**arguments, rng=0, max_steps=12)
    state = [step.state for step in steps][5]
    again = mblsr1.minimize(**arguments, max_steps=6, state=state)
    straight = mblsr1.minimize(**arguments, rng=0, max_steps=12)
    np.testing.assert_array_equal(xp.to_numpy(again.x), xp.to_numpy(straight.x))


@pytest.mark.parametrize("fused", [False, True], ids=["two functions", "fused"])
@pytest.mark.parametrize("name", ["recommended", "paper", "sgd"])
def test_losses_may_be_arrays_or_numbers(xp, name, fused):
    """An array of shape () of the library and a Python float are the same run."""
    problem, how = RUNS[name]
    data = tuple(xp(a) for a in problem.data)
    w0 = xp(np.full(problem.d, START))

    def arrays(w):
        loss = problem.fun(w, data)
        assert tuple(loss.shape) == ()
        return loss

    def run(loss):
        if fused:
            return mblsr1.minimize(lambda w: (loss(w), problem.grad(w, data)), True, w0, max_steps=5, **how)
        return mblsr1.minimize(loss, lambda w: problem.grad(w, data), w0, max_steps=5, **how)

    of_arrays, of_numbers = run(arrays), run(lambda w: float(xp.to_numpy(arrays(w))))
    assert of_arrays.fun == of_numbers.fun
    assert type(of_arrays.fun) is float
    np.testing.assert_array_equal(xp.to_numpy(of_arrays.x), xp.to_numpy(of_numbers.x))


def test_gradients_of_another_kind_are_refused(xp):
    """Of NumPy, of another precision: a TypeError that names what was wanted and what came."""
    w0 = xp(np.ones(3))
    other = "float16" if xp.name.endswith("x64-off") else "float64" if xp.single else "float32"
    foreign = {other: lambda w: array_namespace(w).astype(w, getattr(array_namespace(w), other))}
    if "numpy" not in xp.name:
        foreign["'numpy'"] = lambda w: np.ones(3, dtype=xp.dtype)
    wanted = "grad: must return an array of w0's library, dtype and device " + re.escape(str(spec(w0)))
    for named, grad in foreign.items():
        with pytest.raises(TypeError, match=f"^{wanted}, got .*{named}"):
            mblsr1.minimize(lambda w: 1.0, grad, w0, max_steps=1)


def test_a_gradient_on_another_device_is_refused():
    strict = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    w0 = strict.ones(3, device=strict.Device("device1"))
    with pytest.raises(TypeError, match=f"^grad: must return .*{re.escape(str(spec(w0)))}, got .*CPU_DEVICE"):
        mblsr1.minimize(lambda w: 1.0, lambda w: strict.ones(3), w0, max_steps=1)


def test_samplers_of_library_arrays(xp):
    """Rows in the library and on the device; the loader's are joined there too."""
    values = np.arange(12.0).reshape(6, 2)
    X, y = xp(values), xp(values[:, 0])
    rows, labels = mblsr1.ArraySampler(X, y).draw(3, np.random.default_rng(0))
    drawn = np.random.default_rng(0).choice(6, 3, replace=False, shuffle=False)
    np.testing.assert_array_equal(xp.to_numpy(rows), values[drawn])
    np.testing.assert_array_equal(xp.to_numpy(labels), values[drawn, 0])
    (chunk, _), count = list(mblsr1.ArraySampler(X, y).chunks(4))[1]
    np.testing.assert_array_equal(xp.to_numpy(chunk), values[4:])
    loader = mblsr1.LoaderSampler(lambda: [(X[:4, :], y[:4]), (X[4:, :], y[4:])])
    joined, _ = loader.draw(5, np.random.default_rng(0))
    np.testing.assert_array_equal(xp.to_numpy(joined), values[:5])
    assert count == 2
    for array in (rows, labels, chunk, joined):
        assert xp.is_kind(array)
