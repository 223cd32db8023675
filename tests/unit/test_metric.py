"""Metrics: C^-1 and C^-T, what is learnt from gradients against a literal recursion, how pairs follow, bad input."""

import importlib
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mblsr1
from mblsr1 import Options, _array
from mblsr1.linalg.metric import Kronecker, KroneckerSettings
from mblsr1.linalg.pairs import PairMemory
from mblsr1.rules.metric import checked_shapes

EPS = float(np.finfo(np.float64).eps)
SETTINGS = KroneckerSettings(exponent=0.25, memory=0.8, every=3, floor=1e-2, largest_side=1024, stride=1)
#: Everything a net has: a matrix, a convolution's kernel, vectors, a number, single rows and columns.
SHAPES = [(3, 4), (2, 3, 2, 2), (5,), (1,), (1, 6), (6, 1), (1, 1), (2, 1, 3)]
LENGTH = sum(math.prod(shape) for shape in SHAPES)
seeds = st.integers(0, 2**32 - 1)


def none(like):
    """A memory without pairs."""
    return PairMemory(like, 0)


def taught(xp, shapes=SHAPES, count=7, settings=SETTINGS, seed=0):
    """A metric after `count` gradients, and the gradients in float64."""
    rng, length = np.random.default_rng(seed), sum(math.prod(s) for s in shapes)
    like = xp(np.zeros(length))
    metric = Kronecker(like, [tuple(s) for s in shapes], settings)
    gradients = rng.standard_normal((count, length)) * np.geomspace(0.1, 10.0, length)
    for g in gradients:
        metric.observe(xp(g), none(like))
    return metric, gradients


def dense_inverse(metric, length):
    """C^-1 as a matrix."""
    return np.array([metric.of_gradient(e) for e in np.eye(length)]).T


# --- the two maps ----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 20])
def test_the_two_maps_are_adjoint(xp, count):
    """g'(C^-T x) = (C^-1 g)'x in every library, to the rounding of three products of at most 12 terms: 60 eps."""
    metric, _ = taught(xp, count=count)
    rng = np.random.default_rng(1)
    for _ in range(5):
        g, x = (xp(rng.standard_normal(LENGTH)) for _ in range(2))
        left, right = (xp.to_numpy(v).astype(float) for v in (metric.to_step(x), metric.of_gradient(g)))
        for v in (metric.to_step(x), metric.of_gradient(g)):
            assert xp.is_kind(v)
            assert tuple(v.shape) == (LENGTH,)
        g, x = xp.to_numpy(g).astype(float), xp.to_numpy(x).astype(float)
        size = np.linalg.norm(g) * np.linalg.norm(left) + np.linalg.norm(x) * np.linalg.norm(right)
        assert abs(g @ left - x @ right) <= 60.0 * xp.eps * size


def test_every_library_learns_the_same_metric(xp):
    """M = C C' does not know the signs of eigenvectors. Their gaps amplify rounding, by 1e3 here."""
    shapes = [(3, 3), (4,), (1, 2)]
    here, there = (taught(kind, shapes, count=20)[0] for kind in (np.asarray, xp))
    length = 15
    columns = [xp.to_numpy(there.of_gradient(xp(e))).astype(float) for e in np.eye(length)]
    of_here, of_there = dense_inverse(here, length), np.array(columns).T
    np.testing.assert_allclose(of_there.T @ of_there, of_here.T @ of_here, rtol=0, atol=1e4 * xp.eps)


# --- what is learnt --------------------------------------------------------------------------------


def mean_of(old, new, memory):
    return new if old is None else memory * old + (1.0 - memory) * new


def basis(mean, used):
    return np.linalg.eigh(mean)[1] if used else np.eye(len(mean))


