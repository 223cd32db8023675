"""Vectors in parts on ranks, threads here: the solver's decisions are those of whole vectors, alike on all ranks."""

import numpy as np
import problems
import pytest
from ranks import assert_told, run_on

import mblsr1
from mblsr1 import _array, _reduction
from mblsr1.distributed import RankError, vectors_in_parts

PROBLEM = problems.logistic(n=120, d=30)
CUTS = {1: [0, 30], 2: [0, 11, 30], 3: [0, 1, 17, 30], 4: [0, 8, 16, 24, 30]}
#: Rounding of another order of summation, grown over 20 steps: the printed method takes steps along pairs that are
#: dependent to 1e-8. Differences of gradients over ||s|| = sqrt(eps) make sqrt(eps) of it.
EPS = float(np.finfo(float).eps)
BY_DIFFERENCES = {"paper, pairs sampled", "S-LSR1"}
OPTIONS = {
    "default": ({"batch_size": 30}, 120),
    "whole set": ({"batch_size": 120}, 120),
    "paper": ({"options": mblsr1.Options.paper(batch_size=30)}, 120),
    "paper, pairs sampled": ({"options": mblsr1.Options.paper(batch_size=30, restart_memory=16)}, 120),
    "L-SSR1-TR": ({"options": mblsr1.Options.l_ssr1_tr(batch_size=30)}, 120),
    "S-LSR1": ({"method": mblsr1.s_lsr1(), "batch_size": 30}, 120),
    "SVRG": ({"method": mblsr1.svrg(0.05), "batch_size": 30}, 120),
    "Adam": ({"method": mblsr1.adam(0.05), "batch_size": 30}, 120),
    "fixed metric": ({"batch_size": 30, "metric": mblsr1.metric.fixed(lambda v: v * 0.5)}, 120),
}


def logistic_in_parts(parts, own):
    """The logistic problem from a part of w: products of the data with w are summed over the ranks."""
    X, y = PROBLEM.data
    weight, Z = 0.1, X[:, own]

    def margin(w, batch):
        return y[batch] * parts.sum(Z[batch] @ w)

    def fun(w, batch):
        regulariser = parts.sum(weight * np.sum(w**2 / (1.0 + w**2)))
        return float(np.mean(np.logaddexp(0.0, -margin(w, batch)))) + regulariser

    def grad(w, batch):
        wrong = np.exp(-np.logaddexp(0.0, margin(w, batch)))
        return Z[batch].T @ (-y[batch] * wrong) / len(batch) + weight * 2.0 * w / (1.0 + w**2) ** 2

    return fun, grad


def solve_in_parts(comm, name, cast=np.asarray):
    changes, n = OPTIONS[name]
    own = slice(*CUTS[comm.size][comm.rank : comm.rank + 2])
    with vectors_in_parts(comm) as parts:
        fun, grad = parts.functions(*logistic_in_parts(parts, own))
        w0 = cast(PROBLEM.w0[own])
        return mblsr1.minimize(fun, grad, w0, n, rng=3, max_steps=20, **changes)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("size", CUTS)
def test_parts_give_the_run_of_the_whole(name, size):
    changes, n = OPTIONS[name]
    rtol = 1e5 * EPS**0.5 if name in BY_DIFFERENCES else 1e8 * EPS if name == "paper" else 1e5 * EPS
    whole = mblsr1.minimize(PROBLEM.fun, PROBLEM.grad, PROBLEM.w0, n, rng=3, max_steps=20, **changes)
    found = run_on(size, solve_in_parts, name)
    np.testing.assert_allclose(np.concatenate([r.x for r in found]), whole.x, rtol=rtol, atol=rtol)
    for result in found:
        np.testing.assert_equal(result.history, found[0].history)
        assert (result.status, result.fun) == (found[0].status, found[0].fun)
        np.testing.assert_allclose(result.history["loss"], whole.history["loss"], rtol=rtol)
        assert result.n_samples == whole.n_samples
        assert (result.batch_size, result.n_skipped) == (whole.batch_size, whole.n_skipped)


def test_a_run_in_parts_continues_bit_for_bit(tmp_path):
    def program(comm):
        own = slice(*CUTS[comm.size][comm.rank : comm.rank + 2])
        with vectors_in_parts(comm) as parts:
            functions = parts.functions(*logistic_in_parts(parts, own))
            given = {"rng": 3, "batch_size": 30}
            whole = mblsr1.minimize(*functions, PROBLEM.w0[own], 120, max_steps=12, **given)
            first = mblsr1.minimize(*functions, PROBLEM.w0[own], 120, max_steps=5, **given)
            path = tmp_path / f"{comm.rank}.npz"
            mblsr1.save_state(path, first.state)
            state = mblsr1.load_state(path)
            last = mblsr1.minimize(*functions, PROBLEM.w0[own], 120, max_steps=7, state=state, **given)
            return whole.x.tobytes() == last.x.tobytes(), np.any(whole.x != first.x)

    assert run_on(2, program) == [(True, True)] * 2


