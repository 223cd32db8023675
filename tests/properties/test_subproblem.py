"""Every optimality condition of the trust-region subproblem, over easy, hard, near-hard and singular cases.

The conditions are checked against the dense matrix, made here from the pairs or planted by construction;
nothing of the solver is used for that.
"""

import math

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import mblsr1
from mblsr1.linalg.pairs import PairMemory
from mblsr1.linalg.smoothed import GivenSpectrum
from mblsr1.linalg.spectrum import Spectrum
from mblsr1.linalg.subproblem import Subproblem

EPS = float(np.finfo(np.float64).eps)
seeds = st.integers(0, 2**32 - 1)


def secant_matrix(H, S, gamma):
    """LSR1 of the quadratic with Hessian H: where Psi spans the range of H - gamma I it is H itself."""
    return mblsr1.LSR1(S, S @ H, gamma)


def rotation(rng, d):
    return np.linalg.qr(rng.standard_normal((d, d)))[0]


def planted(rng, d, lam, gamma):
    """B with eigenvalues `lam` on a random subspace and gamma elsewhere, and an orthonormal eigenbasis of it.

    S is V times an orthogonal matrix, so Psi = (H - gamma I)S has the condition number of diag(lam - gamma).
    """
    lam = np.asarray(lam, dtype=float)
    V = rotation(rng, d)
    H = gamma * np.eye(d) + (V[:, : lam.size] * (lam - gamma)) @ V[:, : lam.size].T
    return secant_matrix(0.5 * (H + H.T), V[:, : lam.size].T, gamma), V, 0.5 * (H + H.T)


def condition(B):
    """Condition number of Psi with rows of unit length."""
    rows = np.asarray(B.pairs.rows, dtype=float)
    psi = np.array([rows[2 * B.pairs.order[i] + 1] - B.gamma * rows[2 * B.pairs.order[i]] for i in B.kept])
    return float(np.linalg.cond(psi / np.linalg.norm(psi, axis=1, keepdims=True))) if len(psi) else 1.0


def rounding(B, dense, sol, factor=40.0):
    """Floor of the residual: evaluating B p from k stored pairs whose condition number is kappa.

    p itself is rounded: eps (||B|| + sigma) ||p||. The coefficients of B p over psi are up to kappa times larger than
    B p, and forming k terms of that size rounds each: eps kappa sqrt(k) (||B|| + sigma) ||p||; d-term inner products
    add at most sqrt(d) more in the mean. `factor` = 40 stands for sqrt(k d) of the sizes used here (k d <= 1600).
    """
    size = max(float(np.linalg.norm(dense, 2)), abs(B.gamma)) + sol.sigma
    return factor * EPS * condition(B) * size * sol.norm


def check(B, dense, g, radius, sol, tol=1e-11, extra=0.0):
    """Conn, Gould, Toint 2000, theorem 7.2.1, and what the result says of itself.

    `tol` is the relative residual asked for, `extra` an absolute error of `dense` as a copy of B.
    """
    p, g_norm, p_norm = np.asarray(sol.p, dtype=float), float(np.linalg.norm(g)), float(np.linalg.norm(sol.p))
    floor = rounding(B, dense, sol) * (tol / 1e-11) + extra * p_norm
    assert np.isfinite(p).all()
    assert sol.sigma >= 0.0
    residual = float(np.linalg.norm(dense @ p + sol.sigma * p + g))
    assert residual <= tol * g_norm + floor, "stationarity"
    lowest = float(np.linalg.eigvalsh(dense)[0])
    size = max(float(np.linalg.norm(dense, 2)), abs(B.gamma))  # B = gamma I + ..., which may cancel
    # eigvalsh, and the eigenvalues of the solver, are off by eps kappa^2 ||B|| where Psi has condition kappa.
    slack = 40.0 * EPS * condition(B) ** 2 * size * (tol / 1e-11) + extra
    assert lowest + sol.sigma >= -slack, "B + sigma I is positive semidefinite"
    assert p_norm <= radius * (1.0 + max(1e-8, tol)), "feasibility"
    if sol.sigma > slack:
        assert abs(p_norm - radius) <= max(1e-8, tol) * radius, "complementarity"
        assert sol.on_boundary
    assert sol.norm == pytest.approx(p_norm, rel=max(1e-12, tol))
    slope, change = float(g @ p), float(g @ p + 0.5 * p @ dense @ p)
    # Both are sums of d terms of size ||g|| ||p|| and ||B|| ||p||^2; the residual enters times ||p||.
    noise = (tol * g_norm + floor + 40.0 * EPS * (size + sol.sigma) * p_norm) * p_norm + 1e-300
    assert sol.model_change <= 0.0
    assert sol.slope <= 0.0
    assert abs(sol.slope - slope) <= noise
    assert abs(sol.model_change - change) <= noise
    # The solver's B and `dense` may differ by `slack`, which counts with the square of the other point's length.
    value, length = cauchy(dense, g, radius)
    assert sol.model_change <= value + noise + slack * length**2, "no worse than the Cauchy point"
    return noise + slack * radius**2


def cauchy(dense, g, radius):
    """Model change at the minimiser along -g in the ball, and the length of that step."""
    g_norm = float(np.linalg.norm(g))
    if g_norm == 0.0:
        return 0.0, 0.0
    unit = g / g_norm
    curvature = float(unit @ dense @ unit)
    t = radius if curvature <= 0.0 else min(radius, g_norm / curvature)
    return -t * g_norm + 0.5 * t * t * curvature, t


def solve_and_check(B, dense, g, radius, **kwargs):
    sol = mblsr1.solve_trust_region(B, g, radius)
    check(B, dense, g, radius, sol, **kwargs)
    return sol


curvatures = st.floats(-1e3, 1e3).map(lambda x: x if abs(x) > 1e-3 else 0.0)


@st.composite
def cases(draw, max_d=12):
    """A planted matrix: d, rank k in [0, d], gamma of any sign, eigenvalues of any sign, 0 and repeated included."""
    rng = np.random.default_rng(draw(seeds))
    d = draw(st.integers(1, max_d))
    k = draw(st.integers(0, d))
    gamma = draw(st.sampled_from([0.0, 1.0, -1.0]) | curvatures)
    lam = draw(st.lists(curvatures | st.sampled_from([0.0, 1.0, -2.0]), min_size=k, max_size=k))
    # A direction with lam = gamma gives psi = 0; keep psi apart from gamma so that the planted matrix is B itself.
    lam = [x if abs(x - gamma) > 0.05 * (1.0 + abs(gamma)) else gamma + 1.0 + abs(gamma) for x in lam]
    B, V, H = planted(rng, d, lam, gamma)
    assume(len(B.kept) == k)
    return rng, B, V, H, np.array([*lam, *([gamma] * (d - k))])


