"""MB-LSR1 and L-SSR1-TR follow the literal transcription of Algorithms 1-6, step for step.

Why 1e-10 is meaningful. Two correct programs differ by rounding, and the method may amplify that without bound: nearly
parallel steps make Psi ill-conditioned, and printed momentum (v = mu v + s, s = p* + mu v, so v grows by 1.8 a step
at mu = 0.9) is unstable up to the radius. `problems.wells` without momentum does not: its batches' Hessians have
eigenvalues from about 0 to 0.7, under gamma = 1, so that every SR1 denominator is safely negative; and the batch noise
makes the psi of three pairs in twelve dimensions far from parallel. A step's own error is then about eps times a modest
condition number and is damped: 1e-10 leaves three digits for the 50 steps.

With momentum, and where pairs come from gradient differences over sqrt(eps), the amplification is measured instead: the
reference runs a second time with its steps disturbed by 1e-13, and the tolerance is 1e-10 plus 100 times the largest
distance of those two runs so far. (A step of the package errs by up to eps cond(Psi)^2, with cond near 100 here.)
Comparison ends where that distance passes 1e-6, so the tolerance never passes 1e-4; a wrong line shows at once.
"""

import itertools

import numpy as np
import problems
import pytest
import reference

import mblsr1

STEPS = 50
SEED = 7
SHIFT = 1e-13
SAFETY = 100.0
PREDICTABLE = 1e-6
WELLS, NETWORK = problems.wells(), problems.network()

COMMON = {"memory": 3, "check_every": 3, "gtol": 1e-7}
RESTARTS = [None, 0, 3]
RADII = [1e-4, 1e-1, 1.0]


def parameters(o, n):
    """The paper's symbols for an Options."""
    changes = {}
    if not callable(o.check_size):
        changes["n_hat"] = lambda n_b: n if o.check_size == "all" else o.check_size
    return reference.Parameters(
        m=o.memory, m_hat=-1 if o.restart_memory is None else o.restart_memory, tau=o.restart_tolerance,
        n=o.batch_size, delta=o.initial_radius, zeta=o.ratio_memory, K=o.check_every, gamma_1=o.progress_decrease,
        gamma_2=o.progress_fraction, eta=o.sgd_weight, alpha_s=o.learning_rate, mu=o.momentum,
        xi=o.descent_tolerance, c_1=o.armijo, mixing=o.mixing, ratio=o.ratio, skip=o.skip_tolerance,
        epsilon=o.gtol, **changes,
    )  # fmt: skip


def literal(problem, o, hvp, rounding=lambda s: s, of=reference.MBLSR1):
    if problem.n is None:
        fun, grad, n = lambda w, batch: problem.fun(w), lambda w, batch: problem.grad(w), 1
        hvp = None if hvp is None else lambda w, v, batch: problem.hvp(w, v)
    else:
        fun, grad, n = problem.fun, problem.grad, problem.n
    rng = np.random.default_rng(SEED)
    return of(fun, grad, problem.w0, n, parameters(o, n), rng, hvp, rounding).run(STEPS)


def follow(problem, o, *, measured=False, with_hvp=True, at_least=STEPS, of=reference.MBLSR1):
    """Compare a run of the package with the literal one; return the literal records that were compared."""
    hvp = problem.hvp if with_hvp else None
    expected = literal(problem, o, hvp, of=of)
    run = mblsr1.iterate(
        problem.fun, problem.grad, problem.w0, problem.n, options=o, rng=SEED, max_steps=STEPS, hvp=hvp
    )
    steps = list(run)
    apart, apart_rho = np.zeros(len(expected)), np.zeros(len(expected))
    if measured:
        noise = np.random.default_rng(1)
        twin = literal(problem, o, hvp, lambda s: s * (1.0 + SHIFT * noise.uniform(-1.0, 1.0, s.size)), of)
        pairs = list(zip(expected, twin, strict=False))
        apart = np.maximum.accumulate([np.abs(a["w"] - b["w"]).max() for a, b in pairs])
        apart_rho = np.maximum.accumulate([abs(a["rho_hat"] - b["rho_hat"]) for a, b in pairs])
        usable = int(np.searchsorted(apart, PREDICTABLE))
        expected, steps = expected[:usable], steps[:usable]
    assert len(steps) == len(expected) >= at_least
    error = rounding = 0.0
    for k, (step, r) in enumerate(zip(steps, expected, strict=True)):
        where = f"step {k + 1}"
        scale = max(1.0, np.linalg.norm(r["w"]))
        assert np.abs(step.x - r["w"]).max() <= (1e-10 + SAFETY * apart[k]) * scale, where
        error = max(error, np.linalg.norm(step.x - r["w"]))
        # The radius may have been ||s||, the distance of two iterates.
        assert step.radius == pytest.approx(r["radius"], rel=1e-10, abs=2.0 * error + SAFETY * apart[k]), where
        assert (step.n_restarts, step.n_pairs) == (r["n_restarts"], r["n_pairs"]), where
        assert step.batch_size == (1 if problem.n is None else r["batch_size"]), where
        assert (step.alpha, bool(step.flipped)) == (r["alpha"], r["flipped"]), where
        # R is a difference of losses, each of which errs by a few eps |f| and by |g'(error in w)|; rho divides it by
        # Q, and a mean of ratios errs by no more than the worst of them.
        if np.isfinite(r["rho"]):
            loss_error = 16.0 * reference.EPS * abs(r["f"]) + 2.0 * error * step.grad_norm
            rounding = max(rounding, loss_error / abs(r["Q"]))
        tolerance = 1e-10 + rounding + SAFETY * apart_rho[k]
        assert step.rho_hat == pytest.approx(r["rho_hat"], rel=1e-10, abs=tolerance, nan_ok=True), where
    return expected