class Literal:
    """One block as the docstring has it, dense, with the identity where a side has no basis."""

    def __init__(self, shape, largest_side):
        rows = shape[0] if len(shape) > 1 else 1
        self.shape = rows, math.prod(shape) // rows
        self.turns = [len(shape) > 1 and 1 < n <= largest_side for n in self.shape]
        self.of_rows = self.of_columns = self.squares = None
        self.L, self.R = np.eye(self.shape[0]), np.eye(self.shape[1])

    def observe(self, g, memory):
        G = g.reshape(self.shape)
        self.of_rows = mean_of(self.of_rows, G @ G.T, memory)
        self.of_columns = mean_of(self.of_columns, G.T @ G, memory)
        self.squares = mean_of(self.squares, (self.L.T @ G @ self.R) ** 2, memory)

    def follow(self):
        L, R = basis(self.of_rows, self.turns[0]), basis(self.of_columns, self.turns[1])
        self.squares = (L.T @ self.L) ** 2 @ self.squares @ (self.R.T @ R) ** 2
        self.L, self.R = L, R

    def diagonal(self, settings):
        """Of M, in the bases, before it is scaled."""
        return (self.squares + settings.floor * self.squares.mean()).ravel() ** (2.0 * settings.exponent)

    def metric(self, settings):
        Q = np.kron(self.L, self.R)
        return (Q * self.diagonal(settings)) @ Q.T


def literal(shapes, settings, gradients):
    """M after these gradients, as a dense matrix."""
    blocks = [Literal(shape, settings.largest_side) for shape in shapes]
    ends = np.cumsum([math.prod(b.shape) for b in blocks])[:-1]
    M = None
    for t, g in enumerate(gradients):
        if t < 8 or t % settings.stride == 0:
            for block, part in zip(blocks, np.split(g, ends), strict=True):
                block.observe(part, settings.memory if t < 8 else settings.memory**settings.stride)
        if (t + 1) % settings.every == 0 or t + 1 in (1, 2, 4, 8, 16, 32)[: int(np.log2(settings.every)) + 1]:
            for block in blocks:
                block.follow()
            M = direct_sum([block.metric(settings) for block in blocks])
    return M / M.diagonal().mean()


def direct_sum(matrices):
    n = sum(len(m) for m in matrices)
    out, start = np.zeros((n, n)), 0
    for m in matrices:
        out[start : start + len(m), start : start + len(m)] = m
        start += len(m)
    return out


square_shapes = st.lists(st.sampled_from([(3, 3), (2, 2), (4,), (1,), (1, 3), (2, 1, 2)]), min_size=1, max_size=4)