radii = st.floats(-10, 10).map(lambda x: 10.0**x)


def copy_error(H, lam, gamma):
    """H as a copy of B: y = H s is rounded, and N's entries lam - gamma divide: eps max^2 / min over |lam - gamma|."""
    gap = np.abs(np.asarray(lam) - gamma)
    gap = gap[gap > 0.0]
    size = float(np.abs(lam).max(initial=0.0)) + abs(gamma)
    spread = max(1.0, float(size / gap.min())) if gap.size else 1.0
    return 40.0 * EPS * len(lam) * size * spread


@given(cases(), radii, st.sampled_from([1e-12, 1.0, 1e12]))
def test_random_gradient(case, radius, scale):
    rng, B, _, H, _ = case
    g = scale * rng.standard_normal(H.shape[0])
    solve_and_check(B, B.to_dense(), g, radius)


@given(cases(), radii)
def test_against_the_planted_matrix(case, radius):
    """The same conditions with the Hessian that the pairs come from, which B has to equal."""
    rng, B, _, H, lam = case
    g = rng.standard_normal(H.shape[0])
    solve_and_check(B, H, g, radius, extra=copy_error(H, lam, B.gamma))


@given(cases(), radii, st.integers(0, 16))
def test_in_run_solution(case, radius, digits):
    """What a run uses: two passes over the pairs and no correction after them, here with well-conditioned psi."""
    rng, B, V, _H, lam = case
    a = rng.standard_normal(lam.size)
    a[lam == lam.min()] *= 10.0**-digits
    g = V @ a
    sol = Subproblem(B, g, B.pairs.project([g])[:, 0]).solve(radius)
    # The Gram of psi is rounded to eps (|lam| + |gamma|)^2, a share of eps lost^2 of |lam - gamma|^2.
    size = float(np.abs(lam).max()) + abs(B.gamma)
    gaps = np.abs(lam - B.gamma)
    lost = size / gaps[gaps > 1e-9 * size].min(initial=size) if size > 0.0 else 1.0
    # g - P P'g is made by cancellation down to a share of 1e-3 of g, below that twice in full length.
    check(B, B.to_dense(), g, radius, sol, extra=(40.0 * lost**2 + 4.0 / 1e-3) * EPS * size)
    if sol.on_boundary:
        assert abs(sol.norm - radius) <= 1e-12 * radius


@given(cases(), radii)
def test_hard_case(case, radius):
    """g orthogonal to the leftmost eigenspace, whether that is gamma's or another one."""
    rng, B, V, _H, lam = case
    a = rng.standard_normal(lam.size)
    a[np.abs(lam - lam.min()) <= 1e-9 * np.abs(lam).max()] = 0.0
    sol = solve_and_check(B, B.to_dense(), V @ a, radius)
    if lam.min() < -1e-3 and not a.any():  # the gradient is zero and B indefinite
        assert sol.on_boundary


@given(cases(), st.integers(4, 16), radii)
def test_near_hard(case, digits, radius):
    rng, B, V, _H, lam = case
    a = rng.standard_normal(lam.size)
    a[np.abs(lam - lam.min()) <= 1e-9 * np.abs(lam).max()] *= 10.0**-digits
    solve_and_check(B, B.to_dense(), V @ a, radius)


@pytest.mark.parametrize("leftmost", ["gamma", "lambda"])
@pytest.mark.parametrize("digits", range(4, 17))
def test_near_hard_needs_the_shift(leftmost, digits):
    """With sigma as the unknown ||p|| is off by 1e-7 to 4e-2 here (readings: numbers of a correct solver)."""
    rng = np.random.default_rng(digits)
    lam, gamma = ([2.0, 5.0, 7.0], -3.0) if leftmost == "gamma" else ([-3.0, 5.0, 7.0], 2.0)
    B, V, _H = planted(rng, 8, lam, gamma)
    a = rng.standard_normal(8)
    a[3:] *= 10.0**-digits if leftmost == "gamma" else 1.0
    a[0] *= 10.0**-digits if leftmost == "lambda" else 1.0
    for radius in (0.05, 1.0, 100.0):
        sol = solve_and_check(B, B.to_dense(), V @ a, radius)
        assert abs(sol.norm - radius) <= 1e-12 * radius


@given(seeds, st.sampled_from(["gamma", "lambda", "both"]), radii)
def test_singular(seed, which, radius):
    """lambda_min = 0, with g in the range of B or not."""
    rng = np.random.default_rng(seed)
    lam, gamma = {"gamma": ([1.0, 4.0], 0.0), "lambda": ([0.0, 4.0], 2.0), "both": ([1e-9, 4.0], 0.0)}[which]
    B, V, _H = planted(rng, 6, lam, gamma)
    a = rng.standard_normal(6)
    if seed % 2:
        a[[0] if which == "lambda" else [2, 3, 4, 5]] = 0.0
    solve_and_check(B, B.to_dense(), V @ a, radius)


@given(seeds, st.floats(0.1, 100.0))
def test_interior_solution_is_the_newton_step(seed, gamma):
    rng = np.random.default_rng(seed)
    B, _, H = planted(rng, 7, [3.0 * gamma, 0.5 * gamma], gamma)
    g = rng.standard_normal(7)
    newton = -np.linalg.solve(H, g)
    norm = float(np.linalg.norm(newton))
    sol = solve_and_check(B, H, g, 1.5 * norm, extra=copy_error(H, [3 * gamma, 0.5 * gamma, gamma], gamma))
    assert (sol.on_boundary, sol.hard_case) == (False, False)
    assert sol.sigma == 0.0
    # cond(H) = 6; H is a copy of B to some eps.
    np.testing.assert_allclose(sol.p, newton, rtol=0, atol=1e-12 * norm)
    inside = solve_and_check(B, H, g, 0.5 * norm, extra=copy_error(H, [3 * gamma, 0.5 * gamma, gamma], gamma))
    assert (inside.on_boundary, inside.hard_case) == (True, False)
    assert inside.sigma > 0.0


@given(seeds, st.sampled_from([-2.0, 0.0, 3.0]), radii)
def test_no_pairs(seed, gamma, radius):
    g = np.random.default_rng(seed).standard_normal(5)
    B = mblsr1.LSR1(np.zeros((0, 5)), np.zeros((0, 5)), gamma)
    sol = solve_and_check(B, gamma * np.eye(5), g, radius)
    length = min(radius, np.linalg.norm(g) / gamma) if gamma > 0 else radius
    np.testing.assert_allclose(sol.p, -g * length / np.linalg.norm(g), rtol=1e-12)