@pytest.mark.parametrize("kind", ["fun", "grad", "fused"])
def test_an_exception_of_one_rank_stops_all(kind):
    def program(comm):
        def fails(*_):
            if comm.rank == 1:
                raise OSError("no such disk")
            return (0.0, np.ones(3)) if kind == "fused" else 0.0 if kind == "fun" else np.ones(3)

        functions = {"fun": (fails, lambda w: w), "grad": (lambda w: 1.0, fails), "fused": (fails, True)}[kind]
        with vectors_in_parts(comm) as parts:
            return mblsr1.minimize(*parts.functions(*functions), np.ones(3))

    assert_told(run_on(3, program), 1, OSError, "no such disk")


@pytest.mark.parametrize("n", [1, 2, 14, 15, 1000])
@pytest.mark.parametrize("fused", [True, False])
def test_an_exception_before_a_sum_stops_all(n, fused):
    """The others wait within `parts.sum` then, which adds to 14 numbers in one exchange and more in two."""

    def program(comm):
        def fun(w):
            if comm.rank == 1 and w[0] != 1.0:
                raise OSError("no such disk")
            return float(np.sum(parts.sum(np.full(n, float(w @ w) / n))))

        with vectors_in_parts(comm) as parts:
            given = (lambda w: (fun(w), 2.0 * w), True) if fused else (fun, lambda w: 2.0 * w)
            return mblsr1.minimize(*parts.functions(*given), np.ones(3))

    assert_told(run_on(3, program), 1, OSError, "no such disk")


@pytest.mark.parametrize("reaction", ["swallows", "wraps"])
def test_a_function_that_catches_the_error_of_another_rank_does_not_go_on(reaction):
    def program(comm):
        def fun(w):
            if comm.rank == 1:
                raise OSError("no such disk")
            try:
                return parts.sum(1.0)
            except RankError as error:
                if reaction == "wraps":
                    raise ValueError("mine") from error
                return 0.0

        with vectors_in_parts(comm) as parts:
            return mblsr1.minimize(*parts.functions(fun, lambda w: w), np.ones(3))

    first, second = run_on(2, program)
    assert isinstance(second, OSError)
    assert str(first) == ("mine" if reaction == "wraps" else "rank 1: OSError: no such disk")


@pytest.mark.parametrize(
    ("of_rank", "text"),
    [
        (lambda parts, r: [parts.sum(np.ones(3 + r))], r"parts.sum: must be as long on all ranks, got \[3, 4\]"),
        (lambda parts, r: [parts.sum(np.ones(30 + r))], r"parts.sum: must be as long on all ranks, got \[30, 31\]"),
        (lambda parts, r: [parts.sum(1.0) for _ in range(1 + r)], "parts.sum: must be called as often on all ranks"),
    ],
)
def test_sums_that_do_not_match_are_an_error_on_all(of_rank, text):
    def program(comm):
        with vectors_in_parts(comm) as parts:
            fun = lambda w: float(len(of_rank(parts, comm.rank)))  # noqa: E731
            return mblsr1.minimize(*parts.functions(fun, lambda w: w), np.ones(3))

    for error in run_on(2, program):
        with pytest.raises(ValueError, match=f"^{text}"):
            raise error


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_ends_the_program_of_one_rank_is_told_to_all(kind):
    def program(comm):
        def fun(w):
            if comm.rank == 0:
                raise kind("enough")
            return 0.0

        with vectors_in_parts(comm) as parts:
            try:
                return parts.functions(fun, lambda w: w)[0](np.ones(3))
            except kind as error:
                return error

    assert_told(run_on(2, program), 0, kind, "enough")


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        ((0.0, np.ones(2)), ValueError, r"fun: must return an array of w0's shape \(3,\), got shape \(2,\)"),
        ((0.0, np.ones(3, dtype=np.float32)), TypeError, "fun: must return an array of w0's library, dtype and device"),
        ((0.0, [1.0] * 3), TypeError, "fun: must return an array like w0, got list"),
        ((0.0, np.ones(3), 1), TypeError, r"fun: with grad=True must return \(loss, gradient\), got tuple"),
        ((np.ones(1), np.ones(3)), ValueError, r"fun: must return a scalar, the mean loss of the batch, got shape"),
        (("a", np.ones(3)), TypeError, r"fun: must return a real scalar"),
        (0.0, TypeError, r"fun: with grad=True must return \(loss, gradient\), got float"),
    ],
)
def test_a_wrong_return_value_on_one_rank_is_an_error_on_all(value, kind, text):
    def program(comm):
        with vectors_in_parts(comm) as parts:
            fun, grad = parts.functions(lambda w: value if comm.rank else (0.0, w), True)
            return mblsr1.minimize(fun, grad, np.ones(3))

    first, second = run_on(2, program)
    with pytest.raises(kind, match=f"^{text}"):
        raise second
    with pytest.raises(RankError, match=f"^rank 1: {kind.__name__}: {text}"):
        raise first