@given(
    square_shapes, st.integers(1, 40), st.sampled_from([0.0, 0.25, 0.4, 0.5]), st.sampled_from([1e-2, 0.3]),
    st.integers(1, 9), st.integers(1, 5), st.sampled_from([2, 1024]), seeds,
)  # fmt: skip
def test_m_is_the_literal_one(shapes, count, exponent, floor, every, stride, largest_side, seed):
    """C C' from the two maps against bases and mean squares by the letter.

    Square blocks have eigenvectors that are determined. cond(M) <= (n (1 + 1/floor)) <= 1e3 a block; gradients are of
    one size. Gaps of 1e-4 in the eigenvalues amplify rounding: 1e-8.
    """
    settings = KroneckerSettings(exponent, 0.8, every, floor, largest_side, stride)
    rng = np.random.default_rng(seed)
    length = sum(math.prod(s) for s in shapes)
    metric = Kronecker(np.zeros(length), shapes, settings)
    gradients = rng.standard_normal((count, length))
    for g in gradients:
        metric.observe(g, none(g))
    inverse = dense_inverse(metric, length)
    M = np.linalg.inv(inverse.T @ inverse)
    np.testing.assert_allclose(M, literal(shapes, settings, gradients), rtol=0, atol=1e-8 * np.linalg.norm(M, 2))
    assert M.diagonal().mean() == pytest.approx(1.0, rel=1e-8)
    if exponent == 0.0:  # rotations alone
        np.testing.assert_allclose(M, np.eye(length), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shapes", [SHAPES, [(LENGTH,)], [(LENGTH, 1)], [(1, LENGTH)]])
def test_the_mean_diagonal_is_one(shapes):
    """Of M, in the basis or out of it: the trace does not know."""
    for count in (1, 2, 9, 40):
        metric, _ = taught(np.asarray, shapes, count)
        inverse = dense_inverse(metric, LENGTH)
        M = np.linalg.inv(inverse.T @ inverse)
        assert np.trace(M) == pytest.approx(LENGTH, rel=1e-9)


def test_a_vector_has_a_diagonal_and_a_long_side_no_basis():
    settings = SETTINGS._replace(largest_side=3)
    for shapes, dense in (([(6,)], 0), ([(1, 6)], 0), ([(6, 1)], 0), ([(4, 5)], 0), ([(3, 4)], 3)):
        length = math.prod(shapes[0])
        metric, _ = taught(np.asarray, shapes, 5, settings)
        assert (metric.blocks[0].of_rows is not None) is (dense > 0)
        assert metric.blocks[0].of_columns is None
        M = dense_inverse(metric, length)
        assert bool(np.count_nonzero(np.abs(M.T @ M) > 1e-14) == length) is (dense == 0)


def test_diagonal_is_the_kronecker_metric_of_one_vector():
    rng = np.random.default_rng(0)
    one, other = mblsr1.metric.diagonal(every=2)(np.zeros(6)), mblsr1.metric.kronecker([6], every=2)(np.zeros(6))
    for g in rng.standard_normal((7, 6)):
        one.observe(g, none(g))
        other.observe(g, none(g))
    np.testing.assert_array_equal(one.of_gradient(g), other.of_gradient(g))
    np.testing.assert_array_equal(one.of_gradient(g), one.to_step(g))


@pytest.mark.parametrize("exponent", [0.25, 0.5])
def test_the_unit_of_the_gradients_does_not_matter(exponent):
    """Times a power of four: the fourth root of the square is exact."""
    settings = SETTINGS._replace(exponent=exponent)
    for c in (4.0**-100, 4.0**-8, 4.0**30):
        metric, gradients = taught(np.asarray, settings=settings)
        scaled = Kronecker(np.zeros(LENGTH), SHAPES, settings)
        for g in gradients:
            scaled.observe(c * g, none(g))
        here, there = (dense_inverse(m, LENGTH) for m in (metric, scaled))
        np.testing.assert_allclose(there.T @ there, here.T @ here, rtol=0, atol=1e-8 * np.linalg.norm(here) ** 2)


# --- zero, huge and tiny gradients -----------------------------------------------------------------


def test_without_gradients_m_is_the_identity(xp):
    like = xp(np.zeros(LENGTH))
    metric = Kronecker(like, SHAPES, SETTINGS)
    for _ in range(4):
        metric.observe(like, none(like))
    x = np.random.default_rng(0).standard_normal(LENGTH)
    np.testing.assert_array_equal(
        np.sort(np.abs(xp.to_numpy(metric.of_gradient(xp(x))))), np.sort(np.abs(x)).astype(xp.dtype)
    )


@pytest.mark.parametrize("floor", [0.0, 1e-2])
def test_a_block_without_gradients_keeps_the_identity(floor):
    settings = SETTINGS._replace(floor=floor)
    metric = Kronecker(np.zeros(9), [(2, 3), (3,)], settings)
    rng = np.random.default_rng(0)
    for _ in range(7):
        g = np.concatenate([rng.standard_normal(6), np.zeros(3)])
        metric.observe(g, none(g))
    np.testing.assert_array_equal(dense_inverse(metric, 9)[6:, 6:], np.eye(3))


@pytest.mark.parametrize("big", [1e154, 1e155, 1e300])
def test_a_gradient_whose_squares_cannot_be_added_up_counts_as_zero(big):
    """At 1e154 a square is 1e308: the sum of two of them overflows."""
    rng = np.random.default_rng(0)
    first, last = 1e-3 * rng.standard_normal((2, LENGTH))
    metrics = []
    for middle in (np.full(LENGTH, big), np.zeros(LENGTH)):
        metrics.append(Kronecker(np.zeros(LENGTH), SHAPES, SETTINGS))
        with np.errstate(over="ignore"):
            for g in (first, middle, last):
                metrics[-1].observe(g, none(g))
    there, here = (dense_inverse(metric, LENGTH) for metric in metrics)
    assert np.isfinite(there).all()
    np.testing.assert_array_equal(there, here)


@pytest.mark.parametrize("size", ["overflow", "square overflows", "square vanishes", "denormal", "uneven"])
def test_no_gradient_makes_the_metric_other_than_finite(xp, size):
    """A gradient whose square overflows counts as zero: the means stay, and sound gradients go on teaching."""
    big, small = (1e38, 1e-45) if xp.single else (1e308, 5e-324)
    values = {
        "overflow": big,
        "square overflows": big**0.6,
        "square vanishes": big**-0.6,
        "denormal": small,
        "uneven": big,
    }
    bad = np.full(LENGTH, values[size])
    if size == "uneven":
        bad[1:] = small
    metric, gradients = taught(xp)
    like = xp(np.zeros(LENGTH))
    for fresh in (metric, Kronecker(like, SHAPES, SETTINGS)):
        for g in (bad, bad, *gradients, bad, bad, bad):
            with np.errstate(all="ignore"):
                fresh.observe(xp(g), none(like))
            found = fresh.to_step(fresh.of_gradient(xp(np.ones(LENGTH))))
            assert _array.all_finite(found)
            assert _array.norm(found) > 0.0


# --- pairs follow ----------------------------------------------------------------------------------


def with_pairs(xp, metric, count, capacity, seed=0, pending=True):
    """A memory of pairs in the coordinates of the metric, the newest one pending, and the pairs themselves."""
    rng = np.random.default_rng(seed)
    memory = PairMemory(xp(np.zeros(LENGTH)), capacity)
    raw = [tuple(rng.standard_normal((2, LENGTH))) for _ in range(count)]
    for i, (s, y) in enumerate(raw):
        memory.push(xp(np.linalg.solve(dense_of_steps(xp, metric), s)), metric.of_gradient(xp(y)))
        if i < count - 1 or not pending:
            memory.project([])
    return memory, raw[-capacity - pending :]


def dense_of_steps(xp, metric):
    """C^-T as a matrix in float64."""
    return np.array([xp.to_numpy(metric.to_step(xp(e))).astype(float) for e in np.eye(LENGTH)]).T


@pytest.mark.parametrize("pending", [False, True])
@pytest.mark.parametrize(("count", "capacity"), [(1, 4), (3, 4), (7, 4), (22, 20)])
def test_pairs_follow_a_change_of_the_metric(xp, count, capacity, pending):
    """Old coordinates become new ones of the same pairs; s'y stays; inner products are those of the new rows.

    Conditions: C and C^-1 together cost cond(C)^2 < 1e2, a rotation ten terms: 1e3 eps times the norms.
    """
    metric, gradients = taught(xp)
    memory, raw = with_pairs(xp, metric, count, capacity, pending=pending)
    products = np.array([s @ y for s, y in raw])
    before = dense_of_steps(xp, metric)
    memory.matrix = "stale"
    for g in gradients[::-1][: 5 - (metric.count % 3)]:
        metric.observe(xp(5.0 * g), memory)
    assert memory.matrix is None
    assert np.linalg.norm(dense_of_steps(xp, metric) - before) > 0.1
    assert (memory.pending is not None) is pending
    stored = [(memory.rows[2 * i, :], memory.rows[2 * i + 1, :]) for i in memory.order]
    stored += [memory.pending] if pending else []
    assert len(stored) == len(raw)
    for (s, y), (raw_s, raw_y) in zip(stored, raw, strict=True):
        assert xp.is_kind(s)
        near(xp, metric.to_step(s), raw_s)
        near(xp, y, xp.to_numpy(metric.of_gradient(xp(raw_y))))
    inner = [float(xp.to_numpy(s).astype(float) @ xp.to_numpy(y).astype(float)) for s, y in stored]
    np.testing.assert_allclose(inner, products, rtol=0, atol=1e4 * xp.eps * LENGTH)
    gram_is_of_rows(xp, memory)


def near(xp, found, expected):
    expected = np.asarray(expected, dtype=float)
    np.testing.assert_allclose(xp.to_numpy(found), expected, rtol=0, atol=1e3 * xp.eps * np.linalg.norm(expected))


def gram_is_of_rows(xp, memory):
    """The inner products of the rows in use, accumulated in float64 over runs of at most 100 terms."""
    rows = [row for slot in memory.order for row in (2 * slot, 2 * slot + 1)]
    used = xp.to_numpy(memory.rows).astype(float)[rows]
    size = np.linalg.norm(used, axis=1)
    tolerance = 100.0 * (xp.eps if xp.single else EPS) * np.outer(size, size)
    assert (np.abs(memory.gram[np.ix_(rows, rows)] - used @ used.T) <= tolerance).all()


def test_the_first_metric_finds_no_pairs_in_other_coordinates():
    """The first gradient makes M before there is a step; pairs pushed by hand before that are not touched."""
    metric = Kronecker(np.zeros(4), [(2, 2)], SETTINGS)
    memory = PairMemory(np.zeros(4), 2)
    metric.observe(np.ones(4), memory)
    assert len(memory) == 0


def test_pairs_of_a_run_are_of_the_metric_it_has_reached():
    """After every step s and y of the newest pair, turned back, are what was made and seen: the pairs moved along."""
    rng = np.random.default_rng(2)
    A = rng.standard_normal((8, 8))
    H = A @ A.T / 8.0 + np.eye(8)
    rule = mblsr1.metric.kronecker([(2, 3), 2], every=3, stride=1)
    made = [np.ones(8)]
    for step in mblsr1.iterate(
        lambda w: 0.5 * w @ H @ w, lambda w: H @ w, np.ones(8), metric=rule, max_steps=9, gtol=0.0
    ):
        made.append(step.x)
        inner = step.state.tree["inner"]
        metric = rule(np.zeros(8)).restore(inner["metric"])
        rows, order = inner["memory"]["rows"], inner["memory"]["order"]
        pairs = [(rows[2 * i], rows[2 * i + 1]) for i in order] + [tuple(inner["memory"]["pending"].values())]
        steps = np.diff(made, axis=0)[-len(pairs) :]
        for (s, y), p in zip(pairs, steps, strict=True):
            np.testing.assert_allclose(metric.to_step(s), p, rtol=0, atol=1e-11)
            np.testing.assert_allclose(y, metric.of_gradient(H @ p), rtol=0, atol=1e-11)


# --- runs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("new", "accepted"), [((1.2, 0.1), False), ((0.9, 9.0), True)])
def test_where_the_loss_is_rounding_the_gradient_in_the_metric_decides(new, accepted):
    """From (1, 1), whose length is 1 here and 1.4 in the plain norm, which would decide both cases the other way."""
    metric = mblsr1.metric.fixed(lambda v: v * np.array([1.0, 1e-2]))

    def grad(w):
        return np.ones(2) if np.array_equal(w, np.zeros(2)) else np.array(new)

    how = {"metric": metric, "max_steps": 1, "initial_radius": 1e-6}
    result = mblsr1.minimize(lambda w: 1e10, grad, np.zeros(2), **how)
    assert (result.history["rejections"][0] == 0) is accepted


def test_blocks_stand_for_the_kronecker_metric():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((30, 6))
    runs = [
        mblsr1.minimize(lambda w: float(np.sum((A @ w - 1.0) ** 4)), lambda w: 4.0 * A.T @ (A @ w - 1.0) ** 3,
                        np.zeros(6), max_steps=15, **how)
        for how in ({"blocks": [(2, 2), 2]}, {"metric": mblsr1.metric.kronecker([(2, 2), (2,)])},
                    {"options": Options(blocks=np.array([[2, 3]]))}, {"blocks": [[2, 3]]}, {})
    ]  # fmt: skip
    bits = [run.x.tobytes() for run in runs]
    assert bits[0] == bits[1]
    assert bits[2] == bits[3]
    assert len(set(bits)) == 3


def test_a_metric_of_ones_own():
    """Any object with the five methods; its state is saved and restored."""

    class Counting:
        def __init__(self):
            self.seen = 0

        def of_gradient(self, g):
            return g * 0.5

        def to_step(self, x):
            return x * 0.5

        def observe(self, g, pairs):
            self.seen += 1

        def to_saved(self):
            return {"seen": self.seen}

        def restore(self, saved):
            self.seen = int(saved["seen"])
            return self

    def run(steps, state=None):
        return mblsr1.minimize(
            lambda w: float(np.sum(w**4)), lambda w: 4.0 * w**3, np.ones(3), metric=lambda w: Counting(),
            max_steps=steps, gtol=0.0, state=state,
        )  # fmt: skip

    whole, first = run(6), run(3)
    assert first.state.tree["inner"]["metric"] == {"seen": 3}
    second = run(3, first.state)
    assert second.state.tree["inner"]["metric"] == {"seen": 6}
    assert second.x.tobytes() == whole.x.tobytes()


def test_a_step_that_the_budget_cuts_short_leaves_a_sound_state():
    """The gradient of the step that is made again may count twice in the running means; nothing else does."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((40, 6))

    def run(**how):
        return mblsr1.minimize(
            lambda w, b: float(np.mean((A[b] @ w - 1.0) ** 2)), lambda w, b: 2.0 * A[b].T @ (A[b] @ w - 1.0) / len(b),
            np.zeros(6), 40, rng=1, batch_size=8, largest_share=0.2, gtol=0.0, anneal=False,
            metric=mblsr1.metric.kronecker([(2, 3)], every=2), **how,
        )  # fmt: skip

    for budget in (8, 12, 17, 33, 50.5):
        cut = run(max_samples=budget)
        assert cut.status == 2
        count = cut.state.tree["inner"]["metric"]["count"]
        assert cut.nit <= count <= cut.nit + 1
        more = run(max_steps=6, state=cut.state)
        assert more.nit == cut.nit + 6
        assert np.isfinite(more.x).all()
        assert more.state.tree["inner"]["metric"]["count"] == count + 6


def test_the_steps_of_the_example_do_not_depend_on_the_mesh(tmp_path, monkeypatch):
    """Mass and stiffness matrix on graded meshes of 100 to 10 000 unknowns; without them more, or ever more, steps."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "examples")
    pyplot.switch_backend("agg")
    monkeypatch.setattr(pyplot, "show", lambda: pyplot.savefig(tmp_path / "p.png"))
    rows = importlib.import_module("pde_mesh").main((100, 1_000, 10_000), (10, 32, 100))
    pyplot.close("all")
    steps = {name: [row.steps for row in some] for name, some in rows.items()}
    for name in ("control, mass matrix", "energy, stiffness matrix"):
        assert max(steps[name]) - min(steps[name]) <= 2
        assert max(steps[name]) < 30
    assert min(steps["control, no metric"]) > 2 * max(steps["control, mass matrix"])
    assert all(later > 2 * earlier for earlier, later in pairwise(steps["energy, no metric"]))
    assert (tmp_path / "p.png").stat().st_size > 1000


# --- errors ----------------------------------------------------------------------------------------

OUT_OF_RANGE = {
    "exponent": (-0.1, 0.6, math.nan, math.inf),
    "memory": (-0.1, 1.0, math.nan),
    "every": (0, -3),
    "floor": (-1e-3, 1.1, math.nan),
    "largest_side": (0,),
    "stride": (0,),
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in OUT_OF_RANGE.items() for v in values])
def test_a_setting_out_of_range(name, value):
    for make in (mblsr1.metric.diagonal, lambda **how: mblsr1.metric.kronecker([3], **how)):
        with pytest.raises(ValueError, match=rf"^{name}: must be (a number|an int) (in|>=) .*, got {value}"):
            make(**{name: value})


