"""Memory that the user's functions and the run both see: buffers used again, iterates, results."""

import numpy as np
import pytest

import mblsr1

RNG = np.random.default_rng(0)
X = RNG.standard_normal((400, 6))
Y = np.where(X @ RNG.standard_normal(6) + RNG.standard_normal(400) > 0.0, 1.0, -1.0)
START = np.zeros(6)
OPTIONS = {
    "samples": mblsr1.Options(batch_size=64, memory=5),
    "whole": mblsr1.Options(batch_size=400, memory=5),
    "paper": mblsr1.Options.paper(batch_size=64, memory=5),
    "l_ssr1_tr": mblsr1.Options.l_ssr1_tr(batch_size=64, memory=5),
}


def both(w, batch):
    x, y = batch
    margin = y * (x @ w)
    slope = -y * np.exp(-np.logaddexp(0.0, margin))
    return float(np.mean(np.logaddexp(0.0, -margin))), x.T @ slope / len(y)


def run(fun, grad, w0=START, options="samples", data=(X, Y), **more):
    sampler = mblsr1.ArraySampler(*data)
    return mblsr1.minimize(fun, grad, w0, sampler, options=OPTIONS[options], rng=0, **{"max_steps": 25, **more})


def assert_same_run(a, b):
    np.testing.assert_array_equal(np.asarray(a.x), np.asarray(b.x))
    np.testing.assert_equal(a.history, b.history)
    assert (a.fun, a.status) == (b.fun, b.status)


# --- gradients in a buffer that is used again ------------------------------------------------------


def in_one_buffer():
    buffer = np.empty(6)

    def fused(w, batch):
        loss, buffer[:] = both(w, batch)
        return loss, buffer

    return fused


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("is_fused", [True, False], ids=["fused", "separate"])
def test_a_buffer_that_is_used_again(options, is_fused):
    fused, loss = in_one_buffer(), lambda w, b: both(w, b)[0]
    functions = (fused, True) if is_fused else (loss, lambda w, b: fused(w, b)[1])
    fresh = (both, True) if is_fused else (loss, lambda w, b: both(w, b)[1])
    assert_same_run(run(*functions, options=options), run(*fresh, options=options))


def test_the_gradient_of_one_parameter_of_torch():
    torch = pytest.importorskip("torch")
    p = torch.zeros(6, dtype=torch.float64, requires_grad=True)

    def gradient_in(fresh):
        def fused(w, batch):
            x, y = batch
            with torch.no_grad():
                p.copy_(w)
            if p.grad is not None:
                p.grad.zero_()
            loss = torch.log1p(torch.exp(-y * (x @ p))).mean()
            loss.backward()
            return loss.detach(), p.grad.clone() if fresh else p.grad

        return fused

    data, w0 = (torch.asarray(X), torch.asarray(Y)), torch.zeros(6, dtype=torch.float64)
    kept, fresh = (run(gradient_in(fresh), True, w0=w0, data=data) for fresh in (False, True))
    assert_same_run(kept, fresh)


def test_a_product_in_a_buffer_that_is_used_again():
    buffer = np.empty(6)

    def hvp(w, v, batch):
        x, y = batch
        weight = np.exp(-np.logaddexp(0.0, y * (x @ w)) - np.logaddexp(0.0, -y * (x @ w)))
        return x.T @ (weight * (x @ v)) / len(y)

    def kept(w, v, batch):
        buffer[:] = hvp(w, v, batch)
        return buffer

    sampler, method = mblsr1.ArraySampler(X, Y), mblsr1.s_lsr1(memory=4)
    given = {"method": method, "rng": 0, "max_steps": 15}
    a, b = (mblsr1.minimize(both, True, START, sampler, hvp=of, **given) for of in (kept, hvp))
    assert_same_run(a, b)


def test_an_array_of_jax_is_not_copied():
    jnp = pytest.importorskip("jax.numpy")
    from mblsr1.problem import Counts, Problem

    w = jnp.ones(3)
    g = 2.0 * w
    assert Problem(None, lambda w: g, None, w, False, Counts()).vector_of(g, "grad") is g


# --- iterates and results --------------------------------------------------------------------------


def test_the_iterate_of_a_step_cannot_be_written_to():
    def clip(step):
        np.clip(step.x, -0.1, 0.1, out=step.x)

    with pytest.raises(ValueError, match="read-only"):
        run(both, True, callback=clip)
    for step in mblsr1.iterate(both, True, START, mblsr1.ArraySampler(X, Y), rng=0, max_steps=2):
        with pytest.raises(ValueError, match="read-only"):
            step.x *= 0.0
        mine = step.x.copy()
        mine *= 0.0  # a copy can


def test_no_step_sees_the_start_or_the_next_iterate():
    w0 = START.copy()
    steps = mblsr1.iterate(both, True, w0, mblsr1.ArraySampler(X, Y), rng=0, max_steps=5)
    kept = [(step.x, step.x.copy()) for step in steps]
    w0 += 1.0
    for x, then in kept:
        np.testing.assert_array_equal(x, then)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_a_result_can_be_written_to(library, options):
    """What the state continues from is its own."""
    data, w0 = (X, Y), START
    if library == "torch":
        torch = pytest.importorskip("torch")
        data, w0 = (torch.asarray(X), torch.asarray(Y)), torch.zeros(6, dtype=torch.float64)

    def fused(w, batch):
        loss, g = both(np.asarray(w), tuple(map(np.asarray, batch)))
        return loss, g if library == "numpy" else data[0].new_tensor(g)

    changed, kept = (run(fused, True, w0=w0, data=data, options=options, averaging=0.5) for _ in range(2))
    for x in (changed.x, changed.jac, changed.x_average):
        np.multiply(x, 0.0, out=x) if library == "numpy" else x.zero_()
    more = {"w0": w0, "data": data, "options": options, "averaging": 0.5}
    assert_same_run(run(fused, True, state=changed.state, **more), run(fused, True, state=kept.state, **more))
