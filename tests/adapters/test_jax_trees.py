"""`mblsr1.jax`: trees in and out, functions compiled for few sizes, gradients and products by JAX."""

from __future__ import annotations

import doctest
import math
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
from libraries import LIBRARIES, parameters
from portable import MILD

import mblsr1

jax = pytest.importorskip("jax", reason="jax is not installed")
jnp = jax.numpy
pytestmark = pytest.mark.jax


@pytest.fixture(autouse=True, scope="module")
def _quick_to_compile():
    """Nearly all of the time is XLA's; what it has made is dropped at the end."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
    jax.clear_caches()


@pytest.fixture(params=parameters("jax-float64", "jax-float32", "jax-float32-x64-off"))
def kind(request):
    library = LIBRARIES[request.param]()
    with library.context():
        yield library


@pytest.fixture
def double():
    library = LIBRARIES["jax-float64"]()
    with library.context():
        yield library


class Layer(NamedTuple):
    weight: object
    bias: object


def network(kind, inputs=6, hidden=4, seed=0):
    """A tree of a NamedTuple, a list and a scalar."""
    rng = np.random.default_rng(seed)
    layer = Layer(kind(0.5 * rng.standard_normal((inputs, hidden))), kind(np.zeros(hidden)))
    return {"layer": layer, "out": [kind(rng.standard_normal(hidden)), kind(0.1)]}


def data(kind, n=128, inputs=6, seed=1):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, inputs))
    y = 0.5 * X @ rng.standard_normal(inputs) + 0.3 * rng.standard_normal(n)
    return kind(X), kind(y)


def loss(params, batch):
    """Two linear layers and a bounded loss: not convex, and quick to compile."""
    X, y = batch
    scores = (X @ params["layer"].weight + params["layer"].bias) @ params["out"][0] + params["out"][1]
    square = (scores - y) ** 2
    return jnp.mean(square / (1.0 + square)) + 1e-3 * jnp.sum(params["layer"].weight ** 2)


def run(kind, fun=None, grad=True, w0=None, batch=None, **how):
    """Few samples, small batches: a run compiles the loss for two sizes."""
    sampler = mblsr1.ArraySampler(*(data(kind) if batch is None else batch))
    settings = {"rng": 0, "batch_size": 64, "max_steps": 8, **({} if "method" in how else {"memory": 4}), **how}
    return mblsr1.jax.minimize(fun or loss, grad, network(kind) if w0 is None else w0, sampler, **settings)


def same_trees(a, b, exact=True, **tolerance):
    assert jax.tree_util.tree_structure(a) == jax.tree_util.tree_structure(b)
    compare = np.testing.assert_array_equal if exact else np.testing.assert_allclose
    for one, other in zip(jax.tree_util.tree_leaves(a), jax.tree_util.tree_leaves(b), strict=True):
        compare(np.asarray(one), np.asarray(other), **tolerance)


def looks_like(tree, like, kind):
    assert jax.tree_util.tree_structure(tree) == jax.tree_util.tree_structure(like)
    for leaf, of in zip(jax.tree_util.tree_leaves(tree), jax.tree_util.tree_leaves(like), strict=True):
        assert leaf.shape == of.shape
        assert kind.is_kind(leaf)


# Trees


def test_a_tree_comes_back_as_it_went_in(kind):
    w0, batch = network(kind), data(kind)
    result = run(kind, max_steps=30, averaging=0.9)
    for tree in (result.x, result.jac, result.x_average):
        looks_like(tree, w0, kind)
    assert result.nit == 30
    assert loss(result.x, batch) < 0.8 * loss(w0, batch)


def test_the_run_is_that_of_the_vector(double):
    """Without a sampler nothing is cut: the same steps as of the core on the ravelled tree."""
    w0, batch = network(double), data(double)
    vector, unravel = jax.flatten_util.ravel_pytree(w0)
    both = jax.jit(jax.value_and_grad(lambda w: loss(unravel(w), batch)))
    by_hand = mblsr1.minimize(both, True, vector, max_steps=12, memory=4)
    result = mblsr1.jax.minimize(lambda params: loss(params, batch), True, w0, max_steps=12, memory=4)
    # XLA may order sums in another way in another program: rounding, in a run that amplifies it little
    same_trees(result.x, unravel(by_hand.x), exact=False, rtol=1e-9, atol=1e-9)
    assert (result.nfev, result.njev, result.n_samples) == (by_hand.nfev, by_hand.njev, by_hand.n_samples)


def test_batches_are_those_of_the_core(double):
    """The same samples are drawn, and their mean is the same whether it is made of one call or of several."""
    arrays = [double(a) for a in MILD.data]
    settings = {"rng": 0, "max_steps": 25, "batch_size": 64, "memory": 4}
    by_hand = mblsr1.minimize(MILD.both, True, double(np.full(40, 0.5)), mblsr1.ArraySampler(*arrays), **settings)
    w0 = {"a": double(np.full(25, 0.5)), "b": double(np.full((5, 3), 0.5))}

    def of_tree(params, batch):
        return MILD.fun(jnp.concatenate([params["a"], params["b"].ravel()]), batch)

    result = mblsr1.jax.minimize(of_tree, True, w0, mblsr1.ArraySampler(*arrays), **settings)
    np.testing.assert_allclose(result.history["loss"], by_hand.history["loss"], rtol=1e-10)
    assert result.history["batch_size"] == by_hand.history["batch_size"]
    assert result.history["n_samples"] == by_hand.history["n_samples"]


def test_callbacks_and_iterate_see_trees(double):
    w0, sampler = network(double), mblsr1.ArraySampler(*data(double))
    seen, in_loop = [], []
    result = run(double, max_steps=5, callback=lambda step: seen.append(step.x))
    assert len(seen) == 5
    looks_like(seen[0], w0, double)
    same_trees(seen[-1], result.x)
    settings = {"rng": 0, "batch_size": 64, "memory": 4, "max_steps": 5}
    steps = mblsr1.jax.iterate(loss, True, w0, sampler, callback=lambda step: in_loop.append(step.x), **settings)
    for step, expected in zip(steps, seen, strict=True):
        same_trees(step.x, expected)
    for tree, expected in zip(in_loop, seen, strict=True):
        same_trees(tree, expected)


def test_a_callback_stops_the_run(double):
    result = run(double, callback=lambda step: step.step == 3)
    assert (result.status, result.nit) == (3, 3)


def test_a_run_is_continued_bit_for_bit(kind, tmp_path):
    straight, first = run(kind, max_steps=12), run(kind, max_steps=5)
    mblsr1.save_state(tmp_path / "state.npz", first.state)
    second = run(kind, max_steps=7, state=mblsr1.load_state(tmp_path / "state.npz"))
    same_trees(second.x, straight.x)
    assert second.nit == 12


def test_a_run_goes_on_from_its_file(double, tmp_path):
    straight = run(double, max_steps=12)
    settings = {"checkpoint": tmp_path / "run.npz", "checkpoint_every": 0.0}
    run(double, max_steps=5, **settings)
    again = run(double, max_steps=12, **settings)
    same_trees(again.x, straight.x)
    assert again.history["loss"] == straight.history["loss"]
    how = {"rng": 0, "batch_size": 64, "memory": 4, **settings, "checkpoint": tmp_path / "steps.npz"}
    sampler = mblsr1.ArraySampler(*data(double))
    seen = [
        step.step
        for k in (3, 5)
        for step in mblsr1.jax.iterate(loss, True, network(double), sampler, max_steps=k, **how)
    ]
    assert seen == [1, 2, 3, 4, 5]


def test_numbers_of_python_and_numpy_are_leaves():
    with LIBRARIES["jax-float32-x64-off"]().context():
        w0 = {"a": 1.0, "b": np.ones(2), "c": None}
        result = mblsr1.jax.minimize(lambda p: p["a"] ** 2 + jnp.sum((p["b"] - 2.0) ** 2), True, w0, gtol=1e-3)
    assert result.success
    assert result.x["c"] is None
    assert result.x["a"].shape == ()
    np.testing.assert_allclose(result.x["b"], 2.0, atol=1e-3)


# Gradients and products


def test_loss_and_value_and_grad_are_the_same(double):
    both = jax.value_and_grad(loss)
    runs = [run(double, fun) for fun in (loss, both, jax.jit(loss), lambda *given: list(both(*given)))]
    for other in runs[1:]:
        same_trees(other.x, runs[0].x)
        assert other.n_samples == runs[0].n_samples


def test_a_gradient_of_the_user(double):
    """Loss and gradient apart, as in the core: a loss alone costs a third of a sample."""
    w0, batch = network(double), data(double)
    vector, unravel = jax.flatten_util.ravel_pytree(w0)
    fun, grad = (lambda p: loss(p, batch)), (lambda p: jax.grad(loss)(p, batch))
    result = mblsr1.jax.minimize(fun, grad, w0, max_steps=8, memory=4)
    of_vector = jax.jit(lambda w: fun(unravel(w))), jax.jit(jax.grad(lambda w: fun(unravel(w))))
    by_hand = mblsr1.minimize(*of_vector, vector, max_steps=8, memory=4)
    same_trees(result.x, unravel(by_hand.x), exact=False, rtol=1e-9, atol=1e-9)
    assert result.n_samples == by_hand.n_samples == pytest.approx(result.njev + result.nfev / 3)
    assert result.nfev > 0


@pytest.mark.parametrize("apart", [False, True], ids=["fused", "apart"])
def test_products_with_the_hessian_are_exact(double, apart):
    """Those of S-LSR1 with `hvp=True` are the Hessian's, made here as a dense matrix."""
    _, unravel = jax.flatten_util.ravel_pytree(network(double))

    def dense(params, v, batch):
        (w, _), (along, _) = map(jax.flatten_util.ravel_pytree, (params, v))
        return unravel(jax.hessian(lambda at: loss(unravel(at), batch))(w) @ along)

    how = {"grad": jax.grad(loss) if apart else True, "method": mblsr1.s_lsr1(3), "max_steps": 4}
    products, by_hand, differences = (run(double, hvp=hvp, **how) for hvp in (True, dense, None))
    same_trees(products.x, by_hand.x, exact=False, rtol=1e-9, atol=1e-12)
    assert products.n_samples == by_hand.n_samples == pytest.approx(differences.n_samples + 4 * 3 * 64)
    assert not np.array_equal(products.x["out"][0], differences.x["out"][0])


