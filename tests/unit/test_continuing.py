"""Calls that go on with other settings than the first, states with foreign content, and what had ended a run."""

import copy
import math
import warnings

import numpy as np
import pytest

import mblsr1
from mblsr1 import Options, state_file
from mblsr1.checkpoint import State

N, D = 60, 6
_DATA = np.random.default_rng(5)
A = _DATA.standard_normal((N, D))
B = np.sign(A @ np.ones(D) + 0.5 * _DATA.standard_normal(N))
START = np.full(D, 0.4)


def loss_and_gradient(w, batch=slice(None)):
    a, margin = A[batch], B[batch] * (A[batch] @ w)
    g = -(a.T @ (B[batch] / (1.0 + np.exp(margin)))) / len(margin) + 0.1 * w
    return float(np.mean(np.logaddexp(0.0, -margin)) + 0.05 * (w @ w)), g


def run(sampler=N, fun=loss_and_gradient, w0=START, **how):
    return mblsr1.minimize(fun, True, w0, sampler, **{"rng": 4, "gtol": 0.0, **how})


def same(a, b):
    assert a.x.tobytes() == b.x.tobytes()
    np.testing.assert_equal(a.history, b.history)
    for name in ("fun", "nit", "nfev", "njev", "n_samples", "status", "batch_size", "radius"):
        np.testing.assert_equal(a[name], b[name], err_msg=name)


# --- a checkpoint that had ended --------------------------------------------------------------------


def test_a_smaller_gtol_goes_on(tmp_path):
    rough = run(None, gtol=1e-1, checkpoint=tmp_path / "file")
    assert rough.status == 0
    assert np.linalg.norm(rough.jac) > 1e-9
    fine = run(None, gtol=1e-9, checkpoint=tmp_path / "file")
    assert fine.status == 0
    assert np.linalg.norm(fine.jac) <= 1e-9
    same(fine, run(None, gtol=1e-9))
    for gtol in (1e-9, 1e-1):  # it is within both
        same(fine, run(None, gtol=gtol, checkpoint=tmp_path / "file"))


@pytest.mark.parametrize("how", [{"batch_size": 16}, {"batch_size": 16, "method": mblsr1.sgd(0.5)}], ids=["own", "sgd"])
def test_a_smaller_gtol_goes_on_with_samples(how, tmp_path):
    rough = run(gtol=0.3, max_steps=400, checkpoint=tmp_path / "file", **how)
    assert rough.status == 0
    fine = run(gtol=1e-3, max_steps=400, checkpoint=tmp_path / "file", **how)
    assert (fine.status, fine.nit > rough.nit) in [(0, True), (1, True)]


def test_a_callback_that_stopped_the_run_is_asked_again(tmp_path):
    whole, asked = run(batch_size=16, max_steps=9), []

    def stop(step):
        asked.append((step.step, step.loss, step.x.tobytes()))
        return step.step >= 4

    first = run(batch_size=16, max_steps=9, callback=stop, checkpoint=tmp_path / "file")
    assert (first.status, first.nit) == (3, 4)
    again = run(batch_size=16, max_steps=9, callback=stop, checkpoint=tmp_path / "file")
    assert asked[-1] == asked[-2]  # about the same step
    same(first, again)
    later = run(batch_size=16, max_steps=9, callback=lambda step: step.step >= 6, checkpoint=tmp_path / "file")
    assert (later.status, later.nit) == (3, 6)
    same(whole, run(batch_size=16, max_steps=9, checkpoint=tmp_path / "file"))  # none stops it now


def test_a_callback_that_stopped_a_loop_does_not_stop_it_for_ever(tmp_path):
    seen = []
    for _ in range(3):
        steps = mblsr1.iterate(
            loss_and_gradient, True, START, N, rng=4, max_steps=9, batch_size=16, checkpoint=tmp_path / "file",
            callback=lambda step: step.step % 4 == 0,
        )  # fmt: skip
        seen.extend(step.step for step in steps)
    assert seen == list(range(1, 10))


def broken(w, batch):
    f, g = loss_and_gradient(w, batch)
    return f, g * np.nan


FAILURES = [(4, N, broken), (5, None, lambda w: (1.0, loss_and_gradient(w)[1]))]


@pytest.mark.parametrize(("status", "sampler", "fun"), FAILURES, ids=["not finite", "no progress"])
def test_a_run_that_had_failed_says_so_and_how_to_go_on(status, sampler, fun, tmp_path):
    how = {"sampler": sampler, "batch_size": 16, "max_steps": 400}
    healthy = run(**{**how, "max_steps": 3}, checkpoint=tmp_path / "file")
    first = run(**how, fun=fun, checkpoint=tmp_path / "file")
    assert first.status == status
    assert first.nit >= healthy.nit
    with pytest.warns(
        RuntimeWarning, match=r"^checkpoint: the run in '.*file' had ended: .*; to go on from it, pass"
    ) as w:
        same(first, run(**how, checkpoint=tmp_path / "file"))
    assert w[0].filename == __file__
    mended = run(**how, gtol=1e-6, state=mblsr1.load_state(tmp_path / "file"))
    assert mended.status in (0, 1)
    assert mended.nit > first.nit
    assert np.linalg.norm(loss_and_gradient(mended.x)[1]) < 0.2


