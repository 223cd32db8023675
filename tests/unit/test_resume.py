"""A run that is saved and continued is the run that was not interrupted, bit for bit."""

import json
import math
import pickle
import zipfile

import numpy as np
import pytest
from choices import RESOLVING

import mblsr1
from mblsr1 import Options

N, D = 60, 7
_DATA = np.random.default_rng(11)
A = _DATA.standard_normal((N, D)) / math.sqrt(D)
B = np.sign(A @ _DATA.standard_normal(D) + 0.3 * _DATA.standard_normal(N))


def fun(w, batch=slice(None)):
    margin = B[batch] * (A[batch] @ w.astype(float))
    return float(np.mean(np.logaddexp(0.0, -margin)) + 0.05 * np.cos(2.0 * w.astype(float)).sum())


def grad(w, batch=slice(None)):
    margin = B[batch] * (A[batch] @ w.astype(float))
    g = -(A[batch].T @ (B[batch] / (1.0 + np.exp(margin)))) / len(margin) - 0.1 * np.sin(2.0 * w.astype(float))
    return g.astype(w.dtype)


def hvp(w, v, batch=slice(None)):
    share = 1.0 / (1.0 + np.exp(B[batch] * (A[batch] @ w)))
    return A[batch].T @ (share * (1.0 - share) * (A[batch] @ v)) / len(share) - 0.2 * np.cos(2.0 * w) * v