# Compilations


class Traces:
    """The loss, which notes with how many samples it is traced; the first time is to see what it returns."""

    def __init__(self):
        self.sizes = []

    def __call__(self, params, batch):
        assert all(isinstance(a, jax.core.Tracer) for a in batch)
        self.sizes.append(len(batch[1]))
        return loss(params, batch)

    def compiled(self):
        return sum(Counter(self.sizes[1:]).values())


@pytest.mark.parametrize(
    ("n", "how", "least"),
    [
        (1040, {}, 256),
        (1040, {"growth": "progress", "progress_fraction": 0.9, "check_every": 2, "check_size": lambda n: n}, 1040),
        (
            1040,
            {"options": mblsr1.Options(overlap=0.0, check_every=2, progress_fraction=0.9, check_size=lambda n: n)},
            1040,
        ),
        (1040, {"method": mblsr1.svrg(0.1)}, 64),
        (1040, {"batch_size": 1040}, 1040),
        (130, {}, 64),
    ],
    ids=["recommended", "up to the whole set", "no overlap", "svrg", "whole", "few samples"],
)
def test_compilations_are_bounded(double, n, how, least):
    """At most log2(N / n0) + 2, however the batch grows and where the gradient over the whole set is asked for."""
    fun = Traces()
    options = how.get("options", mblsr1.Options(memory=4)).replace(batch_size=how.get("batch_size", 64))
    changes = {name: value for name, value in how.items() if name not in ("options", "batch_size")}
    batch = data(double, n)
    settings = {"batch_size": options.batch_size, "max_samples": 30 * n, "max_steps": None, "gtol": 1e-3, **changes}
    result = run(double, fun, batch=batch, options=options, **settings)
    assert result.batch_size >= least
    assert fun.compiled() <= math.log2(n / options.batch_size) + 2
    assert len(set(fun.sizes)) == fun.compiled()  # no size twice


