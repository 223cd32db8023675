"""What is special about JAX: immutable arrays, compilation, matmul precision, float64 only on request."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from libraries import LIBRARIES, parameters
from portable import MILD, RUNS

import mblsr1
from mblsr1 import _array

jax = pytest.importorskip("jax", reason="jax is not installed")
jnp = jax.numpy
pytestmark = pytest.mark.jax
COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture(params=parameters("jax-float64", "jax-float32", "jax-float32-x64-off"))
def kind(request):
    library = LIBRARIES[request.param]()
    with library.context():
        yield library


@pytest.fixture
def matmuls(monkeypatch):
    """Every product of matrices that JAX is asked for: its precision and the dtypes of its operands."""
    seen: list[tuple[Any, set[str]]] = []
    bind = jax.lax.dot_general_p.bind

    def recording(*operands: Any, **params: Any) -> Any:
        seen.append((params["precision"], {str(x.dtype) for x in operands}))
        return bind(*operands, **params)

    jax.clear_caches()  # a function that is compiled already asks no more
    monkeypatch.setattr(jax.lax.dot_general_p, "bind", recording)
    return seen


def is_exact(precision: Any, dtypes: set[str]) -> bool:
    """Whether a product uses all digits of its operands on every accelerator."""
    highest = jax.lax.Precision.HIGHEST
    return dtypes == {"float64"} or precision in (highest, (highest, highest))


def test_products_of_matrices_are_recorded(kind, matmuls):
    """What a GPU would multiply in TF32 and a TPU in bfloat16."""
    x = kind(np.ones(5))
    jax.jit(lambda a: a @ a)(x)
    jnp.matmul(x, x, precision="highest")
    assert [is_exact(*found) for found in matmuls] == [not kind.single, True]


@pytest.mark.parametrize("length", [30, 3000])
def test_products_of_matrices_use_full_precision(kind, matmuls, length):
    rows, v = kind(np.ones((4, length))), kind(np.ones(length))
    for call in (
        lambda: _array.products(rows, [v, v]),
        lambda: _array.combine(np.ones(4), rows, 2.0, v),
        lambda: _array.dot(v, v),
        lambda: _array.norm(v),
        lambda: _array.matmul(rows, rows.T),
    ):
        before = len(matmuls)
        call()
        assert all(is_exact(*found) for found in matmuls[before:])
    assert len(matmuls) >= 2


@pytest.mark.parametrize("name", ["recommended", "kronecker", "paper"])
def test_whole_runs_use_full_precision(kind, matmuls, name):
    """The user's own products are NumPy's here, so all that is recorded is ours."""
    problem, how = RUNS[name]

    def both(w):
        on_host = np.asarray(w, dtype=float)
        return float(problem.fun(on_host, problem.data)), kind(problem.grad(on_host, problem.data))

    result = mblsr1.minimize(both, True, kind(np.full(problem.d, 0.5)), max_steps=5, **how)
    assert result.nit == 5
    assert matmuls
    assert all(is_exact(*found) for found in matmuls)


def test_the_precision_of_the_caller_is_left(kind):
    with jax.default_matmul_precision("bfloat16"):
        _array.products(kind(np.ones((4, 30))), [kind(np.ones(30))])
        assert jax.config.jax_default_matmul_precision == "bfloat16"


def test_set_row_gives_the_old_buffer_away(kind):
    """Written in place: without it each of the two rows a step would copy the whole buffer."""
    rows = kind(np.zeros((6, 50)))
    new = _array.set_row(rows, 2, kind(np.ones(50)))
    assert rows.is_deleted()
    expected = np.zeros((6, 50))
    expected[2] = 1.0
    np.testing.assert_array_equal(np.asarray(new), expected)
    assert kind.is_kind(new)


def test_set_row_takes_any_row_without_a_new_compilation(kind):
    rows, x = kind(np.zeros((6, 51))), kind(np.ones(51))
    rows = _array.set_row(rows, 0, x)
    with compilations() as count:
        for i in range(1, 6):
            rows = _array.set_row(rows, i, x)
    assert count == []
    np.testing.assert_array_equal(np.asarray(rows), np.ones((6, 51)))


@contextmanager
def compilations() -> Iterator[list[str]]:
    """A list that gets an entry for each compilation."""
    seen: list[str] = []

    def listen(event: str, duration: float, **_: Any) -> None:
        if event == COMPILED:
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_compilations_are_counted():
    with compilations() as count:
        jax.jit(lambda x: 3.0 * x - 1.0)(jnp.ones(17))
    assert count


def in_numpy(problem, kind):
    """The problem with functions that compile nothing themselves, whatever the size of their batch."""

    def given(function):
        return lambda w, *rest: kind(function(*(np.asarray(x) if isinstance(x, jax.Array) else x for x in (w, *rest))))

    return {k: given(v) if callable(v) and k != "sampler" else v for k, v in problem.items()}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("sampled", [False, True], ids=["whole", "sampled"])
def test_nothing_is_compiled_after_the_first_steps(kind, name, sampled):
    """With 4 pairs, steps 11 to 30 use what the first ten have compiled, also where the batch grows."""
    jax.clear_caches()  # else what is seen depends on the tests before
    problem, how = RUNS[name]
    start = kind(np.full(problem.d, 0.5))
    functions = in_numpy(problem.problem(np.asarray, sampled), kind)
    steps = mblsr1.iterate(**functions, w0=start, rng=0, max_steps=30, gtol=0.0, **how)
    made = 0
    for _ in range(10):
        made += next(steps) is not None
    with compilations() as count:
        made += sum(1 for _ in steps)
    assert made > 12
    # where the loss no longer tells two points apart, the gradient's norm in the metric is made for the first time: one
    # row times one vector, and the making of that row
    assert len(count) <= (2 if name == "kronecker" and not sampled else 0)


def test_compilations_do_not_grow_with_the_memory(kind):
    """While the memory fills, each step must not bring a shape of its own."""

    def compiled(memory):
        jax.clear_caches()
        arguments = MILD.problem(kind, True)
        w0 = kind(np.full(MILD.d, 0.5))
        with compilations() as count:
            mblsr1.minimize(**arguments, w0=w0, rng=0, max_steps=16, gtol=0.0, memory=memory)
        return len(count)

    assert compiled(16) <= compiled(4)


def test_gradients_by_autodiff(kind):
    """jax.value_and_grad, compiled, as the fused function."""
    data = tuple(kind(a) for a in MILD.data)
    both = jax.jit(jax.value_and_grad(lambda w: MILD.fun(w, data)))
    result = mblsr1.minimize(both, True, kind(np.full(MILD.d, 0.5)), max_steps=10)
    by_hand = mblsr1.minimize(**MILD.problem(kind, False), w0=kind(np.full(MILD.d, 0.5)), max_steps=10)
    assert kind.is_kind(result.x)
    # two ways to round a gradient of size 1, in a run that amplifies rounding little
    np.testing.assert_allclose(np.asarray(result.x), np.asarray(by_hand.x), rtol=0, atol=1e3 * kind.eps)


def test_float64_off_and_on_are_told_apart():
    """A float64 start needs x64; without it JAX has made float32 of it before we see it."""
    with LIBRARIES["jax-float32-x64-off"]().context():
        w0 = jnp.asarray(np.ones(3))
        result = mblsr1.minimize(lambda w: w @ w, lambda w: 2.0 * w, w0)
        assert result.x.dtype == np.float32
    with LIBRARIES["jax-float64"]().context():
        w0 = jnp.asarray(np.ones(3))
        assert mblsr1.minimize(lambda w: w @ w, lambda w: 2.0 * w, w0).x.dtype == np.float64