@pytest.mark.parametrize("name", OUT_OF_RANGE)
@pytest.mark.parametrize("value", ["1", None, True, 1j, [1]])
def test_a_setting_of_another_kind(name, value):
    with pytest.raises(TypeError, match=rf"^{name}: must be (a number|an int) "):
        mblsr1.metric.diagonal(**{name: value})


@pytest.mark.parametrize("name", ["every", "largest_side", "stride"])
def test_counts_are_whole(name):
    with pytest.raises(TypeError, match=rf"^{name}: must be an int >= 1, got 2.0"):
        mblsr1.metric.diagonal(**{name: 2.0})


def test_an_unknown_setting():
    with pytest.raises(TypeError, match="speed"):
        mblsr1.metric.diagonal(speed=1)


@pytest.mark.parametrize(("shapes", "total"), [([], 0), ([(2,)], 2), ([(2, 3)], 6)])
def test_shapes_of_another_length_are_counted(shapes, total):
    with pytest.raises(ValueError, match=rf"^blocks: the shapes must have 4 entries in all, as w0 has, got {total}"):
        Kronecker(np.zeros(4), shapes, SETTINGS)


def test_shapes_of_any_whole_numbers_become_tuples():
    assert checked_shapes([1, (1, 3), np.array([2, 1, 2])]) == ((1,), (1, 3), (2, 1, 2))


