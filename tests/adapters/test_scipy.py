"""`scipy_method` in `scipy.optimize.minimize` and `basinhopping`, LSR1Update in trust-constr, B as a LinearOperator."""

import pickle

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse.linalg
from scipy.optimize import SR1, OptimizeWarning, basinhopping, rosen, rosen_der

import mblsr1
from mblsr1.scipy import LSR1Update, linear_operator, scipy_method

EPS = np.finfo(np.float64).eps
START = np.tile([-1.2, 1.0], 5)


def both(x, shift=0.0):
    return rosen(x) + shift, rosen_der(x)


def solve(fun=rosen, x0=START, jac=rosen_der, **arguments):
    return scipy.optimize.minimize(fun, x0, jac=jac, method=mblsr1.scipy_method, **arguments)


# ---- the run is that of mblsr1.minimize


@pytest.mark.parametrize("options", [{}, {"memory": 5, "whole_matrix": "sr1", "gtol": 1e-7}])
@pytest.mark.parametrize("fused", [False, True])
def test_the_run_is_that_of_minimize_to_the_bit(fused, options):
    fun, jac, grad = (both, True, True) if fused else (rosen, rosen_der, rosen_der)
    ours, theirs = mblsr1.minimize(fun, grad, START, **options), solve(fun, jac=jac, options=options)
    assert np.array_equal(ours.x, theirs.x)
    assert ours.history == theirs.history or repr(ours.history) == repr(theirs.history)  # nan is not equal to itself
    for name in ("fun", "nit", "nfev", "njev", "status", "success", "message"):
        assert ours[name] == theirs[name], name
    assert np.linalg.norm(rosen_der(theirs.x)) <= options.get("gtol", 1e-5)


def test_a_fused_function_is_called_once_a_point():
    """SciPy splits jac=True into two functions that share an evaluation; the run joins them again."""
    calls = []

    def counted(x):
        calls.append(x.copy())
        return both(x)

    result = solve(counted, jac=True)
    assert len(calls) == result.nfev == result.njev
    assert len({x.tobytes() for x in calls}) == len(calls)


def test_without_scipy_in_between():
    assert np.array_equal(scipy_method(both, START, jac=True).x, solve(both, jac=True).x)
    assert scipy_method(lambda x: float(x[0] ** 2), 3.0, jac=lambda x: 2 * x).x.shape == (1,)


def test_args_reach_both_functions():
    def fun(x, a, b):
        return float(a * (x - b) @ (x - b))

    def jac(x, a, b):
        return 2 * a * (x - b)

    for result in (
        solve(fun, np.zeros(3), jac, args=(2.0, 5.0)),
        solve(lambda *a: (fun(*a), jac(*a)), np.zeros(3), True, args=(2.0, 5.0)),
        solve(both, jac=True, args=0.5),  # not a tuple: SciPy makes it one
    ):
        assert result.success
    assert np.linalg.norm(solve(fun, np.zeros(3), jac, args=(2.0, 5.0)).x - 5.0) <= 1e-5 / 4  # gtol / curvature
    assert abs(solve(both, jac=True, args=0.5).fun - 0.5) < 1e-8


def test_a_function_may_spoil_its_argument():
    def fun(x):
        value = rosen(x)
        x[:] = np.nan
        return value

    def jac(x):
        g = rosen_der(x)
        x[:] = np.nan
        return g

    assert np.array_equal(solve(fun, jac=jac).x, solve().x)
    assert np.array_equal(solve(lambda x: (fun(x.copy()), jac(x)), jac=True).x, solve(both, jac=True).x)


def test_what_scipy_allows_a_function_to_return():
    target = np.arange(3.0)
    result = solve(lambda x: np.array([np.sum((x - target) ** 2)]), [5, 5, 5], lambda x: list(2 * (x - target)))
    assert result.success
    assert result.x.dtype == np.float64
    single = solve(lambda x: np.sum((x - target) ** 2), np.zeros(3, np.float32), lambda x: 2 * (x - target))
    assert single.x.dtype == np.float32
    assert single.success