def test_the_bound_is_not_met_without_the_ladder(double):
    """The core's own parts of a batch, compiled as they come: the check above can fail."""
    fun, n = Traces(), 1040
    vector, unravel = jax.flatten_util.ravel_pytree(network(double))
    both = jax.jit(jax.value_and_grad(lambda w, batch: fun(unravel(w), batch)))
    sampler = mblsr1.ArraySampler(*data(double, n))
    mblsr1.minimize(both, True, vector, sampler, rng=0, max_samples=10 * n, batch_size=64, memory=4)
    assert len(fun.sizes) > math.log2(n / 64) + 2


@pytest.mark.parametrize("n", [64, 65, 100, 1000, 4095, 4096, 60_001])
@pytest.mark.parametrize("first", [8, 16, 64, 256])
@pytest.mark.parametrize("overlap", [0.125, 0.0, 0.25])
def test_sizes_of_the_ladder(n, first, overlap):
    """Whatever a run asks for of doubled batches and of the whole set: sizes add up, and there are few."""
    from mblsr1.jax import _ladder

    first = min(first, n)
    ladder = _ladder(first, overlap, n)
    shared = [0, *([round(overlap * first)] if overlap and first < n else [])]
    asked = {n, *(last for last in [n % (ladder.rungs(5000 if n >= 5000 else n) or [n])[0]] if last)}
    size = first
    while size < n:
        part = round(overlap * size)
        asked |= {size, part, size - part, size - 2 * part, 2 * size - 3 * part} - {0}
        size *= 2
    sizes = set()
    for wanted in asked:
        parts = ladder.split(wanted)
        assert sum(parts) == wanted
        assert min(parts) > 0
        sizes |= set(parts)
    assert len(sizes) <= math.log2(n / first) + 2, (sizes, shared)