# --- a checkpoint and other settings ----------------------------------------------------------------

OTHERS = [
    ({"batch_size": 20}, "batch_size=16, this call has 20"),
    ({"memory": 5}, "memory=8, this call has 5"),
    ({"overlap": 0.0}, "overlap=0.125, this call has 0.0"),
    ({"check_size": lambda n: n}, None),
    ({"check_size": 7}, "check_size='a function', this call has 7"),
    ({"blocks": [(2, 3)]}, "blocks=None, this call has [[2, 3]]"),
    ({"metric": mblsr1.metric.diagonal()}, "metric=None, this call has 'a function'"),
    ({"options": Options.paper(), "memory": 8, "batch_size": 16}, "restart_memory=None, this call has 0"),
    ({"sampler": N - 1}, "n_samples=60, this call has 59"),
    ({"w0": START.astype(np.float32), "fun": None}, "dtype='float64', this call has 'float32'"),
]


def single(w, batch):
    f, g = loss_and_gradient(w.astype(float), batch)
    return f, g.astype(w.dtype)


@pytest.mark.parametrize(("other", "text"), OTHERS, ids=[str(o[1])[:30] for o in OTHERS])
def test_a_checkpoint_of_other_settings_is_refused(other, text, tmp_path):
    how = {"memory": 8, "batch_size": 16, "max_steps": 5, "checkpoint": tmp_path / "file"}
    run(**how)
    other = {**how, **other, **({"fun": single} if "fun" in other else {})}
    if text is None:
        run(**other)
        return
    with pytest.raises(ValueError, match=r"^checkpoint: was written with ") as caught:
        run(**other)
    assert str(caught.value) == f"checkpoint: was written with {text}; to start anew, remove the file"


def test_a_checkpoint_of_another_method_obeys_its_options_alone(tmp_path):
    how = {"method": mblsr1.sgd(0.1), "max_steps": 5, "checkpoint": tmp_path / "file"}
    run(**how, options=Options(batch_size=16, memory=3))
    run(**how, options=Options(batch_size=16, memory=4))
    with pytest.raises(ValueError, match=r"^checkpoint: was written with batch_size=16, this call has 8;"):
        run(**how, options=Options(batch_size=8))


# --- a state and other settings ---------------------------------------------------------------------


def test_a_state_goes_on_with_another_batch_size():
    first = run(batch_size=16, max_steps=5)
    second = run(batch_size=20, max_steps=1, state=first.state)
    assert (second.nit, second.history["batch_size"]) == (6, [20])


def test_a_state_goes_on_with_the_size_that_the_batch_had():
    grown = run(batch_size=8, max_steps=40, noise_limit=1e-6, largest_share=1.0)
    assert grown.batch_size > 8
    for change in ({}, {"overlap": 0.5}, {"growth": "progress"}, {"steps_per_batch": 2}):
        more = run(batch_size=8, max_steps=2, state=grown.state, noise_limit=1e-6, largest_share=1.0, **change)
        assert more.history["batch_size"][0] == grown.batch_size
        assert np.isfinite(more.x).all()


@pytest.mark.parametrize("batch_size", [10, N])
def test_a_state_on_a_smaller_set_is_charged_for_what_there_is(batch_size):
    """It went on with the batch size of the larger set, and with the loss and the gradient there."""
    sizes = []

    def on_part(w, batch):
        sizes.append(len(batch))
        assert max(batch) < 20
        return loss_and_gradient(w, batch)

    first = run(batch_size=batch_size, max_steps=5, memory=6, overlap=0.0)
    second = run(20, on_part, batch_size=batch_size, max_steps=3, memory=6, overlap=0.0, state=first.state)
    assert second.n_samples - first.n_samples == sum(sizes)
    assert second.history["batch_size"] == [min(batch_size, 20)] * 3
    assert second.nit == 8


def test_a_change_of_overlap_takes_no_value_of_another_batch():
    """In the middle of a batch the values on its shared part were taken for those on the whole batch."""
    at = []

    def watched(w, batch):
        at.append((w.tobytes(), len(batch)))
        return loss_and_gradient(w, batch)

    for before, after in ((0.125, 0.0), (0.0, 0.125)):
        how = {"batch_size": 16, "steps_per_batch": 3}
        state = run(overlap=before, max_steps=4, **how).state
        at.clear()
        run(fun=watched, overlap=after, max_steps=1, state=state, **how)
        here = [size for w, size in at if w == state.x.tobytes()]
        assert sum(here) == 16