def test_tol_is_gtol_unless_that_is_given():
    loose, tight = solve(tol=1e-1), solve(tol=1e-8)
    assert loose.nit < tight.nit
    assert np.linalg.norm(loose.jac) <= 1e-1
    assert np.linalg.norm(tight.jac) <= 1e-8
    assert np.array_equal(solve(tol=1e-1, options={"gtol": 1e-8}).x, tight.x)


# ---- callbacks and budgets


def test_callbacks_of_both_signatures_see_every_step():
    xs, seen = [], []

    def see(intermediate_result):
        seen.append(intermediate_result)

    result, same = solve(callback=xs.append), solve(callback=see)
    assert len(xs) == len(seen) == result.nit
    assert np.array_equal(xs[-1], result.x)
    assert all(np.array_equal(x, r.x) and r.fun == rosen(x) for x, r in zip(xs, seen, strict=True))
    assert [r.nit for r in seen] == list(range(1, same.nit + 1))
    assert (seen[-1].nfev, seen[-1].njev) == (same.nfev, same.njev)


def test_a_callback_gets_a_copy_and_its_value_does_not_matter():
    def spoils(x):
        x[:] = np.nan
        return np.ones(3)

    assert np.array_equal(solve(callback=spoils).x, solve().x)
    assert np.array_equal(solve(callback=max).x, solve().x)  # a function without a signature


@pytest.mark.parametrize("kind", ["x", "intermediate_result"])
def test_stop_iteration_ends_the_run(kind):
    xs = []

    def stop(x):
        xs.append(x)
        if len(xs) == 4:
            raise StopIteration

    callback = stop if kind == "x" else lambda intermediate_result: stop(intermediate_result.x)
    result = solve(callback=callback)
    assert (result.status, result.success, result.nit) == (3, False, 4)
    assert np.array_equal(result.x, xs[-1])


def test_maxiter_and_maxfun():
    short = solve(options={"maxiter": 7})
    assert (short.status, short.success, short.nit, short.message) == (1, False, 7, "maxiter steps have been made")
    few = solve(options={"maxfun": 20})
    assert (few.status, few.success, few.message) == (2, False, "fun has been called maxfun times")
    calls = np.array(few.history["nfev"])
    assert calls[-1] >= 20 > calls[-2]  # it ends after the first step that reaches the limit
    exact = int(few.history["nfev"][10])
    assert solve(options={"maxfun": exact}).nfev == exact
    enough = solve(options={"maxfun": 10_000})
    assert enough.success


def test_no_step_at_all_shows_the_values_at_the_start():
    calls = []
    none = solve(lambda x: calls.append(1) or rosen(x), options={"maxiter": 0})
    theirs = scipy.optimize.minimize(rosen, START, jac=rosen_der, method="BFGS", options={"maxiter": 0})
    assert (none.status, none.success, none.nit, none.message) == (1, False, 0, "maxiter steps have been made")
    assert (none.fun, none.nfev, none.njev, len(calls)) == (theirs.fun, 1, 1, 1)
    assert np.array_equal(none.jac, theirs.jac)
    assert np.array_equal(none.x, START)
    solved = solve(x0=np.ones(10), options={"maxiter": 0})
    assert (solved.status, solved.success, solved.fun) == (0, True, 0.0)


def test_disp_prints_how_the_run_ended(capsys):
    result = solve(options={"disp": True})
    printed = capsys.readouterr().out
    assert printed.startswith(result.message + "\n")
    for text in (f"Iterations: {result.nit}\n", f"Function evaluations: {result.nfev}\n", f"{result.fun:f}"):
        assert text in printed
    solve()
    assert capsys.readouterr().out == ""


def test_a_result_prints_without_its_history_and_pickles_with_it():
    result = solve()
    assert "message" in repr(result)
    assert f"columns of {result.nit} steps" in repr(result)
    again = pickle.loads(pickle.dumps(result))
    assert again.history["loss"] == result.history["loss"]
    more = mblsr1.minimize(rosen, rosen_der, START, state=again.state, gtol=1e-9)
    assert more.nit > result.nit


