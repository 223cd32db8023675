"""What is special about torch: graphs, grad modes, matmul precision, devices."""

import gc

import numpy as np
import pytest
from portable import MILD

import mblsr1
from mblsr1 import Options, _array

torch = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.torch

DTYPES = [torch.float64, torch.float32]
PRESETS = {"recommended": Options(), "paper": Options.paper(initial_radius=1.0)}
every_preset = pytest.mark.parametrize("options", PRESETS.values(), ids=list(PRESETS))
X, Y = (torch.tensor(a) for a in MILD.data)


def test_a_data_loader_is_a_source_of_batches():
    """Samples of a DataLoader, joined to the size asked for, in its order; the functions see tensors."""
    data = torch.utils.data.TensorDataset(X, Y)
    seen = []

    def loss_and_gradient(w, batch):
        rows, labels = batch
        seen.append(labels.clone())
        margin = labels * (rows @ w)
        wrong = torch.sigmoid(-margin)
        return torch.nn.functional.softplus(-margin).mean(), rows.T @ (-labels * wrong) / len(labels)

    sampler = mblsr1.LoaderSampler(lambda: torch.utils.data.DataLoader(data, batch_size=7))
    w0 = torch.zeros(X.shape[1], dtype=X.dtype)
    given = {"method": mblsr1.sgd(0.1), "batch_size": 10, "max_steps": 4, "gtol": 0.0}
    result = mblsr1.minimize(loss_and_gradient, True, w0, sampler, **given)
    assert torch.equal(torch.cat(seen[:4]), Y[:40])
    assert result.history["loss"][-1] < result.history["loss"][0]


def fun(w, rows=slice(None)):
    return torch.nn.functional.softplus(-Y[rows] * (X[rows] @ w)).mean() + 0.1 * (w * w).sum()


def grad(w, rows=slice(None)):
    """By autograd, from a leaf of its own."""
    leaf = w.detach().requires_grad_()
    return torch.autograd.grad(fun(leaf, rows), leaf)[0]


def careless(w, rows=slice(None)):
    """Turns the very tensor that it was handed into a leaf, and returns what still hangs in a graph."""
    w.requires_grad_()
    loss = fun(w, rows)
    return loss, torch.autograd.grad(loss, w, create_graph=True)[0]


def start(**kwargs):
    return torch.full((MILD.d,), 0.5, dtype=torch.float64, **kwargs)


def tensors(tree):
    """All torch tensors in a tree of dicts."""
    for value in tree.values() if isinstance(tree, dict) else [tree]:
        if isinstance(value, dict):
            yield from tensors(value)
        elif isinstance(value, torch.Tensor):
            yield value


@every_preset
def test_gradients_by_autograd(options):
    """The gradient that autograd makes and the one by formula lead to the same iterates."""
    arrays = MILD.problem(torch.tensor, False)
    by_hand = mblsr1.minimize(**arrays, w0=start(), max_steps=10, options=options)
    by_autograd = mblsr1.minimize(fun, grad, start(), max_steps=10, options=options)
    # as between libraries: two ways to round the same gradient
    np.testing.assert_allclose(by_autograd.x.numpy(), by_hand.x.numpy(), rtol=0, atol=1e-10)


@every_preset
@pytest.mark.parametrize("sampler", [None, MILD.n], ids=["whole", "sampled"])
def test_no_graph_is_kept(options, sampler):
    """Whatever the functions return or do to the tensor they get, nothing that a run keeps requires a gradient."""
    seen = []
    result = mblsr1.minimize(
        careless, True, start(requires_grad=True), sampler, rng=0, max_steps=6, options=options, gtol=0.0,
        batch_size=64, averaging=0.5, callback=lambda step: seen.append(step.x),
    )  # fmt: skip
    kept = [result.x, result.jac, result.x_average, *seen, *tensors(result.state.tree)]
    assert len(seen) == 6
    assert len(kept) > 11
    for tensor in kept:
        assert not tensor.requires_grad
        assert tensor.grad_fn is None
    rows = [t for t in tensors(result.state.tree) if t.ndim == 2 and t.shape[1] == MILD.d]
    assert len(rows) == 1  # the pair buffer


def test_careless_and_careful_functions_make_the_same_run():
    one = mblsr1.minimize(careless, True, start(requires_grad=True), max_steps=10)
    two = mblsr1.minimize(lambda w: (fun(w), grad(w)), True, start(), max_steps=10)
    np.testing.assert_allclose(one.x.numpy(), two.x.numpy(), rtol=0, atol=1e-10)


def test_memory_does_not_grow_with_the_steps():
    """A graph that leaks keeps every iterate alive: the number of live tensors is that of a shorter run."""

    def alive(steps):
        result = mblsr1.minimize(careless, True, start(requires_grad=True), max_steps=steps, gtol=0.0, options=paper)
        gc.collect()
        count = sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())
        assert result.nit == steps
        return count

    paper = PRESETS["paper"].replace(memory=4)
    assert alive(40) <= alive(10)


def test_the_start_is_left_alone():
    w0 = start(requires_grad=True)
    mblsr1.minimize(fun, grad, w0, max_steps=3)
    assert w0.requires_grad
    assert w0.grad is None
    assert w0.is_leaf
    assert torch.equal(w0.detach(), start())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