@pytest.mark.parametrize("y", [-3.0, -1e-9, 0.0, 1e-9, 2.0])
@pytest.mark.parametrize("gamma", [-1.0, 0.0, 1.5])
@pytest.mark.parametrize("g", [-2.0, 0.0, 1e-9])
@pytest.mark.parametrize("radius", [1e-10, 1.0, 1e10])
def test_one_dimension(y, gamma, g, radius):
    """d = 1 = k: B is the number y/s, and the minimum lies at an end or at -g/B."""
    B = mblsr1.LSR1(np.array([[2.0]]), np.array([[2.0 * y]]), gamma)
    sol = mblsr1.solve_trust_region(B, np.array([g]), radius)
    points = [radius, -radius] + ([-g / y] if y > 0 and abs(g / y) <= radius else [])
    best = min(g * p + 0.5 * y * p * p for p in points)
    # y - gamma is rounded once; the objective's terms are |g| r and |y| r^2.
    noise = 8.0 * EPS * (abs(g) * radius + (abs(y) + abs(gamma)) * radius**2)
    value = g * float(sol.p[0]) + 0.5 * y * float(sol.p[0]) ** 2
    assert value <= best + noise
    assert abs(value - sol.model_change) <= noise
    assert abs(float(sol.p[0])) <= radius * (1 + 1e-12)


@pytest.mark.parametrize(
    ("lam", "gamma"), [([2.0, 3.0], 1.0), ([-2.0, 3.0], 1.0), ([2.0, 3.0], -1.0), ([2.0, 3.0], 0.0)]
)
def test_zero_gradient(lam, gamma):
    B, _, _H = planted(np.random.default_rng(0), 5, lam, gamma)
    sol = solve_and_check(B, B.to_dense(), np.zeros(5), 0.7)
    lowest = min(*lam, gamma)
    if lowest < 0.0:
        assert sol.hard_case
        assert sol.norm == pytest.approx(0.7, rel=1e-12)
        assert sol.sigma == pytest.approx(-lowest, rel=1e-12)
        assert sol.model_change == pytest.approx(0.5 * lowest * 0.49, rel=1e-12)
    else:
        assert sol.norm == 0.0
        assert sol.model_change == 0.0
        assert not sol.on_boundary


@given(cases(), seeds)
def test_a_larger_ball_is_no_worse_and_no_feasible_point_is_better(case, seed):
    rng, B, _, H, _ = case
    dense, g = B.to_dense(), rng.standard_normal(H.shape[0])
    last = 0.0
    for radius in np.logspace(-4, 4, 9):
        sol = mblsr1.solve_trust_region(B, g, radius)
        noise = check(B, dense, g, radius, sol)
        assert sol.model_change <= last + noise
        last = sol.model_change
        points = rng.standard_normal((50, g.size))
        points *= radius * rng.uniform(0, 1, (50, 1)) ** 0.3 / np.linalg.norm(points, axis=1, keepdims=True)
        values = points @ g + 0.5 * np.einsum("ij,jk,ik->i", points, dense, points)
        assert sol.model_change <= values.min() + noise


@given(cases(), st.floats(-8, 8), st.floats(-8, 8))
def test_scaling_of_gradient_and_radius(case, a, b):
    """p scales with (g, radius); sigma does not change."""
    rng, B, _, H, _ = case
    g, radius, scale = rng.standard_normal(H.shape[0]), 10.0**b, 2.0 ** round(a)  # powers of two round nothing
    one = mblsr1.solve_trust_region(B, g, radius)
    other = mblsr1.solve_trust_region(B, scale * g, scale * radius)
    assert other.sigma == pytest.approx(one.sigma, rel=1e-12, abs=1e-300)
    np.testing.assert_allclose(other.p / scale, one.p, rtol=1e-10, atol=1e-12 * one.norm)


@given(cases(), st.integers(0, 2), radii)
def test_duplicate_and_parallel_pairs(case, how, radius):
    rng, B, V, H, _lam = case
    k = len(B.kept)
    assume(k > 0)
    S = V[:, :k].T
    again = [S, S * rng.uniform(0.5, 2, (k, 1)), S + 1e-13 * rng.standard_normal(S.shape)][how]
    S = np.concatenate([S, again])
    B = mblsr1.LSR1(S, S @ H, B.gamma)
    solve_and_check(B, B.to_dense(), rng.standard_normal(H.shape[0]), radius)


@given(seeds, st.sampled_from([-1e8, -1e4, 1e8]), radii)
def test_huge_curvature(seed, curvature, radius):
    rng = np.random.default_rng(seed)
    B, _V, _H = planted(rng, 6, [curvature, 3.0], 1.0)
    solve_and_check(B, B.to_dense(), rng.standard_normal(6), radius)


@given(seeds, st.sampled_from(["ceiling", "rayleigh", "below", 0.0, 1.0]), st.integers(1, 5), st.floats(-2, 1))
@example(7, "ceiling", 5, 0.55)  # the first correction of p leaves the ball by 1e-8 of the radius
@example(9, "ceiling", 5, 1.0)
def test_nearly_parallel_steps(seed, rule, digits, power):
    """The stall scenario: S nearly parallel, Y = H S with H indefinite. The bound holds with the measured cond(Psi)."""
    rng = np.random.default_rng(seed)
    d, k = 40, 8
    H = rng.standard_normal((d, d))
    H = 0.5 * (H + H.T)
    S = rng.standard_normal(d) + 10.0**-digits * rng.standard_normal((k, d))
    Y = S @ H
    ratios = np.linalg.norm(Y, axis=1) / np.linalg.norm(S, axis=1)
    gamma = {"ceiling": 2 * ratios.max(), "rayleigh": S[-1] @ Y[-1] / (S[-1] @ S[-1]), "below": -50.0}.get(rule, rule)
    B = mblsr1.LSR1(S, Y, float(gamma))
    g = rng.standard_normal(d)
    sol = mblsr1.solve_trust_region(B, g, 10.0**power)
    check(B, B.to_dense(), g, 10.0**power, sol)
    matvec = float(np.linalg.norm(B @ sol.p + sol.sigma * sol.p + g))
    assert matvec <= 1e-11 * np.linalg.norm(g) + rounding(B, B.to_dense(), sol)