@pytest.mark.parametrize("first", [100, 7, 1])
def test_odd_sizes_cost_a_few_more(first):
    """Each size from 1 to N in parts: powers of two below the smallest rung, no size else."""
    from mblsr1.jax import _ladder

    n = 3000
    ladder = _ladder(first, 0.125, n)
    sizes = {part for wanted in range(1, n + 1) for part in ladder.split(wanted)}
    assert all(sum(ladder.split(wanted)) == wanted for wanted in range(1, n + 1))
    assert len(sizes) <= math.log2(n / first) + 2 + math.log2(max(first, 2))


def test_data_are_arguments_of_the_compiled_functions(double):
    """Arrays of an ArraySampler are not built into the programs, one copy for each size."""
    seen = []

    def fun(params, batch):
        seen.extend(isinstance(a, jax.core.Tracer) for a in batch)
        return loss(params, batch)

    sampler = mblsr1.ArraySampler(*(np.asarray(a) for a in data(double)))
    mblsr1.jax.minimize(fun, True, network(double), sampler, rng=0, max_steps=3)
    assert seen
    assert all(seen)


# Samplers


class Dictionaries:
    """A sampler of dicts of NumPy arrays that knows no chunks."""

    def __init__(self, X, y):
        self.X, self.y, self.n_samples = X, y, len(y)

    def draw(self, size, rng):
        rows = np.arange(self.n_samples)[:size] if size == self.n_samples else rng.integers(self.n_samples, size=size)
        return {"X": self.X[rows], "y": self.y[rows]}