# ---- what is refused


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"bounds": [(0, 1)] * 10}, "bounds: .*unconstrained"),
        ({"bounds": scipy.optimize.Bounds(0, 1)}, "bounds: "),
        ({"constraints": {"type": "eq", "fun": rosen}}, "constraints: .*unconstrained"),
        ({"constraints": [{"type": "eq", "fun": rosen}]}, "constraints: "),
        ({"hess": scipy.optimize.rosen_hess}, "hess: .*gradients"),
        ({"hessp": scipy.optimize.rosen_hess_prod}, "hessp: "),
        ({"options": {"maxfun": 0}}, "maxfun: must be an int >= 1, got 0"),
        ({"options": {"maxiter": -1}}, "maxiter: must be an int >= 0, got -1"),
        ({"x0": [np.nan, 0.0]}, "x0: must be finite"),
        ({"x0": []}, "x0: must have at least one entry"),
        ({"options": {"memory": -1}}, "memory: must be an int >= 0, got -1"),
        ({"tol": -1.0}, "gtol: must be"),
        ({"jac": lambda x: rosen_der(x)[:-1]}, r"jac: must return an array of x0's shape \(10,\), got shape \(9,\)"),
        ({"fun": lambda x: x}, "fun: must return a scalar"),
    ],
)
def test_a_value_that_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        solve(**arguments)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"jac": None}, "jac: must be a callable, or True.*finite differences"),
        ({"jac": "2-point"}, "jac: must be a callable, or True"),
        ({"callback": 3}, "callback: must be None or a callable"),
        ({"jac": lambda x: 1j * rosen_der(x)}, "jac: must return real numbers, got dtype complex128"),
        ({"x0": np.array(["a"])}, "x0: must be an array of real"),
        ({"options": {"maxiter": 2.5}}, "maxiter: must be an int >= 0, got 2.5"),
    ],
)
def test_a_type_that_is_refused(arguments, match):
    with pytest.raises(TypeError, match=match):
        solve(**arguments)


def test_a_pair_is_asked_for_where_jac_is_true():
    with pytest.raises(TypeError, match="fun: with jac=True must return"):
        scipy_method(rosen, START, jac=True)


def test_an_unknown_option_is_a_warning_as_in_scipy():
    with pytest.warns(OptimizeWarning, match="Unknown solver options: maxitre") as found:
        result = solve(options={"maxitre": 5})
    assert found[0].filename == __file__
    assert np.array_equal(result.x, solve().x)


def test_nan_at_the_start_is_a_status():
    result = solve(lambda x: np.nan, jac=lambda x: x * np.nan)
    assert (result.status, result.success) == (4, False)
    assert np.array_equal(result.x, START)


# ---- basinhopping


def test_basinhopping_finds_the_global_minimum():
    def fun(x):
        return float(np.sum(x**2 / 20 - np.cos(3 * x))), x / 10 + 3 * np.sin(3 * x)

    local = {"method": scipy_method, "jac": True}
    result = basinhopping(fun, [5.0, -4.0], minimizer_kwargs=local, stepsize=2.0, rng=0, niter=40)
    assert result.lowest_optimization_result.success
    assert np.linalg.norm(result.x) <= 1e-5 / 9.1 * 1.01  # gtol / curvature at the minimum, 0
    assert result.minimization_failures == 0


# ---- the matrix in trust-constr


def pairs(d, k, seed=0):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((d, d))
    S = rng.standard_normal((k, d))
    return S, S @ (A + A.T)


def filled(strategy, S, Y, approx_type):
    strategy.initialize(S.shape[1], approx_type)
    for s, y in zip(S, Y, strict=True):
        strategy.update(s, y)
    return strategy


@pytest.mark.parametrize("approx_type", ["hess", "inv_hess"])
@pytest.mark.parametrize("seed", range(5))
def test_all_pairs_make_the_matrix_of_scipy(approx_type, seed):
    S, Y = pairs(12, 6, seed)
    ours, theirs = (filled(strategy, S, Y, approx_type) for strategy in (LSR1Update(), SR1()))
    p = np.random.default_rng(seed).standard_normal(12)
    # the recursion's error grows with the smallest denominator: by less than 1e5 on these pairs
    size = np.linalg.norm(theirs.get_matrix(), 2)
    assert np.linalg.norm(ours.get_matrix() - theirs.get_matrix(), 2) <= 1e5 * EPS * size
    assert np.linalg.norm(ours @ p - theirs @ p) <= 1e5 * EPS * size * np.linalg.norm(p)