@pytest.mark.parametrize("digits", range(1, 8))
def test_psi_nearly_zero(digits):
    """y = gamma s + a little: psi is a difference of nearly equal vectors, and is known to eps gamma ||s|| only."""
    rng = np.random.default_rng(digits)
    S = rng.standard_normal((3, 10))
    H = rng.standard_normal((10, 10))
    H = 2.0 * np.eye(10) + 10.0**-digits * (H + H.T)
    B = mblsr1.LSR1(S, S @ H, 2.0)
    for radius in (0.1, 10.0):
        solve_and_check(B, B.to_dense(), rng.standard_normal(10), radius)


@pytest.mark.parametrize("name", ["numpy-float32", "strict-float32"])
@pytest.mark.parametrize("kind", ["easy", "hard", "interior", "singular"])
@pytest.mark.parametrize("radius", [1e-3, 0.3, 30.0])
def test_float32(name, kind, radius):
    """Vectors of eps 1.2e-7: the conditions hold to 1e-4 (B + sigma I has condition numbers up to some 10)."""
    from libraries import LIBRARIES

    lib = LIBRARIES[name]()
    rng = np.random.default_rng(3)
    lam, gamma = {
        "easy": ([-3.0, 5.0], 1.0),
        "hard": ([-3.0, 5.0], 1.0),
        "interior": ([2.0, 5.0], 1.0),
        "singular": ([2.0, 5.0], 0.0),
    }[kind]
    V = rotation(rng, 50)
    H = gamma * np.eye(50) + (V[:, :2] * (np.array(lam) - gamma)) @ V[:, :2].T
    S = V[:, :2].T
    B = mblsr1.LSR1(lib(S), lib(S @ H), gamma)
    a = rng.standard_normal(50)
    a[0] *= 0.0 if kind == "hard" else 1.0
    g = lib(V @ a)
    sol = mblsr1.solve_trust_region(B, g, radius)
    assert lib.is_kind(sol.p)
    sol = sol._replace(p=lib.to_numpy(sol.p))
    g = lib.to_numpy(g).astype(float)
    p = sol.p.astype(float)
    scale = np.linalg.norm(g) + (5.0 + sol.sigma) * sol.norm
    assert np.linalg.norm(H @ p + sol.sigma * p + g) <= 1e-4 * scale
    assert np.linalg.norm(p) <= radius * (1 + 1e-5)
    assert min(*lam, gamma) + sol.sigma >= -1e-4
    if sol.sigma > 1e-4:
        assert np.linalg.norm(p) == pytest.approx(radius, rel=1e-5)
    change = g @ p + 0.5 * p @ H @ p
    assert abs(sol.model_change - change) <= 1e-5 * scale * sol.norm


def test_every_library(xp):
    rng = np.random.default_rng(0)
    S, g = rng.standard_normal((3, 20)), rng.standard_normal(20)
    H = rng.standard_normal((20, 20))
    H = H + H.T
    reference = mblsr1.solve_trust_region(mblsr1.LSR1(S, S @ H, 1.0), g, 0.5)
    B = mblsr1.LSR1(xp(S), xp(S @ H), 1.0)
    sol = mblsr1.solve_trust_region(B, xp(g), 0.5)
    assert xp.is_kind(sol.p)
    assert {type(x) for x in (sol.sigma, sol.model_change, sol.norm, sol.slope)} == {float}
    # cond(Psi) and cond(B + sigma I) are some 10 here; inputs are rounded to eps of the dtype.
    tolerance = 1e3 * xp.eps
    np.testing.assert_allclose(xp.to_numpy(sol.p), reference.p, rtol=0, atol=tolerance)
    assert sol.sigma == pytest.approx(reference.sigma, rel=tolerance)
    assert sol.model_change == pytest.approx(reference.model_change, rel=tolerance)


def test_errors_name_the_argument_and_its_range():
    B = mblsr1.LSR1(np.eye(2, 3), np.eye(2, 3) * 2, 1.0)
    g = np.ones(3)
    for bad in (np.ones(4), np.ones((3, 1)), [1.0, 1.0, 1.0], None):
        with pytest.raises(ValueError, match=r"^g: must be an array of shape \(3,\), got"):
            mblsr1.solve_trust_region(B, bad, 1.0)
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match=r"^g: must be finite"):
            mblsr1.solve_trust_region(B, np.array([1.0, bad, 1.0]), 1.0)
    for bad in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"^radius: must be a finite number > 0, got"):
            mblsr1.solve_trust_region(B, g, bad)


def exact_sr1(S, Y, gamma):
    """SR1 by rank-one updates with 50 digits."""
    mp = pytest.importorskip("mpmath", reason="mpmath is not installed").mp
    d = S.shape[1]
    B = mp.eye(d) * gamma
    for row_s, row_y in zip(S.tolist(), Y.tolist(), strict=True):
        s = mp.matrix(row_s)
        r = mp.matrix(row_y) - B * s
        B = B + r * r.T / (s.T * r)[0]
    return B


def exact_solution(B, g, radius):
    """(p, sigma, model change) by eigen-decomposition and bisection with 50 digits; easy cases only."""
    from mpmath import mp

    lam, Q = mp.eigsy(B)
    a = Q.T * mp.matrix(g.tolist())
    n, radius = len(g), mp.mpf(radius)

    def norm(sigma):
        return mp.sqrt(sum((a[i] / (lam[i] + sigma)) ** 2 for i in range(n)))

    low = max(mp.mpf(0), -min(lam))
    if min(lam) > 0 and norm(mp.mpf(0)) <= radius:
        sigma = mp.mpf(0)
    else:
        high = low + mp.norm(a) / radius + 1
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if norm(middle) > radius else (low, middle)
        sigma = high
    p = Q * mp.matrix([-a[i] / (lam[i] + sigma) for i in range(n)])
    change = (mp.matrix(g.tolist()).T * p)[0] + (p.T * B * p)[0] / 2
    spread = float((max(lam) + sigma) / (min(lam) + sigma))
    return np.array([float(x) for x in p]), float(sigma), float(change), spread