@pytest.mark.parametrize("sort", ["dict", "stream", "loader", "int", "no rows"])
def test_any_sampler(double, sort):
    X, y = (np.asarray(a) for a in data(double))
    held, half = (double(X), double(y)), len(y) // 2

    def rows(size, rng):
        return rng.integers(len(y), size=size)

    def stream(size, rng):
        drawn = rows(size, rng)
        return X[drawn], y[drawn]

    fun, sampler = {
        "dict": (lambda p, b: loss(p, (b["X"], b["y"])), Dictionaries(X, y)),
        "stream": (loss, mblsr1.StreamSampler(stream)),
        "loader": (loss, mblsr1.LoaderSampler(lambda: iter([(X[:half], y[:half]), (X[half:], y[half:])]))),
        "int": (lambda p, drawn: loss(p, tuple(a[drawn] for a in held)), len(y)),
        "no rows": (lambda p, seed: loss(p, held) + 0.0 * seed, mblsr1.StreamSampler(lambda size, rng: rng.random())),
    }[sort]
    w0 = network(double)
    result = mblsr1.jax.minimize(fun, True, w0, sampler, rng=0, max_steps=15, batch_size=16, memory=4)
    assert result.nit == 15
    assert loss(result.x, held) < 0.9 * loss(w0, held)


@pytest.mark.parametrize("sort", ["arrays", "dict", "int"])
def test_the_gradient_over_the_whole_set_is_the_mean_over_all_samples(double, sort):
    """SVRG's first step is along it; N is no multiple of anything."""
    X, y = data(double, n=131)
    w0, rate = network(double), 0.5
    fun, sampler = {
        "arrays": (loss, mblsr1.ArraySampler(X, y)),
        "dict": (lambda p, b: loss(p, (b["X"], b["y"])), Dictionaries(np.asarray(X), np.asarray(y))),
        "int": (lambda p, rows: loss(p, (X[rows], y[rows])), 131),
    }[sort]
    result = mblsr1.jax.minimize(fun, True, w0, sampler, method=mblsr1.svrg(rate), batch_size=24, rng=0, max_steps=1)
    expected = jax.tree_util.tree_map(lambda w, g: w - rate * g, w0, jax.grad(loss)(w0, (X, y)))
    same_trees(result.x, expected, exact=False, rtol=0, atol=1e-14)


# Structure


def test_blocks_are_the_leaves(double):
    leaves = jax.tree_util.tree_leaves(network(double))
    assert [leaf.shape for leaf in leaves] == [(6, 4), (4,), (4,), ()]
    of_leaves, by_hand, without = (
        run(double, max_steps=12, blocks=blocks) for blocks in (True, [(6, 4), 4, 4, (1,)], None)
    )
    same_trees(of_leaves.x, by_hand.x)
    assert not np.array_equal(of_leaves.x["out"][0], without.x["out"][0])


def test_the_columns_of_a_large_leaf_are_its_last_axis():
    from mblsr1.jax import _shapes

    leaves = [jnp.zeros((3, 3, 2, 8)), jnp.zeros((5, 7)), jnp.zeros(4), jnp.zeros(()), jnp.zeros((0, 3))]
    assert _shapes(leaves) == [(18, 8), (5, 7), (4,), (1,)]


def test_an_empty_leaf_is_kept(double):
    w0 = {"a": double(np.ones((2, 3))), "none": double(np.zeros((0, 3)))}
    fun = lambda p: jnp.sum(p["a"] ** 2) + jnp.sum(p["none"])  # noqa: E731
    result = mblsr1.jax.minimize(fun, True, w0, blocks=True)
    assert result.success
    assert result.x["none"].shape == (0, 3)


def test_the_examples_of_the_module_run(double):
    found = doctest.testmod(mblsr1.jax)
    assert found.attempted >= 3
    assert found.failed == 0


# Refusals