@every_preset
def test_inside_a_grad_mode_of_the_caller(mode, options):
    """The functions run in the caller's mode, which is there again afterwards."""
    modes = []

    def formula(w):
        modes.append(torch.is_grad_enabled())
        return MILD.both(w, (X, Y))

    with mode():
        wanted = torch.is_grad_enabled()
        result = mblsr1.minimize(formula, True, start(), max_steps=8, options=options)
        assert torch.is_grad_enabled() is wanted
    assert set(modes) == {wanted}
    assert result.nit == 8 or result.success
    outside = mblsr1.minimize(lambda w: MILD.both(w, (X, Y)), True, start(), max_steps=8, options=options)
    assert torch.equal(result.x, outside.x)


@every_preset
def test_inside_inference_mode(options):
    """Inference tensors can be had only from functions that need no autograd; the run is the same."""
    formula = {"fun": lambda w: MILD.both(w, (X, Y)), "grad": True, "max_steps": 8, "options": options}
    with torch.inference_mode():
        w0 = start()
        assert w0.is_inference()
        inside = mblsr1.minimize(**formula, w0=w0)
    outside = mblsr1.minimize(**formula, w0=start())
    assert torch.equal(inside.x.clone(), outside.x)


def test_an_inference_tensor_is_a_start_outside():
    """The run works on a copy, an ordinary tensor, so that autograd can be used on it."""
    with torch.inference_mode():
        w0 = start()
    result = mblsr1.minimize(fun, grad, w0, max_steps=5)
    assert not result.x.is_inference()
    assert torch.equal(result.x, mblsr1.minimize(fun, grad, start(), max_steps=5).x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_matmul_precision_of_the_caller_changes_nothing(dtype):
    """ "medium" multiplies in bfloat16, on newer CPUs too: three digits. The setting stays, and so do the results."""
    before = torch.get_float32_matmul_precision()
    rng = np.random.default_rng(0)
    rows, v = (torch.tensor(rng.standard_normal(shape), dtype=dtype) for shape in ((6, 5000), 5000))
    expected = _array.products(rows, [v, v]), _array.combine(np.arange(6.0), rows)
    matrix = torch.tensor(rng.standard_normal((50, 50)), dtype=dtype)
    square = _array.matmul(matrix, matrix)
    try:
        torch.set_float32_matmul_precision("medium")
        found = _array.products(rows, [v, v]), _array.combine(np.arange(6.0), rows)
        assert torch.equal(_array.matmul(matrix, matrix), square)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    np.testing.assert_array_equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_float32_products_are_accurate_to_half_an_eps():
    """torch's own matmul loses four digits at d = 2e5; the product must not (1e-7 |a||b|)."""
    rng = np.random.default_rng(7)
    a, b = (np.abs(rng.standard_normal(200_000)).astype(np.float32) for _ in range(2))
    exact = float(a.astype(float) @ b.astype(float))
    size = np.linalg.norm(a.astype(float)) * np.linalg.norm(b.astype(float))
    found = _array.products(torch.tensor(a)[None, :], [torch.tensor(b)])
    assert abs(found[0, 0] - exact) <= 1e-7 * size


def test_vectors_that_are_not_contiguous():
    """A start that is a transposed or strided view, and gradients that are expanded or strided."""
    wide = torch.full((2 * MILD.d,), 0.5, dtype=torch.float64)

    def strided(w):
        out = torch.empty(2 * MILD.d, dtype=torch.float64)
        out[::2] = MILD.grad(w, (X, Y))
        return out[::2]

    plain = mblsr1.minimize(lambda w: MILD.fun(w, (X, Y)), lambda w: MILD.grad(w, (X, Y)), start(), max_steps=6)
    views = mblsr1.minimize(lambda w: MILD.fun(w, (X, Y)), strided, wide[::2], max_steps=6)
    # dot products of strided vectors may sum in another order
    np.testing.assert_allclose(views.x.numpy(), plain.x.numpy(), rtol=0, atol=1e-10)


def test_starts_and_gradients_without_memory_of_their_own():
    """sum w + w'w from a transposed view, with a gradient whose first term is one number, expanded."""
    w0 = torch.ones(3, 4, dtype=torch.float64).T
    one = torch.ones((), dtype=torch.float64)
    linear = mblsr1.minimize(lambda w: w.sum(), lambda w: one.expand(4, 3), w0, max_steps=2)
    assert linear.x.shape == (4, 3)
    assert torch.all(linear.x < w0)
    result = mblsr1.minimize(lambda w: w.sum() + (w * w).sum(), lambda w: one.expand(4, 3) + 2 * w, w0)
    # a gradient within gtol = 1e-5 is an error within 5e-6
    np.testing.assert_allclose(result.x.numpy(), np.full((4, 3), -0.5), rtol=0, atol=5e-6)


def test_other_devices_and_dtypes_are_refused():
    def of(g):
        return mblsr1.minimize(lambda w: 1.0, lambda w: g, torch.ones(3), max_steps=1)

    wanted = r"^grad: must return an array of w0's library, dtype and device \('torch', 'torch.float32', 'cpu'\), got "
    with pytest.raises(TypeError, match=wanted + r"\('torch', 'torch.float64', 'cpu'\)"):
        of(torch.ones(3, dtype=torch.float64))
    with pytest.raises(TypeError, match=wanted + r"\('torch', 'torch.float32', 'meta'\)"):
        of(torch.ones(3, device="meta"))
    with pytest.raises(TypeError, match=wanted + r"\('torch', 'torch.bfloat16', 'cpu'\)"):
        of(torch.ones(3, dtype=torch.bfloat16))