FRESH = RESOLVING.replace(batch_size=8)
RECOMMENDED, PAPER, L_SSR1_TR = Options(batch_size=8), Options.paper(batch_size=8), Options.l_ssr1_tr(batch_size=8)
WARM = PAPER.replace(memory=4, restart_memory=4, restart_tolerance=0.9, initial_radius=0.5)
_LEARNING = {"exponent": 0.25, "memory": 0.9, "every": 3, "floor": 1e-2, "stride": 2}
KRONECKER, DIAGONAL = mblsr1.metric.kronecker([(2, 3), 1], **_LEARNING), mblsr1.metric.diagonal(**_LEARNING)
STREAM = mblsr1.StreamSampler(lambda size, rng: rng.integers(N, size=size))
CASES = {
    "recommended": (N, {"options": RECOMMENDED}),
    "re-solving": (N, {"options": FRESH}),
    "overlap of a half": (N, {"options": RECOMMENDED.replace(overlap=0.5, batch_size=7)}),
    "noise growth": (N, {"options": RECOMMENDED.replace(noise_limit=1e-6, largest_share=1.0)}),
    "noise growth to the whole set": (
        N, {"options": RECOMMENDED.replace(batch_size=N // 2, noise_limit=1e-6, largest_share=1.0, gtol=0.0)}
    ),
    "paper": (N, {"options": PAPER}),
    "l_ssr1_tr": (N, {"options": L_SSR1_TR}),
    "warm start": (N, {"options": WARM}),
    "warm start, partial": (N, {"options": WARM.replace(restart_memory=2)}),
    "warm start, hvp": (N, {"options": WARM, "hvp": hvp}),
    "warm start, trust region": (N, {"options": WARM.replace(globalization="trust-region", sgd_weight=0, momentum=0)}),
    "momentum": (N, {"options": RECOMMENDED.replace(globalization="line-search", momentum=0.9, sgd_weight=0.2)}),
    "small memory, wrapped": (N, {"options": RECOMMENDED.replace(memory=3)}),
    "no memory": (N, {"options": RECOMMENDED.replace(memory=0)}),
    "three steps a batch": (N, {"options": RECOMMENDED.replace(steps_per_batch=3)}),
    "three steps a batch, re-solving": (N, {"options": FRESH.replace(steps_per_batch=3)}),
    "three steps a batch, paper": (N, {"options": PAPER.replace(steps_per_batch=3, initial_radius=0.1)}),
    "growth": (N, {"options": FRESH.replace(check_every=3, progress_fraction=0.9)}),
    "growth, both": (N, {"options": FRESH.replace(check_every=3, progress_fraction=0.9, check_both=True)}),
    "growth to the whole set": (N, {"options": FRESH.replace(check_every=1, progress_fraction=0.99, gtol=0.0)}),
    "overlap and growth to the whole set": (
        N, {"options": FRESH.replace(memory=None, overlap=0.25, check_every=1, progress_fraction=0.99, gtol=0.0)}
    ),
    "full batch": (N, {"options": PAPER.replace(batch_size=N)}),
    "kronecker": (N, {"options": RECOMMENDED.replace(metric=KRONECKER)}),
    "kronecker, re-solving": (N, {"options": FRESH.replace(metric=KRONECKER)}),
    "kronecker, deterministic": (None, {"options": Options(metric=KRONECKER, gtol=0.0)}),
    "diagonal, warm start": (
        N, {"options": WARM.replace(globalization="trust-region", sgd_weight=0, momentum=0, metric=DIAGONAL)}
    ),
    "deterministic": (None, {"options": PAPER}),
    "deterministic, recommended": (None, {"options": Options(initial_radius=1e-3, gtol=0.0, interpolate=False)}),
    "stream": (STREAM, {"options": RECOMMENDED}),
    "stream, re-solving": (STREAM, {"options": FRESH.replace(check_every=2)}),
    "exit check": (N, {"method": mblsr1.sgd(1e-4), "batch_size": 30, "gtol": 0.15, "check_every": 4}),
    "sgd": (N, {"method": mblsr1.sgd(0.1), "batch_size": 8}),
    "sgd, momentum": (N, {"method": mblsr1.sgd(0.1, 0.9), "batch_size": 8}),
    "adam": (N, {"method": mblsr1.adam(0.01), "batch_size": 8}),
    "rmsprop": (N, {"method": mblsr1.rmsprop(0.01), "batch_size": 8}),
    "svrg": (N, {"method": mblsr1.svrg(0.1, 0.5), "batch_size": 8}),
    "svrg, one pass": (N, {"method": mblsr1.svrg(0.1, 1.0), "batch_size": 8, "steps_per_batch": 3}),
    "s-lsr1": (N, {"method": mblsr1.s_lsr1(3), "batch_size": 8}),
    "s-lsr1, hvp": (N, {"method": mblsr1.s_lsr1(3), "batch_size": 8, "hvp": hvp}),
    "s-lsr1, three steps a batch": (N, {"method": mblsr1.s_lsr1(3), "batch_size": 8, "steps_per_batch": 3}),
    "s-lsr1, deterministic": (None, {"method": mblsr1.s_lsr1(3)}),
    "adam, three steps a batch": (N, {"method": mblsr1.adam(0.01), "batch_size": 8, "steps_per_batch": 3}),
    "adam, deterministic": (None, {"method": mblsr1.adam(0.01)}),
}  # fmt: skip
every_case = pytest.mark.parametrize(("sampler", "how"), CASES.values(), ids=CASES)


def run(sampler, how, steps, dtype=np.float64, **more):
    return mblsr1.minimize(fun, grad, np.full(D, 0.4, dtype=dtype), sampler, max_steps=steps, **{**how, **more})


def assert_same_tree(a, b, path="state"):
    """Equal to the bit, nan equal to nan."""
    assert type(a) is type(b) or {type(a), type(b)} <= {int, float}, (path, a, b)
    if isinstance(a, dict):
        assert set(a) == set(b), path
        for key in a:
            assert_same_tree(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), path
    else:
        assert a == b or (math.isnan(a) and math.isnan(b)), (path, a, b)


def assert_continues(whole, part, first_steps):
    """`part` is the tail of `whole`: iterate, history, counts, radius, generator, everything that is carried."""
    assert whole.x.tobytes() == part.x.tobytes()
    assert whole.jac.tobytes() == part.jac.tobytes()
    tail = {name: column[first_steps:] for name, column in whole.history.items()}
    np.testing.assert_equal(part.history, tail)
    for name in (
        "fun",
        "nit",
        "nfev",
        "njev",
        "n_samples",
        "batch_size",
        "radius",
        "n_restarts",
        "n_skipped",
        "status",
    ):
        np.testing.assert_equal(part[name], whole[name], err_msg=name)
    assert_same_tree(whole.state.tree, part.state.tree)


def through_a_file(state, path):
    mblsr1.save_state(path, state)
    return mblsr1.load_state(path)


@every_case
def test_same_seed_same_run(sampler, how):
    first, second = run(sampler, how, 8, rng=4), run(sampler, how, 8, rng=4)
    assert_continues(first, second, 0)
    same_generator = run(sampler, how, 8, rng=np.random.default_rng(4))
    assert first.x.tobytes() == same_generator.x.tobytes()
    if sampler is not None and "full" not in str(how):
        other = run(sampler, how, 8, rng=5)
        assert (first.x.tobytes() == other.x.tobytes()) == (how.get("options", RECOMMENDED).batch_size == N)


@every_case
@pytest.mark.parametrize("k", [1, 5])
def test_k_steps_saved_and_k_steps_more_are_2k_steps(sampler, how, k, tmp_path):
    whole = run(sampler, how, 2 * k, rng=4)
    first = run(sampler, how, k, rng=4)
    state = through_a_file(first.state, tmp_path / "state")
    assert_same_tree(json.loads(json.dumps(_numbers(first.state.tree))), _numbers(state.tree))
    second = run(sampler, how, k, state=state)
    assert first.nit == k
    assert_continues(whole, second, k)


def _numbers(tree):
    if isinstance(tree, dict):
        return {key: _numbers(item) for key, item in tree.items()}
    return tree.tolist() if isinstance(tree, np.ndarray) else tree


@pytest.mark.parametrize(
    "name",
    ["recommended", "re-solving", "paper", "warm start", "adam", "three steps a batch", "noise growth", "kronecker"],
)
def test_in_single_precision(name, tmp_path):
    sampler, how = CASES[name]
    whole = run(sampler, how, 10, np.float32, rng=4)
    first = run(sampler, how, 5, np.float32, rng=4)
    second = run(sampler, how, 5, np.float32, state=through_a_file(first.state, tmp_path / "state"))
    assert second.x.dtype == np.float32
    assert_continues(whole, second, 5)


@every_case
def test_step_by_step_through_files(sampler, how, tmp_path):
    whole = run(sampler, how, 7, rng=4)
    part = run(sampler, how, 1, rng=4)
    for _ in range(6):
        part = run(sampler, how, 1, state=through_a_file(part.state, tmp_path / "state"))
    assert_continues(whole, part, 6)


@every_case
def test_a_step_of_iterate_has_the_state_of_the_run_that_ends_there(sampler, how):
    whole = run(sampler, how, 9, rng=4)
    steps = mblsr1.iterate(fun, grad, np.full(D, 0.4), sampler, rng=4, **how)
    states = [step.state for step, _ in zip(steps, range(6), strict=False)]
    for k in (1, 2, 5):
        assert_continues(whole, run(sampler, how, 9 - k, state=states[k - 1]), k)
        assert_same_tree(states[k - 1].tree, run(sampler, how, k, rng=4).state.tree)


@every_case
def test_a_state_is_not_spoiled_by_continuing_from_it(sampler, how, tmp_path):
    first = run(sampler, how, 5, rng=4)
    loaded = through_a_file(first.state, tmp_path / "state")
    for state in (first.state, loaded):
        before = pickle.dumps(state.tree)
        runs = [run(sampler, how, 6, state=state) for _ in range(2)]
        assert pickle.dumps(state.tree) == before
        assert_continues(runs[0], runs[1], 0)


def test_a_state_keeps_clear_of_a_library_that_shares_memory(tmp_path):
    xp = pytest.importorskip("array_api_strict")
    how = {"memory": 2, "max_steps": 4}
    first = mblsr1.minimize(lambda w: xp.sum(w**4), lambda w: 4.0 * w**3, xp.ones(3), **how)
    loaded = through_a_file(first.state, tmp_path / "state")
    before = pickle.dumps(loaded.tree)
    again = [
        mblsr1.minimize(lambda w: xp.sum(w**4), lambda w: 4.0 * w**3, xp.ones(3), state=loaded, **how) for _ in "ab"
    ]
    assert pickle.dumps(loaded.tree) == before
    assert np.asarray(again[0].x).tobytes() == np.asarray(again[1].x).tobytes()


@pytest.mark.parametrize("kind", [np.random.MT19937, np.random.Philox, np.random.SFC64, np.random.PCG64DXSM])
def test_other_generators(kind, tmp_path):
    sampler, how = CASES["recommended"]
    whole = run(sampler, how, 8, rng=np.random.Generator(kind(1)))
    first = run(sampler, how, 4, rng=np.random.Generator(kind(1)))
    assert_continues(whole, run(sampler, how, 4, state=through_a_file(first.state, tmp_path / "state")), 4)


def test_a_generator_given_with_a_state_does_not_matter():
    sampler, how = CASES["recommended"]
    whole, first = run(sampler, how, 8, rng=4), run(sampler, how, 4, rng=4)
    assert_continues(whole, run(sampler, how, 4, state=first.state, rng=99), 4)


def test_the_wait_of_the_exit_check_is_part_of_the_state():
    sampler, how = CASES["exit check"]
    waits = [
        s.state.tree["exit"]["wait"]
        for s in mblsr1.iterate(fun, grad, np.full(D, 0.4), sampler, rng=4, **how, max_steps=8)
    ]
    assert max(waits[:6]) > 0
    assert max(waits) <= 4


def test_the_last_evaluation_of_a_first_order_method_is_not_part_of_the_state():
    for name in ("sgd", "adam, deterministic"):
        sampler, how = CASES[name]
        result = run(sampler, how, 3, rng=4)
        size = 8 if sampler else 1
        assert result.history["n_samples"][-1] == 3 * size
        assert result.n_samples == pytest.approx(3 * size + 4 * size / 3)
        assert result.state.tree["counts"]["thirds"] == 9 * size


# --- runs that end otherwise -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["recommended", "re-solving", "kronecker", "paper", "three steps a batch", "warm start", "sgd", "adam"]
)
def test_after_a_sample_budget_the_batches_go_on_without_repetition(name):
    how = CASES[name][1]
    how = {**how, "check_every": 3} if "method" in how else {"options": how["options"].replace(check_every=3)}
    drawn = []

    class Source(mblsr1.IndexSampler):
        def draw(self, size, rng):
            batch = super().draw(size, rng)
            drawn.append((size, tuple(batch)))
            return batch

    run(Source(N), how, 12, rng=4)
    wanted = list(drawn)
    for budget in (55, 61, 64, 70.5, 77, 83, 90):
        drawn.clear()
        cut = mblsr1.minimize(fun, grad, np.full(D, 0.4), Source(N), rng=4, max_samples=budget, **how)
        assert cut.status == 2
        before = len(drawn)
        run(Source(N), how, 12 - cut.nit, state=cut.state)
        # a batch or check sample that was cut off is drawn again; nothing is drawn out of turn, nothing is lost
        resumed = drawn[before:]
        assert resumed[-1] == wanted[-1]
        assert resumed == wanted[len(wanted) - len(resumed) :] or resumed[0] in wanted[:before]
        assert set(resumed) <= set(wanted)


@pytest.mark.parametrize("overlap", [0.0, 0.125])
def test_a_check_that_the_budget_forbade_is_made_after_the_next_step(overlap):
    options = FRESH.replace(check_every=2, check_size=60, overlap=overlap)
    free = run(N, {"options": options}, 3, rng=4)
    paid = free.history["n_samples"]
    # the first check comes with step 1 (20 = 60/3 samples); the second with step 3, which we cut off
    budget = paid[2] - 1
    cut = mblsr1.minimize(fun, grad, np.full(D, 0.4), N, rng=4, max_samples=budget, options=options)
    assert (cut.status, cut.nit) == (2, 3)
    assert cut.x.tobytes() == free.x.tobytes()
    check = cut.state.tree["check"]
    assert check["since"] == 2
    assert check["sum_decrease"] == sum(free.history["decrease"][1:3])
    more = run(N, {"options": options}, 1, state=cut.state)
    assert more.state.tree["check"]["since"] == 0
    assert more.n_samples - cut.n_samples >= 20


def test_continuing_a_converged_run_costs_nothing():
    first = mblsr1.minimize(fun, grad, np.full(D, 0.4), gtol=1e-6)
    assert first.status == 0
    second = mblsr1.minimize(fun, grad, np.full(D, 0.4), gtol=1e-6, state=first.state)
    assert (second.status, second.nit, second.n_samples) == (0, first.nit, first.n_samples)
    assert second.x.tobytes() == first.x.tobytes()
    assert second.fun == first.fun
    assert_same_tree(first.state.tree, second.state.tree)


def test_continuing_by_no_step_returns_where_the_run_stands():
    first = run(None, CASES["deterministic"][1], 3)
    second = run(None, CASES["deterministic"][1], 0, state=first.state)
    assert (second.status, second.nit, second.n_samples) == (1, 3, first.n_samples)
    assert second.x.tobytes() == first.x.tobytes()
    assert second.fun == first.fun


def test_stopping_by_the_callback_is_like_a_step_budget():
    sampler, how = CASES["recommended"]
    whole = run(sampler, how, 8, rng=4)
    first = run(sampler, how, 8, rng=4, callback=lambda step: step.step == 4)
    assert first.status == 3
    assert_continues(whole, run(sampler, how, 4, state=first.state), 4)


def test_a_state_taken_in_the_callback():
    sampler, how = CASES["warm start"]
    states = {}
    whole = run(sampler, how, 8, rng=4, callback=lambda step: states.update({step.step: step.state}))
    assert_continues(whole, run(sampler, how, 3, state=states[5]), 5)


# --- the file --------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "state.npz"
    mblsr1.save_state(path, run(N, CASES["paper"][1], 3, rng=4).state)
    return path


def test_the_file_is_one_npz_without_pickle(saved):
    with zipfile.ZipFile(saved) as archive:
        assert all(name.endswith(".npy") for name in archive.namelist())
        assert archive.testzip() is None
    with np.load(saved, allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)


def test_no_file_can_run_code_when_it_is_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("code was run",))

    plain = tmp_path / "a"
    plain.write_bytes(pickle.dumps(Bomb()))
    inside = tmp_path / "b.npz"
    np.savez(inside, mblsr1=np.array([Bomb()], dtype=object), allow_pickle=True)
    for path in (plain, inside):
        with pytest.raises(ValueError, match=r"^path: '.*' is not a complete state of mblsr1"):
            mblsr1.load_state(path)