@pytest.mark.parametrize(
    ("w0", "text"),
    [
        ({"a": [1.0, 2]}, r"w0\['a'\]\[1\]: must be an array of real floating numbers, got dtype int"),
        ([np.ones(2), np.ones(2, dtype=bool)], r"w0\[1\]: must be an array of real floating numbers, got dtype bool"),
        (np.ones(2, dtype=complex), "w0: must be an array of real floating numbers, got dtype complex"),
        ({"a": "text"}, r"w0\['a'\]: must be an array of real floating numbers, got str"),
        ({"a": np.ones(2, np.float32), "b": np.ones(2)}, r"w0\['b'\]: all leaves must have the dtype of the first, "
         "float32; got float64"),
        ({"a": np.ones(2, np.float32), "b": np.ones(2, np.float16)}, "float32; got float16"),
    ],
)  # fmt: skip
def test_leaves_that_are_refused(double, w0, text):
    with pytest.raises(TypeError, match=text):
        mblsr1.jax.minimize(lambda w: 0.0, True, w0)


@pytest.mark.parametrize("w0", [{}, {"a": np.zeros((0, 2))}, None])
def test_a_tree_without_numbers_is_refused(double, w0):
    with pytest.raises(ValueError, match="w0: must have at least one entry"):
        mblsr1.jax.minimize(lambda w: 0.0, True, w0)


@pytest.mark.parametrize(
    ("fun", "grad", "text"),
    [
        (lambda w: w["a"], True, "fun: with grad=True must return a real scalar loss"),
        (lambda w: 3, True, "fun: with grad=True must return a real scalar loss"),
        (lambda w: {"loss": 1.0}, True, "fun: with grad=True must return a real scalar loss"),
        (lambda w: (1.0, w["a"]), True, "fun: must return a pytree like w0"),
        (lambda w: (1.0, {"a": w["a"][:1]}), True, r"float64 of shape \(2,\), got float64 of shape \(1,\)"),
        (lambda w: 1.0, lambda w: [w["a"]], "grad: must return a pytree like w0"),
        (lambda w: 1.0, lambda w: {"a": w["a"].astype(jnp.float32)}, "got float32"),
        (lambda w: 1.0, False, "grad: must be a callable"),
        ("fun", True, "fun: must be a callable"),
    ],
)
def test_functions_that_are_refused(double, fun, grad, text):
    with pytest.raises(TypeError, match=text):
        mblsr1.jax.minimize(fun, grad, {"a": double(np.ones(2))})


def test_other_arguments_that_are_refused(double):
    w0, batch = network(double), data(double)
    sampler = mblsr1.ArraySampler(*batch)
    for how, kind, text in (
        ({"hvp": 3}, TypeError, "hvp: must be True, None or a callable, got 3"),
        ({"hvp": False}, TypeError, "hvp: must be True, None or a callable, got False"),
        ({"blocks": False}, TypeError, "blocks: must be None, True or a sequence of shapes, got False"),
        ({"memory": -1}, ValueError, "memory: must be"),
        ({"no_such": 1}, TypeError, "no_such: unknown option"),
        ({"blocks": 3}, TypeError, "blocks: must be a sequence of shapes"),
        ({"max_steps": -1}, ValueError, "max_steps"),
        ({"state": 1}, TypeError, "state"),
    ):
        with pytest.raises(kind, match=text):
            mblsr1.jax.minimize(loss, True, w0, sampler, **how)
        with pytest.raises(kind, match=text):
            mblsr1.jax.iterate(loss, True, w0, sampler, **how)
    with pytest.raises(TypeError, match="sampler: the arrays must be such that JAX takes, got ndarray"):
        mblsr1.jax.minimize(loss, True, w0, mblsr1.ArraySampler(np.array(["a", "b"])))


def test_a_loss_that_is_not_finite_ends_the_run(double):
    result = mblsr1.jax.minimize(lambda w: jnp.log(w["a"]), True, {"a": double(-1.0)})
    assert result.status == 4
    assert result.nit == 0
    np.testing.assert_array_equal(result.x["a"], -1.0)