@given(seeds, st.integers(1, 6), st.sampled_from([-2.0, 0.0, 0.5, 20.0]), st.floats(-3, 2))
def test_against_fifty_digits(seed, d, gamma, power):
    mpmath = pytest.importorskip("mpmath", reason="mpmath is not installed")
    rng = np.random.default_rng(seed)
    k = int(rng.integers(1, d + 1))
    H = rng.standard_normal((d, d))
    S = rng.standard_normal((k, d))
    Y, g, radius = S @ (H + H.T), rng.standard_normal(d), 10.0**power
    B = mblsr1.LSR1(S, Y, gamma)
    assume(len(B.kept) == k)
    with mpmath.mp.workdps(50):
        p, sigma, change, spread = exact_solution(exact_sr1(S, Y, gamma), g, radius)
    N = np.tril(S @ Y.T) + np.tril(S @ Y.T, -1).T - gamma * S @ S.T
    # N is rounded to eps, so B is off by eps ||Psi||^2 ||N^-1||^2 ||N||, and p by cond(B + sigma I) times that.
    psi = Y - gamma * S
    inverse = np.linalg.norm(np.linalg.inv(N), 2)
    off = 40 * EPS * (np.linalg.norm(psi, 2) * inverse) ** 2 * (np.linalg.norm(S) * np.linalg.norm(psi) + abs(gamma))
    size = float(np.linalg.norm(B.to_dense(), 2)) + sigma
    tolerance = spread * (off / size + 1e-13)
    assume(tolerance < 1e-6)  # the solution is well conditioned
    sol = mblsr1.solve_trust_region(B, g, radius)
    assert np.linalg.norm(sol.p - p) <= tolerance * np.linalg.norm(p)
    assert abs(sol.sigma - sigma) <= tolerance * size
    assert abs(sol.model_change - change) <= tolerance * (abs(change) + size * np.linalg.norm(p) ** 2)


# ---------------------------------------------------------------- numbers near the ends of float64


def exact_diagonal_solution(lam, g, radius, mp):
    """(p, sigma, model change) of a diagonal B, g not zero where it is least: bisection of log(sigma + lam_min)."""
    lam, g, radius = [mp.mpf(x) for x in lam], [mp.mpf(x) for x in g], mp.mpf(radius)
    least = min(lam)

    def step(mu):
        return [-a / (x - least + mu) if a else mp.mpf(0) for x, a in zip(lam, g, strict=True)]

    mu = max(least, mp.mpf(0))
    if mu == 0 or mp.norm(step(mu)) > radius:
        low, high = mp.mpf(2) ** -2500, mp.mpf(2) ** 2500
        while high / low > 1 + mp.mpf(2) ** -60:
            middle = mp.sqrt(low * high)
            low, high = (middle, high) if mp.norm(step(middle)) > radius else (low, middle)
        mu = high
    p, sigma = step(mu), mu - least
    change = sum(a * x + b * x * x / 2 for a, b, x in zip(g, lam, p, strict=True))
    return p, sigma, change


def of_axes(lam, gamma, d):
    """B with exactly these eigenvalues along the first axes, gamma along the others."""
    memory = PairMemory(np.zeros(d), max(1, lam.size))
    for row in np.eye(lam.size, d):
        memory.push(row, row)
        memory.project([])
    T = np.zeros((2 * memory.capacity, lam.size))
    T[2 * np.arange(lam.size), np.arange(lam.size)] = 1.0
    return GivenSpectrum(memory, Spectrum(gamma, lam, T))


@st.composite
def extreme_cases(draw):
    """Curvatures of one sign or both, and 0, up to 1e140 in size; ||g|| and radius from the least to the largest."""
    rng = np.random.default_rng(draw(seeds))
    size = draw(st.sampled_from([1e-140, 1e-10, 1.0, 1e10, 1e140]))
    gamma = draw(st.sampled_from([0.0, 1.0, -1.0])) * size
    lam = size * np.array(draw(st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.5, 3.0]), max_size=3)))
    lam = lam[lam != gamma]
    exponents = st.integers(-1074, 1021)
    g = np.ldexp(rng.uniform(0.5, 1.0, lam.size + 1) * rng.choice([-1.0, 1.0], lam.size + 1), draw(exponents))
    return lam, gamma, g, float(np.ldexp(rng.uniform(0.5, 1.0), draw(exponents)))


@given(extreme_cases())
@example((np.zeros(0), 0.0, np.array([5e-324, 0.0]), 1.0))
@example((np.zeros(0), 0.0, np.array([1e-300, 0.0]), 1e10))
@example((np.zeros(0), 0.0, np.array([1e-200, 1e-200]), 1e200))
@example((np.zeros(0), 0.0, np.array([1e300, 1e300]), 1e-10))
@example((np.zeros(0), -1.0, np.array([1e-300, 0.0]), 1e10))
@example((np.zeros(0), -1.0, np.array([1e300, 1e300]), 1e-10))
@example((np.array([3.0]), 0.0, np.array([-0.8, -0.6]), 1e300))
@example((np.array([0.0, 0.0]), 1e10, np.array([-0.8, -0.6, -0.5]), 0.9))
@example((np.array([3.0]), -1.0, np.array([-0.8, -0.6]), 1e300))
@example((np.array([-2.0e140]), 1e140, np.array([1e-320, -1e-320]), 1e300))
def test_numbers_of_any_size_against_many_digits(case):
    """p has the digits that float64 has at its size; sigma and model change are infinite where they are too large."""
    mpmath = pytest.importorskip("mpmath", reason="mpmath is not installed")
    lam, gamma, g, radius = case
    assume((g != 0.0).any() and radius > 0.0)
    with np.errstate(all="ignore"):
        sol = mblsr1.solve_trust_region(of_axes(lam, gamma, g.size), g, radius)
    values = [*lam, *[gamma] * (g.size - lam.size)]
    with mpmath.mp.workdps(2200):
        p, sigma, change = exact_diagonal_solution(values, g, radius, mpmath.mp)
        p, sigma, change = np.array([float(x) for x in p]), float(sigma), float(change)
    least = 5e-324 * g.size
    assert np.isfinite(sol.p).all()
    assert float(np.abs(sol.p - p).max()) <= 1e-9 * float(np.abs(p).max()) + least
    assert sol.norm == pytest.approx(float(mpmath.norm(p.tolist())), rel=1e-9, abs=least)
    assert sol.sigma == pytest.approx(sigma, rel=1e-9, abs=1e-9 * max(np.abs(values).max(), 0.0) + least)
    assert sol.model_change == pytest.approx(change, rel=1e-9, abs=least)
    assert sol.model_change <= 0.0
    assert sol.slope <= 0.0