@pytest.mark.parametrize("blocks", [3, "33", b"33", None, 2.0])
def test_blocks_that_are_no_sequence(blocks):
    with pytest.raises(TypeError, match=r"^blocks: must be a sequence of shapes, got "):
        mblsr1.metric.kronecker(blocks)


@pytest.mark.parametrize("blocks", [[(2, 0)], [(2, -1)], [0], [2.0], [(2, 1.5)], ["23"], [None], [(2, (3,))]])
def test_blocks_that_are_no_shapes(blocks):
    with pytest.raises(ValueError, match=r"^blocks: must be shapes of positive integers, got "):
        Options(blocks=blocks)


def test_no_blocks():
    with pytest.raises(ValueError, match=r"^blocks: must be a sequence of one shape at least, got \[\]"):
        mblsr1.metric.kronecker([])


@pytest.mark.parametrize("blocks", [[(2, 2)], [(2, 3)], [4, 2], [()]])
def test_blocks_that_do_not_add_up_to_w(blocks):
    total = sum(math.prod(np.atleast_1d(b).astype(int)) if b != () else 1 for b in blocks)
    with pytest.raises(ValueError, match=rf"^blocks: the shapes must have 5 entries in all, as w0 has, got {total}"):
        mblsr1.minimize(lambda w: float(w @ w), lambda w: 2.0 * w, np.ones(5), blocks=blocks)