def test_what_does_not_fit_is_refused_with_what_differs():
    state = run(batch_size=16, max_steps=5).state
    with pytest.raises(
        ValueError, match=r"^state: holds a pair buffer .*; it was made with memory=None, this call has 3$"
    ):
        run(batch_size=16, memory=3, state=state)
    with pytest.raises(
        ValueError, match=r"^state: lacks .*; it was made with blocks=None, this call has \[\[2, 3\]\]$"
    ):
        run(batch_size=16, blocks=[(2, 3)], state=state)


# --- foreign content --------------------------------------------------------------------------------


def _set(*path_and_value):
    *path, value = path_and_value

    def change(tree):
        for name in path[:-1]:
            tree = tree[name]
        if value is ...:
            del tree[path[-1]]
        else:
            tree[path[-1]] = value

    return change


FOREIGN = {
    "no count": _set("counts", "nfev", ...),
    "counts are a number": _set("counts", 5),
    "counts are text": _set("counts", "nfev", "x"),
    "base class as generator": _set("rng", "bit_generator", "BitGenerator"),
    "no generator": _set("rng", "bit_generator", "seed"),
    "another generator's state": _set("rng", "bit_generator", "MT19937"),
    "generator is text": _set("rng", "x"),
    "iterate of another shape": _set("w", np.ones(D + 1)),
    "iterate of two axes": _set("w", np.ones((D, 1))),
    "iterate is text": _set("w", "x"),
    "iterate is nan": _set("w", np.full(D, np.nan)),
    "iterate is infinite": _set("w", np.full(D, np.inf)),
    "step is text": _set("step", "x"),
    "step is negative": _set("step", -1),
    "step is nan": _set("step", math.nan),
    "batch too large": _set("check", "size", 10**12),
    "batch of nothing": _set("check", "size", 0),
    "batch of a half": _set("check", "size", 0.5),
    "check is a number": _set("check", 1),
    "exit is none": _set("exit", None),
    "no radius": _set("inner", "radius", ...),
    "inner is none": _set("inner", None),
    "pairs of another shape": _set("inner", "memory", "rows", np.ones((2, D))),
    "pairs are text": _set("inner", "memory", "rows", "x"),
    "batches are none": _set("batches", None),
    "used is text": _set("batches", "used", "x"),
    "drawn from nothing": _set("batches", "before_draw", {}),
    "taken is a number": _set("batches", "taken", 3),
    "taken of no size": _set("batches", "taken", "size", -4),
    "taken from nothing": _set("batches", "taken", "rng", 0),
    "known of another shape": _set("batches", "taken", "at", "g", np.ones(D - 1)),
    "settings are none": _set("settings", None),
    "settings are empty": _set("settings", {}),
    "shape is a number": _set("shape", 5),
    "method is a number": _set("method", 5),
}


@pytest.fixture(scope="module")
def tree():
    return run(batch_size=16, max_steps=5).state.tree


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN)
def test_foreign_content_is_refused_by_name(change, tree, tmp_path):
    foreign = copy.deepcopy(tree)
    change(foreign)
    state_file.write(tmp_path / "file", {"state": foreign})
    for argument, how in (
        ("state", {"state": State(foreign)}),
        ("state", {"state": mblsr1.load_state(tmp_path / "file")}),
        ("checkpoint", {"checkpoint": tmp_path / "file"}),
    ):
        with pytest.raises(ValueError, match=f"^{argument}: ") as caught:
            run(batch_size=16, max_steps=7, **how)
        assert str(caught.value).count(f"{argument}: ") == 1


@pytest.mark.parametrize("name", ["first_step", "start", "status", "budgets", "good", "end", "history"])
@pytest.mark.parametrize("value", [..., "x", -1])
def test_foreign_content_of_a_checkpoint_is_refused_by_name(name, value, tmp_path):
    run(batch_size=16, max_steps=5, checkpoint=tmp_path / "file")
    content = state_file.load(tmp_path / "file", "checkpoint")
    _set("run", name, value)(content)
    state_file.write(tmp_path / "file", content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if name == "budgets" and value is not ...:
            run(batch_size=16, max_steps=5, checkpoint=tmp_path / "file")
            return
        with pytest.raises(ValueError, match=r"^checkpoint: "):
            run(batch_size=16, max_steps=5, checkpoint=tmp_path / "file")


def test_an_exception_of_the_sampler_that_draws_again_is_its_own():
    class Mine(ValueError):
        pass

    class Broken(mblsr1.IndexSampler):
        def draw(self, size, rng):
            raise Mine

    state = run(batch_size=16, max_steps=5).state
    with pytest.raises(Mine):
        run(Broken(N), batch_size=16, max_steps=5, state=state)