@pytest.mark.parametrize("size", [1e-45, 1e-40, 1e-20, 1.0, 1e20, 1e38])
@pytest.mark.parametrize("radius", [1e-37, 1e-20, 1.0, 1e20, 1e37])
@pytest.mark.parametrize("gamma", [0.0, -1.0, 2.0])
def test_float32_numbers_of_any_size(size, radius, gamma):
    """g is an eigenvector beside the leftmost one, of -3: sigma is 3 at least, and p fills the ball."""
    S = np.eye(1, 3, dtype=np.float32)
    g = np.array([0.0, 0.0, size], dtype=np.float32)
    with np.errstate(all="ignore"):
        sol = mblsr1.solve_trust_region(mblsr1.LSR1(S, -3 * S, gamma), g, radius)
    exact = -min(radius, float(g[2]) / (3.0 + gamma))
    assert sol.p[2] == pytest.approx(exact, rel=1e-5, abs=1e-6 * radius)
    assert sol.norm == pytest.approx(radius, rel=1e-5)
    assert sol.p.dtype == np.float32


# ---------------------------------------------------------------- more spectra, float32, hard cases in fifty digits


@given(seeds, st.sampled_from([1e-8, 1e-4, 1.0, 1e4, 1e8]), st.integers(0, 12), st.booleans(), radii)
def test_clustered_spectra(seed, size, digits, negative, radius):
    """Eigenvalues within 10^-digits of each other, of size 1e-8 to 1e8; the cluster is the leftmost or not."""
    rng = np.random.default_rng(seed)
    centre = -size if negative else size
    lam = centre * (1.0 + 10.0**-digits * rng.uniform(-0.5, 0.5, 4))
    gamma = 3.0 * size
    B, _, H = planted(rng, 9, lam, gamma)
    solve_and_check(B, H, rng.standard_normal(9), radius, extra=copy_error(H, [*lam, gamma], gamma))


@given(cases(), radii)
def test_multiplier_and_length_are_monotone_in_the_radius(case, radius):
    """sigma does not grow with the radius, ||p|| does not fall; both to the 1e-12 of the boundary."""
    rng, B, _, H, lam = case
    g = rng.standard_normal(H.shape[0])
    one, other = (mblsr1.solve_trust_region(B, g, r) for r in (radius, 2.0 * radius))
    size = float(np.abs(lam).max()) + abs(B.gamma) + one.sigma
    # sigma = mu - lambda_min is rounded to eps of the larger one; ||p|| to 1e-9 of the radius by the corrections of p.
    assert other.sigma <= one.sigma * (1.0 + 1e-9) + 100.0 * EPS * condition(B) ** 2 * size
    assert one.norm <= other.norm * (1.0 + 1e-8)


@given(seeds, st.integers(0, 6), st.floats(-6, 6), st.sampled_from([0.0, 1.0, -2.0, 6.0]), st.booleans())
def test_float32_over_spectra_and_radii(seed, k, power, gamma, hard):
    """The conditions in single precision. psi are orthogonal with lengths |lam - gamma| in [0.5, 12].

    Pairs and g are rounded to eps = 1.2e-7, so B is off by eps (|lam| + |gamma|)^2 / 0.5 at most, and sums have d = 8
    terms: 100 eps of each size that enters.
    """
    rng, eps, d = np.random.default_rng(seed), float(np.finfo(np.float32).eps), 8
    lam = gamma + rng.choice([-1.0, 1.0], k) * rng.uniform(0.5, 6.0, k)
    V = rotation(rng, d)
    H = gamma * np.eye(d) + (V[:, :k] * (lam - gamma)) @ V[:, :k].T
    a, values = rng.standard_normal(d), np.array([*lam, *[gamma] * (d - k)])
    if hard:
        a[values == values.min()] = 0.0
    g, radius, S = (V @ a).astype(np.float32), 10.0**power, V[:, :k].T
    B = mblsr1.LSR1(S.astype(np.float32), (S @ H).astype(np.float32), gamma)
    sol = mblsr1.solve_trust_region(B, g, radius)
    p, off = sol.p.astype(float), 1000.0 * eps * float(np.abs(values).max() + 1.0)
    g_norm = float(np.linalg.norm(g))
    assert sol.p.dtype == np.float32
    assert values.min() + sol.sigma >= -off
    assert np.linalg.norm(p) <= radius * (1.0 + 100.0 * eps)
    if sol.sigma > off:
        assert np.linalg.norm(p) >= radius * (1.0 - 100.0 * eps)
    scale = 100.0 * eps * (g_norm + sol.sigma * sol.norm) + off * sol.norm
    assert np.linalg.norm(H @ p + sol.sigma * p + g) <= scale
    value, length = cauchy(H, g.astype(float), radius)
    assert float(g @ p + 0.5 * p @ H @ p) <= value + scale * (sol.norm + length)


@given(seeds, st.integers(2, 5), st.integers(3, 14), st.floats(-1, 2))
def test_near_hard_cases_against_fifty_digits(seed, d, digits, power):
    """g with a share 10^-digits in the leftmost eigenspace. The conditions are of the *exact* B of the same pairs.

    p itself is not compared: where its part along w_1 fills the boundary it has the condition number 10^digits. Model
    change and multiplier have not.
    """
    mpmath = pytest.importorskip("mpmath", reason="mpmath is not installed")
    rng = np.random.default_rng(seed)
    lam = np.array([-2.0, *rng.uniform(-1.0, 5.0, d - 1)])
    V, radius = rotation(rng, d), 10.0**power
    a = rng.standard_normal(d)
    a[0] *= 10.0**-digits
    S, g = V.T.copy(), V @ a
    B = mblsr1.LSR1(S, lam[:, None] * S, 8.0)
    assume(len(B.kept) == d)
    with mpmath.mp.workdps(50):
        _, sigma, change, _ = exact_solution(exact_sr1(S, lam[:, None] * S, 8.0), g, radius)
    sol = mblsr1.solve_trust_region(B, g, radius)
    # B is known to some eps (|lam| + gamma)^2 / min |lam - gamma| = 100 eps; d = 5 terms in each product.
    off = 1000.0 * EPS
    assert abs(sol.norm - radius) <= 1e-12 * radius
    assert abs(sol.sigma - sigma) <= off * (1.0 + sigma)
    assert abs(sol.model_change - change) <= off * (radius**2 * (1.0 + sigma) + np.linalg.norm(g) * radius)