@pytest.mark.parametrize("approx_type", ["hess", "inv_hess"])
def test_the_newest_pairs_make_the_matrix(approx_type):
    S, Y = pairs(12, 9)
    ours = filled(LSR1Update(memory=4, init_scale=0.5), S, Y, approx_type)
    theirs = filled(SR1(init_scale=0.5), S[-4:], Y[-4:], approx_type)
    assert np.allclose(ours.get_matrix(), theirs.get_matrix(), rtol=1e5 * EPS, atol=1e5 * EPS)
    assert len(ours.B.pairs) == 4


def test_a_scaling_rule_is_made_anew_with_each_pair():
    S, Y = pairs(12, 6)
    rule = mblsr1.scaling.ceiling(3.0)
    ours = filled(LSR1Update(init_scale=rule), S, Y, "hess")
    largest = max(np.linalg.norm(y) / np.linalg.norm(s) for s, y in zip(S, Y, strict=True))
    assert abs(ours.B.gamma - 3.0 * largest) <= 8 * EPS * ours.B.gamma
    assert np.allclose(ours.get_matrix(), mblsr1.LSR1(S, Y, ours.B.gamma).to_dense(), rtol=1e-12, atol=1e-10)


def test_pairs_that_teach_nothing_are_skipped():
    S, Y = pairs(12, 3)
    ours = filled(LSR1Update(), S, Y, "hess")
    before = ours.get_matrix()
    ours.update(np.zeros(12), np.zeros(12))
    ours.update(S[0], ours @ S[0])
    ours.update(S[0], np.full(12, np.nan))
    assert np.array_equal(ours.get_matrix(), before)
    ours.initialize(3, "hess")
    assert np.array_equal(ours.get_matrix(), np.eye(3))
    for nothing in (np.zeros(3), np.full(3, np.nan)):
        ours.update(np.ones(3), nothing)
        ours.update(nothing, np.ones(3))
        assert np.array_equal(ours.get_matrix(), np.eye(3))


@pytest.mark.filterwarnings("ignore:delta_grad == 0.0:UserWarning")
@pytest.mark.parametrize("approx_type", ["hess", "inv_hess"])
@pytest.mark.parametrize("where", [0, 3])
def test_an_empty_pair_leaves_the_matrix_of_scipy(approx_type, where):
    """Also as the first one, which is not the one that scales."""
    S, Y = pairs(12, 6)
    for s, y in ((np.zeros(12), np.zeros(12)), (np.ones(12), np.zeros(12))):
        more = np.insert(S, where, s, axis=0), np.insert(Y, where, y, axis=0)
        ours, theirs = (filled(strategy, *more, approx_type).get_matrix() for strategy in (LSR1Update(), SR1()))
        assert np.linalg.norm(ours - theirs, 2) <= 1e5 * EPS * np.linalg.norm(theirs, 2)


@pytest.mark.parametrize("init_scale", ["auto", mblsr1.scaling.ceiling()])
def test_trust_constr_with_a_constraint(init_scale):
    """Rosenbrock on the unit sphere: the Lagrangian's gradient vanishes, with a multiplier from least squares."""
    sphere = scipy.optimize.NonlinearConstraint(
        lambda x: x @ x, 1.0, 1.0, jac=lambda x: 2 * x[None, :], hess=lambda x, v: 2 * v[0] * np.eye(x.size)
    )
    result = scipy.optimize.minimize(
        rosen, np.full(6, 0.3), jac=rosen_der, method="trust-constr", hess=LSR1Update(init_scale=init_scale),
        constraints=sphere, options={"gtol": 1e-9, "xtol": 1e-12, "maxiter": 500},
    )  # fmt: skip
    g, x = rosen_der(result.x), result.x
    assert abs(x @ x - 1.0) <= 1e-9
    assert np.linalg.norm(g - (g @ x) * x) <= 1e-6


