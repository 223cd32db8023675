"""A metric M = C C': the step is optimal in it, and a run in it is a run without it on the transformed problem."""

import copy

import numpy as np
import pytest
from choices import RESOLVING
from hypothesis import given
from hypothesis import strategies as st

import mblsr1
from mblsr1 import Options
from mblsr1.linalg.pairs import PairMemory
from mblsr1.steps.model import sr1_model

EPS = float(np.finfo(np.float64).eps)
D, N = 6, 80
_DATA = np.random.default_rng(3)
X = _DATA.standard_normal((N, D)) * np.geomspace(1.0, 0.2, D)
Y = np.sign(X @ _DATA.standard_normal(D) + 0.3 * _DATA.standard_normal(N))
seeds = st.integers(0, 2**32 - 1)


def factor(rng, d, kind):
    """C of a positive definite M: symmetric, a Cholesky factor, or neither. Condition number of C at most 10."""
    Q, R = (np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(2))
    spread = 10.0 ** rng.uniform(0.0, 1.0, d)
    if kind == "general":
        return (Q * spread) @ R
    if kind == "symmetric":
        return (Q * spread) @ Q.T
    return np.linalg.cholesky((Q * spread**2) @ Q.T)


kinds = st.sampled_from(["symmetric", "cholesky", "general"])


def rule(C):
    """The metric rule of C, by its dense inverse."""
    inverse = np.linalg.inv(C)
    return mblsr1.metric.fixed(lambda g: inverse @ g, lambda x: inverse.T @ x)


# --- the subproblem --------------------------------------------------------------------------------


@given(seeds, st.integers(1, 10), st.integers(0, 10), kinds, st.floats(-3, 3), st.floats(-10, 10))
def test_the_step_is_the_global_minimiser_in_the_metric(seed, d, k, kind, log_radius, shift):
    """(B + sigma M) p = -g, B + sigma M >= 0, ||p||_M <= delta, sigma (delta - ||p||_M) = 0, with B = C B~ C'.

    In the coordinates x = C'p the conditions hold to 1e-11 of ||g|| and (B + sigma) ||x|| (test_subproblem.py), times
    cond(Psi)^2 where the pairs are nearly dependent; C and its inverse cost cond(C) <= 10 once each.
    """
    rng = np.random.default_rng(seed)
    C = factor(rng, d, kind)
    M, metric = C @ C.T, rule(C)(np.zeros(d))
    H = rng.standard_normal((d, d))
    H = H + H.T + shift * np.eye(d)
    memory = PairMemory(np.zeros(d), max(1, k))
    for s in rng.standard_normal((min(k, d), d)):
        memory.push(C.T @ s, metric.of_gradient(H @ s))
        memory.project([])
    g, delta = rng.standard_normal(d), 10.0**log_radius
    problem = sr1_model(mblsr1.scaling.ceiling(), 1e-8)(memory, metric.of_gradient(g))
    sol = problem.solve(delta)
    p = metric.to_step(sol.p)
    B = C @ problem.B.to_dense() @ C.T
    size = np.linalg.norm(B, 2) + sol.sigma * np.linalg.norm(M, 2)
    loss = 1e-10 * (np.linalg.norm(g) + size * np.linalg.norm(p)) * condition(memory, problem.B) ** 2
    length = np.sqrt(p @ M @ p)
    assert np.linalg.norm(B @ p + sol.sigma * (M @ p) + g) <= loss
    assert np.linalg.eigvalsh(B + sol.sigma * M)[0] >= -1e-10 * size * condition(memory, problem.B) ** 2
    assert length <= delta * (1.0 + 1e-8)
    assert length == pytest.approx(sol.norm, rel=1e-10)
    if sol.sigma > 0.0 and sol.on_boundary:
        assert length == pytest.approx(delta, rel=1e-8)
    change = g @ p + 0.5 * p @ B @ p
    assert sol.model_change == pytest.approx(change, abs=loss * np.linalg.norm(p))
    for _ in range(20):  # no point in the ellipsoid is better
        z = np.linalg.solve(C.T, unit(rng, d)) * delta * rng.random()
        assert g @ z + 0.5 * z @ B @ z >= change - 1e-10 * size * np.linalg.norm(z) ** 2 - loss * np.linalg.norm(p)


def unit(rng, d):
    x = rng.standard_normal(d)
    return x / np.linalg.norm(x)


def condition(memory, B):
    """Condition number of the psi in use, of unit length."""
    rows = np.asarray(memory.rows)
    psi = np.array([rows[2 * memory.order[i] + 1] - B.gamma * rows[2 * memory.order[i]] for i in B.kept])
    return float(np.linalg.cond(psi / np.linalg.norm(psi, axis=1, keepdims=True))) if len(psi) else 1.0


# --- a run in a metric -----------------------------------------------------------------------------