def test_every_truncation_is_refused(saved, tmp_path):
    whole = saved.read_bytes()
    cut = tmp_path / "cut"
    for length in [0, 1, 10, *range(100, len(whole), len(whole) // 25), len(whole) - 1]:
        cut.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"^path: '.*cut' is not a complete state of mblsr1"):
            mblsr1.load_state(cut)


def test_a_flipped_byte_in_an_array_is_refused(saved, tmp_path):
    data = bytearray(saved.read_bytes())
    with zipfile.ZipFile(saved) as archive:
        name = next(n for n in archive.namelist() if n.endswith("gram.npy"))
        at = archive.getinfo(name).header_offset + 300
    data[at] ^= 1
    bad = tmp_path / "bad"
    bad.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"^path: '.*bad' is not a complete state of mblsr1"):
        mblsr1.load_state(bad)


def _header(**fields):
    return np.frombuffer(json.dumps(fields).encode(), dtype=np.uint8)


FOREIGN = {
    "text": lambda path: path.write_text("hello"),
    "one array": lambda path: np.save(path.open("wb"), np.ones(3)),
    "other arrays": lambda path: np.savez(path.open("wb"), x=np.ones(3)),
    "no header text": lambda path: np.savez(path.open("wb"), mblsr1=np.ones(3)),
    "header of another kind": lambda path: np.savez(path.open("wb"), mblsr1=_header(a=1)),
    "header that is a list": lambda path: np.savez(path.open("wb"), mblsr1=np.frombuffer(b"[1]", dtype=np.uint8)),
    "an array missing": lambda path: np.savez(path.open("wb"), mblsr1=_header(format=3, numbers={}, arrays=["w"])),
    "a zip": lambda path: zipfile.ZipFile(path, "w").close(),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("write", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_file_is_refused(write, tmp_path):
    write(tmp_path / "foreign")
    with pytest.raises(ValueError, match=r"^path: '.*foreign' is not a complete state of mblsr1"):
        mblsr1.load_state(tmp_path / "foreign")


def test_a_later_format_is_refused(tmp_path):
    with (tmp_path / "later").open("wb") as file:
        np.savez(file, mblsr1=_header(format=99, numbers={}, arrays=[]))
    with pytest.raises(ValueError, match=r"^path: '.*later' has format 99, this version reads 3"):
        mblsr1.load_state(tmp_path / "later")


def test_no_file():
    with pytest.raises(FileNotFoundError):
        mblsr1.load_state("no-such-file.npz")


@pytest.mark.parametrize("state", [None, {}, 3, "x", np.ones(2)])
def test_only_a_state_is_saved(state, tmp_path):
    with pytest.raises(TypeError, match=r"^state: must be result.state or step.state, got "):
        mblsr1.save_state(tmp_path / "x", state)
    assert not (tmp_path / "x").exists()
