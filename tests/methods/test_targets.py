"""Deterministic targets: gradients to ||g|| <= 1e-5 with ten pairs (L-BFGS-B needs 93 and 120)."""

import numpy as np
import problems
import pytest

import mblsr1


@pytest.mark.parametrize(
    ("problem", "matrix", "most"),
    [(problems.rosenbrock(10), "sr1", 160), (problems.wood(40), "sr1", 60), (problems.rosenbrock(10), "better", 120)],
    ids=["chained Rosenbrock, n = 10", "Wood, n = 40", "chained Rosenbrock, n = 10, the default matrix"],
)
def test_gradients_to_convergence(problem, matrix, most):
    options = mblsr1.Options(memory=10, whole_matrix=matrix)
    result = mblsr1.minimize(problem.fun, problem.grad, problem.w0, options=options)
    assert result.success
    assert np.linalg.norm(problem.grad(result.x)) <= 1e-5
    assert result.njev <= most
    assert result.fun == pytest.approx(problem.fun(result.x), rel=0.0, abs=1e-16)


@pytest.mark.parametrize("problem", [problems.rosenbrock(10), problems.wood(40)], ids=["Rosenbrock", "Wood"])
def test_the_gradients_of_the_test_problems(problem):
    """Central differences err by h^2 |f'''| / 6 + eps |f| / h; h = 1e-5, |f'''| <= 2400 |w|, |f| <= 2e5 here."""
    h, w = 1e-5, problem.w0 + 0.1 * np.cos(np.arange(problem.w0.size))
    differences = [(problem.fun(w + h * e) - problem.fun(w - h * e)) / (2.0 * h) for e in np.eye(w.size)]
    assert problem.grad(w) == pytest.approx(np.array(differences), rel=0.0, abs=1e-5)


@pytest.mark.parametrize("problem", [problems.logistic(), problems.wells(), problems.network()])
def test_the_gradients_of_the_finite_sums(problem):
    """As above, with |f'''| of order 1 and |f| <= 100: 1e-8 leaves two digits."""
    h, batch = 1e-5, np.arange(0, problem.n, 7)
    w = problem.w0 + 0.1 * np.cos(np.arange(problem.w0.size))
    basis = np.eye(w.size)
    differences = [(problem.fun(w + h * e, batch) - problem.fun(w - h * e, batch)) / (2.0 * h) for e in basis]
    assert problem.grad(w, batch) == pytest.approx(np.array(differences), rel=0.0, abs=1e-8)
    rows = tuple(a[batch] for a in problem.data)
    assert problem.fun(w, rows) == problem.fun(w, batch)
    if problem.hvp is not None:
        products = [(problem.grad(w + h * e, batch) - problem.grad(w - h * e, batch)) / (2.0 * h) for e in basis]
        exact = [problem.hvp(w, e, batch) for e in basis]
        assert np.array(exact) == pytest.approx(np.array(products), rel=0.0, abs=1e-8)