@pytest.mark.parametrize("gamma", [3.0, 50.0])
def test_a_gradient_in_the_span_costs_no_further_pass(gamma, monkeypatch):
    """g - P P'g is rounding then; it is made only where ||g|| / (gamma + sigma) is far longer than p.

    p is a sum of terms up to 10 ||p||, so that 64 d eps (||B|| + sigma) ||p|| covers its residual.
    """
    rng = np.random.default_rng(3)
    S = rng.standard_normal((4, 30))
    Y = S * np.linspace(1.0, 6.0, 30)
    B = mblsr1.LSR1(S, Y, gamma=gamma)
    g = rng.standard_normal(4) @ (Y - gamma * S)
    problem = Subproblem(B, g, B.pairs.project([g])[:, 0])
    passes = []
    combine = PairMemory.combine
    monkeypatch.setattr(PairMemory, "combine", lambda self, *a: passes.append(1) or combine(self, *a))
    sol = problem.solve(1e3)
    assert len(passes) == 1
    dense = B.to_dense()
    size = np.linalg.norm(dense, 2) + sol.sigma
    residual = np.linalg.norm(dense @ sol.p + sol.sigma * sol.p + g)
    assert residual <= 64 * 30 * EPS * size * sol.norm * np.linalg.cond(Y - gamma * S)
    tiny = mblsr1.LSR1(S, Y, gamma=1e-9)
    tiny = Subproblem(tiny, Y.T @ np.ones(4), tiny.pairs.project([Y.T @ np.ones(4)])[:, 0])
    passes.clear()
    tiny.solve(1e3)  # ||g|| / gamma is 1e9 ||p||: its digits would be gone
    assert len(passes) > 1


# ---------------------------------------------------------------- corrections of p, and the corners of the solver


def subproblem(B, g):
    return Subproblem(B, g, B.pairs.project([g])[:, 0])


def residual(B, g, sol):
    return float(np.linalg.norm(B @ sol.p + sol.sigma * sol.p + g))


#: Spectrum on span(P), gamma, share of the leftmost part of g, radius, and whether the solution is on the boundary.
CORRECTED = {
    "boundary": ([4.0, 2.0], 1.0, 1.0, 0.5, True),
    "indefinite": ([-3.0, 2.0], 1.0, 1.0, 0.5, True),
    "leftmost is gamma": ([2.0, 5.0], -3.0, 1.0, 0.5, True),
    "far away": ([-3.0, 2.0], 1.0, 1.0, 100.0, True),
    "interior": ([4.0, 2.0], 1.0, 1.0, 100.0, False),
    "hard": ([2.0, 5.0], -3.0, 0.0, 2.0, True),
}


@pytest.mark.parametrize("kind", CORRECTED)
@pytest.mark.parametrize("seed", range(5))
def test_a_correction_is_a_newton_step(kind, seed):
    """p off by t ||p|| in every direction and sigma off by t: what is left is of the size t^2.

    In the hard case B + sigma I is zero off span(P): p is moved in span(P) and along itself alone, sigma not at all.
    """
    lam, gamma, leftmost, radius, on_boundary = CORRECTED[kind]
    rng = np.random.default_rng(seed)
    B, V, _H = planted(rng, 8, lam, gamma)
    a = 1.0 + rng.uniform(0.0, 1.0, 8)
    a[np.array([*lam, *[gamma] * 6]) == min(*lam, gamma)] *= leftmost
    g = V @ a
    problem, exact = subproblem(B, g), mblsr1.solve_trust_region(B, g, radius)
    assert exact.on_boundary == on_boundary
    move = rng.standard_normal(8)
    if kind == "hard":
        move = V[:, :2] @ move[:2] + exact.p / exact.norm
    for t in (1e-3, 1e-5):
        p = exact.p + t * exact.norm * move / np.linalg.norm(move)
        sigma = exact.sigma + (t if on_boundary and kind != "hard" else 0.0)
        off = exact._replace(p=p, norm=float(np.linalg.norm(p)), sigma=sigma)
        found = problem._corrected(off, *problem._residual(off), radius)
        # The Newton step of a bordered system with entries of size 10 whose smallest singular value is over 1e-2
        # (p has a share of 1e-2 at least off the leftmost eigenvector where it is "far away").
        assert np.linalg.norm(found.p - exact.p) <= 1e3 * (t * t + EPS) * exact.norm
        assert abs(found.sigma - exact.sigma) <= 1e3 * (t * t + 10.0 * EPS)
        assert found.norm == pytest.approx(np.linalg.norm(found.p), rel=1e-14)


#: gamma, shift of the Hessian, radius: an interior solution; the boundary with a large multiplier and with a small one.
ROUNDED = {"interior": (30.0, 20.0, 1e3), "large sigma": (-10.0, 0.0, 0.1), "small sigma": (30.0, 20.0, None)}


def ill_conditioned(seed, kind):
    """Nearly parallel steps on a quadratic, cond(Psi) about 1e4; a radius of 0.99 ||B^-1 g|| makes sigma small."""
    gamma, shift, radius = ROUNDED[kind]
    rng = np.random.default_rng(seed)
    H = rng.standard_normal((40, 40))
    H = 0.5 * (H + H.T) + shift * np.eye(40)
    S = rng.standard_normal(40) + 1e-4 * rng.standard_normal((6, 40))
    B, g = mblsr1.LSR1(S, S @ H, gamma), rng.standard_normal(40)
    return B, g, 0.99 * subproblem(B, g).solve(1e3).norm if radius is None else radius


@pytest.mark.parametrize("kind", ROUNDED)
def test_corrections_bring_the_residual_down_and_never_up(kind):
    """From eps cond(Psi)^2 towards eps cond(Psi) with cond(Psi) = 4e4: by a factor of 1e3 at least in the mean."""
    gains = []
    for seed in range(20):
        B, g, radius = ill_conditioned(seed, kind)
        problem = subproblem(B, g)
        first = problem.solve(radius)
        refined = problem.refine(first, radius)
        assert refined.on_boundary == (kind != "interior")
        assert (refined.sigma < 1.0) == (kind != "large sigma")
        before, after = (residual(B, g, sol) for sol in (first, refined))
        assert after <= before
        assert refined.norm <= radius * (1.0 + 1e-9)
        assert not refined.on_boundary or refined.norm >= radius * (1.0 - 1e-9)
        gains.append(math.log(before / after))
    assert np.mean(gains) >= math.log(1e3)


@pytest.mark.parametrize("kind", ROUNDED)
@pytest.mark.parametrize("scale", [2.0**-60, 2.0**60])
def test_corrections_have_no_unit_of_their_own(kind, scale):
    """p scales with (g, radius) where it is corrected, too; powers of two round nothing."""
    for seed in range(5):
        B, g, radius = ill_conditioned(seed, kind)
        one, other = mblsr1.solve_trust_region(B, g, radius), mblsr1.solve_trust_region(B, scale * g, scale * radius)
        assert other.sigma == pytest.approx(one.sigma, rel=1e-14)
        np.testing.assert_allclose(other.p / scale, one.p, rtol=0, atol=1e-14 * one.norm)