def test_a_wrong_gradient_of_one_rank_is_an_error_on_all():
    def program(comm):
        with vectors_in_parts(comm) as parts:
            given = parts.functions(lambda w: 0.0, lambda w: w[:2] if comm.rank else w)
            return mblsr1.minimize(*given, np.ones(3))

    first, second = run_on(2, program)
    with pytest.raises(ValueError, match=r"^grad: must return an array of w0's shape \(3,\), got shape \(2,\)"):
        raise second
    with pytest.raises(RankError, match=r"^rank 1: ValueError: grad: must return"):
        raise first


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("fused", [True, False])
def test_a_number_that_is_not_finite_on_one_rank_ends_the_run_on_all(bad, fused):
    def program(comm):
        def grad(w):
            return w if comm.rank == 0 or np.all(w == 1.0) else np.full(3, bad)

        def fun(w):
            return parts.sum(0.5 * float(w @ w))

        with vectors_in_parts(comm) as parts:
            functions = (lambda w: (fun(w), grad(w)), True) if fused else (fun, grad)
            result = mblsr1.minimize(*parts.functions(*functions), np.ones(3))
            return result.status, result.nit, bool(np.isfinite(result.x).all())

    first, second = run_on(2, program)
    assert first == second
    assert first[2]


def test_metrics_that_need_whole_vectors_are_refused():
    def program(comm):
        with vectors_in_parts(comm):
            return mblsr1.minimize(lambda w: 0.0, lambda w: w, np.ones(3), metric=mblsr1.metric.diagonal())

    for error in run_on(2, program):
        with pytest.raises(ValueError, match=r"^metric: diagonal and kronecker need vectors that lie whole"):
            raise error


def test_the_context_ends():
    def program(comm):
        with vectors_in_parts(comm):
            inside = _array.dot(np.ones(3), np.ones(3))
        return inside, _array.dot(np.ones(3), np.ones(3))

    assert run_on(2, program) == [(6.0, 3.0)] * 2


# --- each number that leaves a part --------------------------------------------------------------


def test_numbers_of_parts_are_those_of_the_whole(xp):
    """Small integers: every order of summation is exact."""
    rng = np.random.default_rng(0)
    rows, vectors = (rng.integers(-9, 9, (k, 30)) for k in (6, 3))
    broken = np.where(np.arange(30) == 29, np.nan, vectors[0])
    small = np.full(30, 1e-30 if xp.single else 1e-200)
    small[-1] *= -7.0  # the largest entry, by which the norm is scaled, is in the last part

    def numbers(own):
        R, V = xp.asarray(rows[:, own]), [xp.asarray(v[own]) for v in vectors]
        return [
            _array.inner_products(R, V).tolist(),
            _array.dot(V[0], V[1]),
            _array.inner_with(V[0], V),
            _array.scalars(2.0, V[0], V[1]),
            _array.scalars(xp.asarray(2.0), V[0]),
            [_array.all_finite(xp.asarray(v[own])) for v in (vectors[0], broken)],
            _array.length(V[0]),
            _array.norm(V[2]),
            float(f"{_array.norm(xp.asarray(small[own])):.5g}"),
        ]

    def program(comm):
        with xp.context(), vectors_in_parts(comm):
            return numbers(slice(10 * comm.rank, 10 * comm.rank + 10))

    whole = numbers(slice(0, 30))
    for found in run_on(3, program):
        assert found == whole


@pytest.mark.parametrize("cut", [[0, 5, 12], [0, 70_000, 200_001]])
def test_random_vectors_do_not_depend_on_the_parts(cut):
    whole = np.random.default_rng(5).standard_normal(cut[-1])

    def program(comm):
        rng = np.random.default_rng(5)
        with vectors_in_parts(comm):
            own = _array.normal(rng, np.zeros(cut[comm.rank + 1] - cut[comm.rank]))
        return own, rng.bit_generator.state

    found = run_on(2, program)
    np.testing.assert_array_equal(np.concatenate([own for own, _ in found]), whole)
    assert found[0][1] == found[1][1]


def test_sums_keep_library_dtype_and_shape():
    def program(comm):
        with vectors_in_parts(comm) as parts:
            return parts.sum(np.full((2, 2), 1.0 + comm.rank, dtype=np.float32)), parts.sum(2), parts.sum(np.float64(1))

    for array, number, scalar in run_on(3, program):
        assert (array.dtype, array.tolist()) == (np.float32, [[6.0, 6.0], [6.0, 6.0]])
        assert (number, scalar, type(number), type(scalar)) == (6.0, 3.0, float, float)


def test_without_a_reduction_nothing_is_exchanged():
    x = np.ones(3)
    assert _reduction.summed(x) is x
    assert (_reduction.extent(3), _reduction.largest(2.0), _reduction.everywhere(False)) == ((0, 3), 2.0, False)


@pytest.mark.parametrize("fused", [True, False])
def test_all_ranks_see_the_loss_of_rank_0(fused):
    """Sums that a user's own library rounds otherwise on another rank must not part the ranks' decisions."""

    def program(comm):
        def fun(w):
            return 3.0 * (1.0 + comm.rank * EPS)

        with vectors_in_parts(comm) as parts:
            given = (lambda w: (fun(w), w), True) if fused else (fun, lambda w: w)
            value = parts.functions(*given)[0](np.ones(2))
        return value[0] if fused else value

    assert run_on(3, program) == [3.0] * 3