@pytest.mark.parametrize("batch_size", [12, 60])
@pytest.mark.parametrize("ratio", ["of-means", "mean-of-ratios"])
@pytest.mark.parametrize("sgd_weight", [0.0, 0.1])
@pytest.mark.parametrize("restart_memory", RESTARTS)
@pytest.mark.parametrize("radius", RADII)
def test_paper_without_momentum(radius, restart_memory, sgd_weight, ratio, batch_size):
    o = mblsr1.Options.paper(
        **COMMON, initial_radius=radius, restart_memory=restart_memory, restart_tolerance=1.1, momentum=0.0,
        sgd_weight=sgd_weight, mixing="convex", ratio=ratio, batch_size=batch_size,
    )  # fmt: skip
    records = follow(WELLS, o, at_least=15)
    assert records[-1]["batch_size"] == 60  # Algorithm 6 has been through, where the batch was a sample
    if restart_memory is not None:
        assert records[-1]["n_restarts"] > 1


@pytest.mark.parametrize("ratio", ["of-means", "mean-of-ratios"])
@pytest.mark.parametrize("batch_size", [7, 12, 60])
@pytest.mark.parametrize("radius", RADII)
def test_l_ssr1_tr(radius, batch_size, ratio):
    o = mblsr1.Options.l_ssr1_tr(
        **COMMON, initial_radius=radius, batch_size=batch_size, momentum=0.0, mixing="convex", ratio=ratio
    )
    follow(WELLS, o, at_least=15)


@pytest.mark.parametrize("batch_size", [7, 12, 60])
@pytest.mark.parametrize("radius", RADII)
def test_l_ssr1_tr_as_a_method_of_its_own(radius, batch_size):
    """The special case m_hat = -1, gamma_2 = eta = zeta = 0, n_hat = N is L-SSR1-TR, which knows none of these.

    With zeta = 0 both ratios are R / Q; "of-means" reports it unclipped (reading 14).
    """
    o = mblsr1.Options.l_ssr1_tr(**COMMON, initial_radius=radius, batch_size=batch_size, momentum=0.0, ratio="of-means")
    assert (o.restart_memory, o.progress_fraction, o.sgd_weight, o.ratio_memory) == (None, 0.0, 0.0, 0.0)
    assert o.check_size == "all"
    records = follow(WELLS, o, at_least=15, of=reference.LSSR1TR)
    assert records[-1]["batch_size"] == 60


@pytest.mark.parametrize("batch_size", [12, 60])
@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("problem", [WELLS, NETWORK], ids=["wells", "network"])
def test_l_ssr1_tr_as_a_method_of_its_own_with_momentum(problem, radius, batch_size):
    o = mblsr1.Options.l_ssr1_tr(**COMMON, initial_radius=radius, batch_size=batch_size, ratio="of-means")
    assert o.momentum == 0.9
    follow(problem, o, measured=True, at_least=20, of=reference.LSSR1TR)


@pytest.mark.parametrize("restart_memory", RESTARTS)
@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("preset", [mblsr1.Options.paper, mblsr1.Options.l_ssr1_tr])
def test_without_a_sampler(preset, radius, restart_memory):
    o = preset(
        **COMMON, initial_radius=radius, restart_memory=restart_memory, restart_tolerance=1.1, momentum=0.0,
        sgd_weight=0.1, mixing="convex",
    )  # fmt: skip
    follow(WELLS.whole(), o, at_least=15)