def fun(w, batch=slice(None)):
    return float(np.mean(np.logaddexp(0.0, -Y[batch] * (X[batch] @ w))) + 0.05 * np.cos(2.0 * w).sum())


def grad(w, batch=slice(None)):
    pull = -Y[batch] / (1.0 + np.exp(Y[batch] * (X[batch] @ w)))
    return X[batch].T @ pull / len(pull) - 0.1 * np.sin(2.0 * w)


#: Batches stay as they are: the share of noise that makes them grow is measured in the plain norm.
_SAMPLES = Options(batch_size=16, noise_limit=1.0, largest_share=0.01, gtol=0.0, memory=8)
SETTINGS = {
    "whole": (None, Options(gtol=0.0)),
    "whole, sr1": (None, Options(gtol=0.0, whole_matrix="sr1")),
    "whole, l-bfgs": (None, Options(gtol=0.0, whole_matrix="l-bfgs")),
    "samples": (N, _SAMPLES),
    "samples, two steps a batch": (N, _SAMPLES.replace(steps_per_batch=2)),
    "re-solving": (N, RESOLVING.replace(batch_size=16, gtol=0.0, memory=8)),
    "warm start": (N, RESOLVING.replace(batch_size=16, gtol=0.0, memory=4, restart_memory=3, restart_tolerance=0.9)),
    "printed ratio": (N, RESOLVING.replace(batch_size=16, gtol=0.0, ratio="mean-of-ratios", radius_shrink=1.0)),
}  # fmt: skip


COLUMNS = ("loss_after", "radius", "step_norm", "sigma", "rho_hat", "predicted", "slope")


def distance(run, other, name):
    """Largest difference in a column of the histories, each by its own entry and the column's largest."""
    a, b = np.array(run.history[name]), np.array(other.history[name])
    np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b), err_msg=name)
    known = np.isfinite(b)
    if not known.any():
        return 0.0
    size = np.abs(b[known])
    return float((np.abs(a[known] - b[known]) / (size + size.max() + 1e-300)).max())


def minimize_disturbed(fun, grad, w0, sampler, seed, **how):
    """The run with a relative error of 2e-14 in each entry of the gradient."""
    noise = np.random.default_rng(100 + seed)

    def disturbed(w, *batch):
        return grad(w, *batch) * (1.0 + 2e-14 * noise.standard_normal(D))

    return mblsr1.minimize(fun, disturbed, w0, sampler, **how)