def test_a_hessian_and_a_constraint_may_each_have_one():
    constraint = scipy.optimize.NonlinearConstraint(lambda x: x @ x, 1.0, 1.0, jac=lambda x: 2 * x, hess=LSR1Update())
    result = scipy.optimize.minimize(
        rosen, np.full(4, 0.3), jac=rosen_der, method="trust-constr", hess=LSR1Update(), constraints=constraint,
        options={"maxiter": 500},
    )  # fmt: skip
    g, x = rosen_der(result.x), result.x
    assert abs(x @ x - 1.0) <= 1e-8
    assert np.linalg.norm(g - (g @ x) * x) <= 1e-4


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"memory": 0}, ValueError, "memory: must be an int >= 1, got 0"),
        ({"memory": 2.0}, TypeError, "memory: "),
        ({"min_denominator": 1.0}, ValueError, r"min_denominator: .* in \[0, 1\)"),
        ({"init_scale": np.inf}, ValueError, 'init_scale: must be a rule, "auto" or a finite number'),
        ({"init_scale": "no"}, TypeError, "init_scale: "),
        ({"init_scale": np.eye(3)}, TypeError, 'init_scale: must be a rule, "auto" or a finite number, got an array'),
    ],
)
def test_parameters_of_the_matrix_are_checked(arguments, error, match):
    with pytest.raises(error, match=match):
        LSR1Update(**arguments)
    with pytest.raises(ValueError, match="approx_type: "):
        LSR1Update().initialize(3, "hessian")


# ---- B as a LinearOperator


def test_the_operator_is_the_matrix():
    S, Y = pairs(30, 5)
    B = mblsr1.LSR1(S, Y, 2.0)
    dense, operator = B.to_dense(), linear_operator(B)
    X = np.random.default_rng(1).standard_normal((30, 3))
    scale = np.linalg.norm(dense, 2) * np.linalg.norm(X, 2)
    for product, exact in ((operator @ X, dense @ X), (operator.T @ X, dense @ X), (operator.H @ X, dense @ X)):
        assert np.linalg.norm(product - exact, 2) <= 1e4 * EPS * scale
    assert operator.matvec(X[:, :1]).shape == (30, 1)
    largest = scipy.sparse.linalg.eigsh(operator, k=2, which="LA", return_eigenvectors=False)
    assert np.allclose(np.sort(largest), B.eigenvalues()[-2:], rtol=1e-10)


def test_the_operator_of_a_complex_vector():
    S, Y = pairs(30, 5)
    B, rng = mblsr1.LSR1(S, Y, 2.0), np.random.default_rng(1)
    dense, operator = B.to_dense(), linear_operator(B)
    z = rng.standard_normal((30, 2)) @ [1.0, 1j]
    for product in (operator @ z, operator.H @ z, operator.T @ z, (operator @ z[:, None])[:, 0]):
        assert np.linalg.norm(product - dense @ z) <= 1e4 * EPS * np.linalg.norm(dense, 2) * np.linalg.norm(z)
    p, info = scipy.sparse.linalg.gmres(operator, z, rtol=1e-10)
    assert info == 0
    assert np.linalg.norm(dense @ p - z) <= 1e-9 * np.linalg.norm(z)


def test_minres_solves_with_it():
    S, Y = pairs(30, 5)
    B, g = mblsr1.LSR1(S, Y, 2.0), np.arange(30.0)
    p, info = scipy.sparse.linalg.minres(linear_operator(B), g, rtol=1e-12)
    assert info == 0
    assert np.linalg.norm(B @ p - g) <= 1e-9 * np.linalg.norm(g)


def test_the_operator_follows_updates_and_takes_pairs_of_any_library(xp):
    S, Y = (xp.asarray(a) for a in pairs(8, 3))
    B = mblsr1.LSR1(S, Y, 1.0)
    operator = linear_operator(B)
    s, y = (xp.asarray(a[0]) for a in pairs(8, 1, seed=9))
    assert B.update(s, y)
    v = np.random.default_rng(2).standard_normal(8)
    product = operator.matvec(v)
    assert product.dtype == np.float64
    dense = B.to_dense()
    assert np.linalg.norm(product - dense @ v) <= 1e4 * xp.eps * np.linalg.norm(dense, 2) * np.linalg.norm(v)


def test_only_an_lsr1_makes_an_operator():
    with pytest.raises(TypeError, match=r"B: must be an mblsr1\.LSR1, got ndarray"):
        linear_operator(np.eye(3))