@pytest.mark.parametrize(
    "changes",
    [
        {"descent_tolerance": 1e-3, "initial_radius": 1e-4},  # restarts and gradient steps until radius > xi
        {"skip_tolerance": 0.6, "initial_radius": 1.0},  # most pairs are refused
        {"restart_memory": 2, "restart_tolerance": 1.1, "initial_radius": 0.1},  # 0 < m_hat < m (reading 12)
        {"memory": 0, "restart_memory": 0, "initial_radius": 0.1},
        {"memory": 1, "restart_memory": None, "initial_radius": 0.1},
        {"ratio_memory": 0.5, "ratio": "of-means", "initial_radius": 0.1},
        {"ratio_memory": 0.5, "ratio": "mean-of-ratios", "initial_radius": 0.1},
        {"progress_decrease": 0.5, "progress_fraction": 0.0, "initial_radius": 0.1},
        {"check_size": 5, "check_every": 2, "initial_radius": 1.0},
        {"sgd_weight": 1.0, "initial_radius": 1.0},  # SGD in a radius
        {"steps_per_batch": 1, "armijo": 0.4, "initial_radius": 1.0},  # the line search cuts
    ],
    ids=",".join,
)
def test_single_options(changes):
    o = mblsr1.Options.paper(**{**COMMON, "momentum": 0.0, "mixing": "convex", "batch_size": 12, **changes})
    follow(WELLS, o, at_least=15)


@pytest.mark.parametrize("batch_size", [12, 60])
@pytest.mark.parametrize(("sgd_weight", "mixing"), [(0.0, "printed"), (0.1, "printed"), (0.1, "convex")])
@pytest.mark.parametrize("restart_memory", [None, 0])
@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("problem", [WELLS, NETWORK], ids=["wells", "network"])
def test_paper_with_momentum(problem, radius, restart_memory, sgd_weight, mixing, batch_size):
    o = mblsr1.Options.paper(
        **COMMON, initial_radius=radius, restart_memory=restart_memory, sgd_weight=sgd_weight, mixing=mixing,
        batch_size=batch_size,
    )  # fmt: skip
    assert o.momentum == 0.9
    follow(problem, o, measured=True, at_least=20)


def test_a_restart_forgets_the_momentum():
    """xi = 0.6 asks for an angle under 53 degrees with -g: p fails it because of v, and p* alone passes."""
    o = mblsr1.Options.paper(
        **COMMON, initial_radius=3.0, restart_memory=None, sgd_weight=0.0, descent_tolerance=0.6, batch_size=12
    )
    records = follow(WELLS, o, measured=True, at_least=15)
    assert records[-1]["n_restarts"] > 0
    assert any(not after["steepest"] and after["restarted"] for after in records)


@pytest.mark.parametrize("batch_size", [12, 60])
@pytest.mark.parametrize("radius", RADII)
def test_a_nonconvex_network_without_momentum(radius, batch_size):
    o = mblsr1.Options.l_ssr1_tr(**COMMON, initial_radius=radius, batch_size=batch_size, momentum=0.0)
    follow(NETWORK, o, measured=True, at_least=20)


@pytest.mark.parametrize("batch_size", [12, 60])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_warm_start_from_gradient_differences(momentum, batch_size):
    o = mblsr1.Options.paper(
        **COMMON, initial_radius=0.1, restart_memory=3, restart_tolerance=1.1, sgd_weight=0.0, momentum=momentum,
        batch_size=batch_size,
    )  # fmt: skip
    records = follow(WELLS, o, measured=True, with_hvp=False, at_least=5)
    assert records[-1]["n_restarts"] > 0


def test_the_settings_reach_every_branch_of_the_algorithms():
    """The comparisons above would miss a branch that no run takes."""
    seen = set()
    for problem, radius, mixing in [(NETWORK, 1.0, "printed"), (WELLS, 1.0, "convex"), (NETWORK, 0.1, "printed")]:
        o = mblsr1.Options.paper(**COMMON, initial_radius=radius, mixing=mixing, batch_size=12, restart_memory=0)
        records = literal(problem, o, None)
        for before, after in itertools.pairwise(records):
            seen.add("flipped" if after["flipped"] else "not flipped")
            seen.add("cut" if after["alpha"] < 1.0 else "full step")
            seen.add("grew" if after["radius"] > before["radius"] else "not grew")
            seen.add("shrank" if after["radius"] < before["radius"] else "not shrank")
            seen.add("restarted" if after["n_restarts"] > before["n_restarts"] else "kept")
            seen.add("batch grew" if after["batch_size"] > before["batch_size"] else "batch stays")
    assert seen >= {"flipped", "cut", "full step", "grew", "shrank", "restarted", "kept", "batch grew", "batch stays"}