@pytest.mark.parametrize("how", [{"blocks": [(2, 2)]}, {"metric": mblsr1.metric.identity()}])
def test_no_metric_with_the_line_search(how):
    (name,) = how
    with pytest.raises(ValueError, match=rf'^{name}: must be None with globalization="line-search", got '):
        Options(globalization="line-search", **how)
    with pytest.raises(ValueError, match=rf'^{name}: must be None with globalization="line-search", got '):
        Options.paper(**how)


def test_a_metric_or_blocks():
    with pytest.raises(ValueError, match=r"^metric: must be None where blocks are given"):
        Options(metric=mblsr1.metric.diagonal(), blocks=[3])


@pytest.mark.parametrize("metric", [3, "diagonal", [1.0], mblsr1.metric])
def test_a_metric_that_is_no_rule(metric):
    with pytest.raises(TypeError, match=r"^metric: must be None or a rule such as mblsr1.metric.diagonal"):
        Options(metric=metric)


@pytest.mark.parametrize(
    ("name", "arguments"), [("of_gradient", (3,)), ("of_gradient", (None,)), ("to_step", (abs, 3))]
)
def test_a_known_metric_is_given_by_functions(name, arguments):
    with pytest.raises(TypeError, match=rf"^{name}: must be a function of a vector, got "):
        mblsr1.metric.fixed(*arguments)