@pytest.mark.parametrize("kind", ["symmetric", "cholesky", "general"])
@pytest.mark.parametrize(("sampler", "options"), SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("seed", range(3))
def test_a_run_in_a_metric_is_a_run_on_the_transformed_problem(sampler, options, kind, seed):
    """f~(x) = f(C^-T x) without a metric from x0 = C'w0: the same radii, ratios and steps.

    Both norms of the start are under 1, so that the limits of the radius are the same. Rounding, of cond(C)^2 eps
    = 2e-14 a step, grows by a few times in each of 12 steps. A warm start's y are differences over sqrt(eps), and what
    becomes of their errors depends on the run: there the bound is ten times what disturbances of 2e-14 make.
    """
    C = factor(np.random.default_rng(seed), D, kind)
    inverse = np.linalg.inv(C)
    w0 = np.linspace(-1.0, 1.0, D) * 0.5 / np.linalg.norm(C, 2)

    def over(x, *batch):
        return fun(inverse.T @ x, *batch)

    def grad_over(x, *batch):
        return inverse @ grad(inverse.T @ x, *batch)

    how = {"rng": seed, "options": options, "max_steps": 12}
    there = mblsr1.minimize(over, grad_over, C.T @ w0, sampler, **how)
    here = mblsr1.minimize(fun, grad, w0, sampler, metric=rule(C), **how)
    assert here.nit == there.nit >= 8
    tolerance = 1e-8
    if options.restart_memory:
        disturbed = [minimize_disturbed(over, grad_over, C.T @ w0, sampler, k, **how) for k in range(3)]
        tolerance = 10.0 * max(distance(run, there, name) for run in disturbed for name in COLUMNS)
        assert tolerance < 0.1
    np.testing.assert_allclose(
        here.x, inverse.T @ there.x, rtol=0, atol=tolerance * np.linalg.norm(inverse.T @ there.x)
    )
    assert {name: distance(here, there, name) for name in COLUMNS if distance(here, there, name) > tolerance} == {}
    for name in ("on_boundary", "rejections", "n_pairs", "n_restarts", "n_skipped", "batch_size"):
        assert here.history[name] == there.history[name], name


@pytest.mark.parametrize(
    ("sampler", "options"), [*SETTINGS.values(), (N, Options(batch_size=16)), (None, Options(gtol=0.0, memory=3))]
)
def test_the_identity_changes_no_bit(sampler, options):
    """Whether M = I is the default or given as functions; with gtol=0 to where rounding decides."""
    rules = (None, mblsr1.metric.identity(), mblsr1.metric.fixed(lambda g: g), mblsr1.metric.fixed(lambda g: 1.0 * g))
    runs = [
        mblsr1.minimize(fun, grad, np.full(D, 0.3), sampler, rng=1, options=options, max_steps=60, metric=each)
        for each in rules
    ]
    for other in runs[1:]:
        assert other.x.tobytes() == runs[0].x.tobytes()
        np.testing.assert_equal(other.history, runs[0].history)


# --- invariance of the learnt metric ---------------------------------------------------------------

SHAPE = (4, 4)
TARGET = _DATA.standard_normal((24, 4)), _DATA.standard_normal((24, 4))


def matrix_loss(W):
    A, Z = TARGET
    return float(np.mean(np.logaddexp(0.0, (A @ W) * Z)) + 0.02 * np.sum(W**2))


def matrix_grad(W):
    A, Z = TARGET
    return A.T @ (Z / (1.0 + np.exp(-(A @ W) * Z))) / Z.size + 0.04 * W


LEARNING = {"exponent": 0.25, "memory": 0.8, "every": 3, "floor": 1e-2, "stride": 1}


def learnt(fun, grad, W0, steps, state=None, exponent=0.25):
    metric = mblsr1.metric.kronecker([SHAPE], **{**LEARNING, "exponent": exponent})
    return mblsr1.minimize(fun, grad, W0, metric=metric, max_steps=steps, gtol=0.0, state=state)


def rotated(tree, U, V):
    """The state of a run on f~(W) = f(U'WV); the pairs are stored in the eigenbases, which turn along."""
    tree = copy.deepcopy(tree)
    block = tree["inner"]["metric"]["0"]
    for side, means, Q in (("left", "of_rows", U), ("right", "of_columns", V)):
        block[side], block[means] = Q @ block[side], Q @ block[means] @ Q.T
    for place, key in ((tree, "w"), (tree["known"], "g")):
        place[key] = (U @ place[key].reshape(SHAPE) @ V.T).ravel()
    return mblsr1.State(tree)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("exponent", [0.25, 0.5])
def test_rotating_the_rows_and_columns_of_a_matrix_rotates_the_run(seed, exponent):
    """f~(W) = f(U'WV), once the first bases are there: before, the squares are those of the entries of W itself.

    Eigenvectors amplify rounding by the gaps between the eigenvalues, of 1e-3 here and more: 1e-8 in ten steps.
    """
    rng = np.random.default_rng(seed)
    U, V = (np.linalg.qr(rng.standard_normal((4, 4)))[0] for _ in range(2))
    W0 = 0.5 * rng.standard_normal(SHAPE)
    first = learnt(matrix_loss, matrix_grad, W0, 2, exponent=exponent)
    here = learnt(matrix_loss, matrix_grad, W0, 10, first.state, exponent)
    there = learnt(
        lambda W: matrix_loss(U.T @ W @ V), lambda W: U @ matrix_grad(U.T @ W @ V) @ V.T, W0, 10,
        rotated(first.state.tree, U, V), exponent,
    )  # fmt: skip
    assert here.nit == 12
    np.testing.assert_allclose(U.T @ there.x @ V, here.x, rtol=0, atol=1e-8 * np.linalg.norm(here.x))
    np.testing.assert_allclose(there.history["radius"], here.history["radius"], rtol=1e-8)


@pytest.mark.parametrize("power", [-8, -3, 5, 60])
def test_the_unit_of_the_loss_does_not_matter(power):
    """c f for a power of two: the same M, and the same steps to the bit but for what compares with absolute numbers."""
    c, W0 = 2.0**power, 0.5 * np.random.default_rng(0).standard_normal(SHAPE)
    metric = {"metric": mblsr1.metric.kronecker([SHAPE], **LEARNING), "max_steps": 8, "gtol": 0.0}
    here = mblsr1.minimize(matrix_loss, matrix_grad, W0, **metric)
    there = mblsr1.minimize(lambda W: c * matrix_loss(W), lambda W: c * matrix_grad(W), W0, **metric)
    found, expected = (run.state.tree["inner"]["metric"]["0"] for run in (there, here))
    # the eigenvectors of c^2 GG' are those of GG' but for rounding, by the gaps of the eigenvalues
    np.testing.assert_allclose(dense(found), dense(expected), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(there.x, here.x, rtol=1e-8, atol=1e-8)


def dense(block):
    """M of a saved square block, from its bases and the diagonal of C^-1."""
    Q = np.kron(block["left"], block["right"])
    return (Q / block["inverse"].ravel() ** 2) @ Q.T