def test_what_needs_no_correction_is_handed_back_as_it_is():
    B, V, _H = planted(np.random.default_rng(0), 8, [-3.0, 2.0], 1.0)
    problem = subproblem(B, V @ np.ones(8))
    for radius in (0.1, 1.0, 10.0):
        sol = problem.solve(radius)
        assert problem.refine(sol, radius) is sol


@pytest.mark.parametrize("share", [0.5, 1.2**-2, 1.0 - 1e-9, 1.0 + 1e-9, 1.3**2, 4.0])
def test_hard_case_around_the_radius(share):
    """g off the leftmost eigenvector: the rest of p fills a share of the radius, or more than it (then it is easy)."""
    B, V, H = planted(np.random.default_rng(1), 6, [-3.0, 2.0, 5.0], 1.0)
    g = V @ np.array([0.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    rest = np.linalg.norm([1 / 5, 1 / 8, 1 / 4])
    sol = solve_and_check(B, H, g, rest / math.sqrt(share), extra=copy_error(H, [-3.0, 2.0, 5.0, 1.0], 1.0))
    assert sol.on_boundary
    assert sol.hard_case == (share < 1.0)


@pytest.mark.parametrize("radius", [10.0, 0.1])
def test_singular_with_g_in_the_range_is_no_hard_case(radius):
    """lambda_min = 0 and g off its eigenspace: the shortest minimiser, on the boundary only where it is too long."""
    B = mblsr1.LSR1(np.eye(2, 4), np.diag([2.0, 4.0, 0.0, 0.0])[:2], 0.0)
    sol = mblsr1.solve_trust_region(B, np.array([2.0, 4.0, 0.0, 0.0]), radius)
    assert (sol.on_boundary, sol.hard_case) == (radius < 1.0, False)
    if radius > 1.0:
        np.testing.assert_array_equal(sol.p, [-1.0, -1.0, 0.0, 0.0])
        assert sol.sigma == 0.0


@pytest.mark.parametrize("radius", [0.5, 50.0])
def test_a_gradient_in_the_span_of_the_pairs_gives_a_step_in_it(radius):
    """What rounding leaves of g outside the span is no direction, however small the curvature is there."""
    rng = np.random.default_rng(2)
    B, V, _H = planted(rng, 9, [1.0, 3.0], 1e-12)
    for _ in range(20):
        g = V[:, :2] @ rng.standard_normal(2)
        sol = mblsr1.solve_trust_region(B, g, radius)
        # the basis is known to some eps, and d = 9 terms are added
        assert np.linalg.norm(V[:, 2:].T @ sol.p) <= 40.0 * EPS * sol.norm


def test_of_eigenvalues_that_rounding_cannot_tell_apart_the_hard_case_takes_the_least():
    B = of_axes(np.array([1e-15, -5e-16]), 1.0, 3)
    sol = mblsr1.solve_trust_region(B, np.array([0.0, 0.0, 1e-3]), 1.0)
    assert sol.hard_case
    assert abs(sol.p[1]) == pytest.approx(1.0, rel=1e-6)
    assert sol.p[0] == 0.0


def test_the_direction_of_the_hard_case_is_the_same_each_time():
    B = mblsr1.LSR1(np.eye(2, 6), 3.0 * np.eye(2, 6), -1.0)
    one, other = (mblsr1.solve_trust_region(B, np.eye(6)[0], 2.0) for _ in range(2))
    assert one.hard_case
    np.testing.assert_array_equal(one.p, other.p)


def test_where_the_rest_fills_the_ball_exactly_nothing_is_added():
    """x = -1/3 along e_1 and a radius of 1/3: the multiplier is -lambda_min, and 0/0 stands for no part."""
    B = mblsr1.LSR1(np.eye(1, 3), 2.0 * np.eye(1, 3), -1.0)
    sol = subproblem(B, np.eye(3)[0]).solve(1.0 / 3.0)
    np.testing.assert_array_equal(sol.p, [-1.0 / 3.0, 0.0, 0.0])
    assert (sol.sigma, sol.on_boundary, sol.hard_case) == (1.0, True, False)


@pytest.mark.parametrize("scale", [2.0**-20, 1.0, 2.0**20])
@pytest.mark.parametrize("kind", ["large sigma", "small sigma"])
def test_in_a_run_the_step_ends_on_the_boundary_whatever_the_pairs_are(kind, scale):
    """To 1e-12, though the basis is orthonormal to eps cond(Psi)^2 = 1e-7 only."""
    for seed in range(20):
        B, g, radius = ill_conditioned(seed, kind)
        sol = subproblem(B, scale * g).solve(scale * radius)
        assert sol.on_boundary
        # d = 40 squares are added in ||p||, here and there
        assert abs(np.linalg.norm(sol.p) - scale * radius) <= (1e-12 + 40.0 * EPS) * scale * radius


@pytest.mark.parametrize("lam", [[1e6], [1e6, 2e6]])
@pytest.mark.parametrize("share", [2e-3, 1e-2, 0.1])
def test_the_length_is_known_where_the_parts_of_the_step_cancel(lam, share):
    """Curvature 1e6 along the pairs, where g mostly is, and 1 elsewhere: p is a small part of a multiple of g."""
    for seed in range(10):
        B, V, _H = planted(np.random.default_rng(seed), 12, lam, 1.0)
        g = V @ np.array([*[1.0] * len(lam), *[share / math.sqrt(10.0)] * (12 - len(lam))])
        for radius in (share / 2.0, 10.0):
            sol = subproblem(B, g).solve(radius)
            assert sol.norm == pytest.approx(np.linalg.norm(sol.p), rel=2e-12, abs=0.0)


@pytest.mark.parametrize("radius", [4e-309, 3e-309, 1e-310, 5e-324])
def test_a_radius_beside_which_the_gradient_is_infinite(radius):
    """||g|| / radius is near the largest number or over it: the multiplier overflows, the step stays in the ball."""
    B = mblsr1.LSR1(np.eye(3, 4), np.diag([1.0, 2.0, 3.0, 0.0])[:3], 0.5)
    with np.errstate(all="ignore"):
        sol = mblsr1.solve_trust_region(B, np.full(4, 0.5), radius)
    assert np.isfinite(sol.p).all()
    assert np.abs(sol.p).max() <= radius
    assert not sol.model_change > 0.0  # nan where p = 0 is all that is left
