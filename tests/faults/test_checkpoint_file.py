"""The file of a checkpoint: written whole or not at all, refused where it was changed, resumed bit for bit."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mblsr1
from mblsr1 import checkpoint, state_file
from mblsr1.checkpoint import State

N, D = 40, 5
_DATA = np.random.default_rng(3)
A = _DATA.standard_normal((N, D))
B = A @ np.ones(D) + 0.1 * _DATA.standard_normal(N)


def fun(w, batch=slice(None)):
    r = A[batch] @ w - B[batch]
    return float(r @ r) / len(r) + 0.1 * float(np.cos(w).sum())


def grad(w, batch=slice(None)):
    r = A[batch] @ w - B[batch]
    return 2.0 * (A[batch].T @ r) / len(r) - 0.1 * np.sin(w)


WAYS = {
    "default": (N, {"batch_size": 8, "gtol": 0.0}),
    "deterministic": (None, {"gtol": 0.0}),
    "paper": (N, {"options": mblsr1.Options.paper(batch_size=8, gtol=0.0)}),
    "l_ssr1_tr": (N, {"options": mblsr1.Options.l_ssr1_tr(batch_size=8, gtol=0.0)}),
    "blocks": (N, {"blocks": [(2, 2), 1], "batch_size": 8, "gtol": 0.0, "averaging": 0.9}),
    "sgd": (N, {"method": mblsr1.sgd(0.01, 0.9), "batch_size": 8, "gtol": 0.0}),
    "adam": (N, {"method": mblsr1.adam(0.01), "batch_size": 8, "gtol": 0.0}),
    "rmsprop": (N, {"method": mblsr1.rmsprop(0.01), "batch_size": 8, "gtol": 0.0}),
    "svrg": (N, {"method": mblsr1.svrg(0.01), "batch_size": 8, "gtol": 0.0}),
    "s_lsr1": (N, {"method": mblsr1.s_lsr1(3), "batch_size": 8, "gtol": 0.0}),
}
every_way = pytest.mark.parametrize(("sampler", "how"), WAYS.values(), ids=WAYS)
SHOWN = (
    "x", "fun", "jac", "nit", "nfev", "njev", "n_samples", "status", "message", "batch_size", "radius", "n_restarts",
    "n_skipped", "x_average",
)  # fmt: skip


def run(sampler, how, call=mblsr1.minimize, **more):
    return call(fun, grad, np.full(D, 0.5), sampler, rng=4, **{**how, **more})


def assert_same(a, b):
    """All that two results show, to the bit and to the type."""
    assert list(a.history) == list(b.history)
    for name in a.history:
        assert [*map(repr, a.history[name])] == [*map(repr, b.history[name])], name
    for name in SHOWN:
        one, other = a.get(name), b.get(name)
        assert one.tobytes() == other.tobytes() if isinstance(one, np.ndarray) else repr(one) == repr(other), name


class Killed(BaseException):
    """Stands for a death between two steps, after which the file is as the last write left it."""


def cut_after(steps, path, sampler, how, **more):
    """Leave the file as a run that dies after so many steps does, which wrote after each of them."""

    def callback(step):
        if step.step == steps:
            raise Killed

    with pytest.raises(Killed):
        run(sampler, how, checkpoint=path, checkpoint_every=0, callback=callback, **more)


# --- continued --------------------------------------------------------------------------------------


@every_way
def test_the_same_call_again_ends_as_the_uninterrupted_one(sampler, how, tmp_path):
    budgets = [{"max_steps": 9}, {"max_samples": 83 if sampler else 14}, {"max_steps": 9, "max_samples": 90.5}]
    for i, budget in enumerate(budgets):
        path, whole = tmp_path / f"{i}", run(sampler, how, **budget)
        assert whole.nit >= 2
        for steps in sorted({1, whole.nit // 2 + 1, whole.nit}):
            cut_after(steps, path, sampler, how, **budget)
        again = run(sampler, how, checkpoint=path, **budget)
        assert_same(whole, again)
        assert_same(whole, run(sampler, how, checkpoint=path, **budget))  # it had ended


@pytest.mark.parametrize("steps", [1, 3])
def test_a_run_that_had_ended_returns_its_result_again_without_a_call(steps, tmp_path):
    def never(w, batch=None):
        raise AssertionError("evaluated")

    quick = {"gtol": 1e-6, "max_steps": 200}
    for how, status in ((quick, 0), ({**quick, "callback": lambda step: step.step == steps}, 3)):
        path = tmp_path / str(status)
        whole = run(None, how, checkpoint=path)
        assert whole.status == status
        again = mblsr1.minimize(never, never, np.full(D, 0.5), checkpoint=path, **how)
        assert_same(whole, again)


@pytest.mark.parametrize("name", ["default", "sgd"])
def test_a_run_that_ended_where_the_loss_is_not_finite_returns_its_result_again(name, tmp_path):
    calls = []

    def breaking(w, batch):
        calls.append(1)
        return grad(w, batch) * (np.nan if len(calls) > 5 else 1.0)

    sampler, how = WAYS[name]
    whole = mblsr1.minimize(
        fun, breaking, np.full(D, 0.5), sampler, rng=4, max_steps=20, checkpoint=tmp_path / "file", **how
    )
    assert whole.status == 4
    with pytest.warns(RuntimeWarning, match=r"^checkpoint: the run in '.*file' had ended: the loss or the gradient"):
        assert_same(whole, run(sampler, how, max_steps=20, checkpoint=tmp_path / "file"))


@pytest.mark.parametrize("name", ["default", "sgd", "deterministic"])
def test_a_larger_budget_goes_on_and_counts_from_the_first_start(name, tmp_path):
    sampler, how = WAYS[name]
    first = run(sampler, how, max_steps=4, checkpoint=tmp_path / "file")
    assert (first.status, first.nit) == (1, 4)
    more = run(sampler, how, max_steps=9, checkpoint=tmp_path / "file")
    assert_same(run(sampler, how, max_steps=9), more)


def test_budgets_count_from_where_a_state_was_taken_up(tmp_path):
    sampler, how = WAYS["default"]
    start = run(sampler, how, max_steps=3).state
    whole = run(sampler, how, state=start, max_samples=83)
    cut_after(6, tmp_path / "file", sampler, how, state=start, max_samples=83)
    again = run(sampler, how, state=start, max_samples=83, checkpoint=tmp_path / "file")
    assert_same(whole, again)
    assert whole.nit > 6


def test_iterate_goes_on_too_and_keeps_no_history(tmp_path):
    sampler, how = WAYS["default"]
    whole = [s.x.tobytes() for s in run(sampler, how, mblsr1.iterate, max_steps=9)]
    seen = []
    while len(seen) < 9:
        for step in run(sampler, how, mblsr1.iterate, max_steps=9, checkpoint=tmp_path / "file"):
            seen.append(step.x.tobytes())
            if len(seen) in (2, 3, 7):
                break  # the generator is closed: it writes where it stands
    assert seen == whole
    assert run(sampler, how, max_steps=9, checkpoint=tmp_path / "file").history["step"] == []


def test_it_is_written_when_the_time_has_come_alone(tmp_path, monkeypatch):
    now, written = [0.0], []
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    real = state_file.write
    monkeypatch.setattr(
        state_file, "write", lambda path, tree: written.append(tree["state"]["step"]) or real(path, tree)
    )

    def callback(step):
        now[0] += 10.0

    run(N, WAYS["default"][1], max_steps=9, callback=callback, checkpoint=tmp_path / "file", checkpoint_every=30)
    assert written == [0, 3, 6, 9]


# --- written whole or not at all ----------------------------------------------------------------------


@pytest.mark.parametrize("failing", ["open", "write", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(failing, tmp_path, monkeypatch):
    path = tmp_path / "state.npz"
    mblsr1.save_state(path, State({"a": 1}))
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    place = {"open": (Path, "open"), "write": (np, "savez"), "fsync": (os, "fsync"), "replace": (Path, "replace")}
    with monkeypatch.context() as patch:
        patch.setattr(*place[failing], full)
        with pytest.raises(OSError, match="No space"):
            mblsr1.save_state(path, State({"a": 2}))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["state.npz"]


def test_a_full_disk_is_a_warning_and_the_run_goes_on(tmp_path, monkeypatch):
    sampler, how = WAYS["default"]
    whole = run(sampler, how, max_steps=5)
    real, calls = np.savez, []

    def sometimes_full(file, **arrays):
        calls.append(1)
        if len(calls) in (3, 4):
            raise OSError(28, "No space left on device")
        real(file, **arrays)

    monkeypatch.setattr(np, "savez", sometimes_full)
    with pytest.warns(RuntimeWarning, match=r"^checkpoint: '.*file' was not written: .*No space") as warned:
        result = run(sampler, how, max_steps=5, checkpoint=tmp_path / "file", checkpoint_every=0)
    assert len(warned) == 2
    assert_same(whole, result)
    assert_same(whole, run(sampler, how, max_steps=5, checkpoint=tmp_path / "file"))


def test_the_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    order = []
    real_sync, real_replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: order.append("sync") or real_sync(fd))
    monkeypatch.setattr(Path, "replace", lambda self, target: order.append("rename") or real_replace(self, target))
    mblsr1.save_state(tmp_path / "s", State({"a": 1}))
    assert order == ["sync", "rename", "sync"] if os.name != "nt" else order == ["sync", "rename"]


def test_what_a_killed_write_left_is_removed_and_other_files_stay(tmp_path):
    (tmp_path / "run[1].npz.0123abcd.part").write_bytes(b"half")
    (tmp_path / "other.part").write_bytes(b"mine")
    run(None, {}, max_steps=1, checkpoint=tmp_path / "run[1].npz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.part", "run[1].npz"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "there" / "file")
    mblsr1.save_state(link, State({"a": 1}))
    assert link.is_symlink()
    assert mblsr1.load_state(tmp_path / "there" / "file").tree == {"a": 1}


# --- refused ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "run.npz"
    run(N, WAYS["default"][1], max_steps=5, memory=2, checkpoint=path)
    return path.read_bytes()


def refuses(path):
    with pytest.raises(ValueError, match=r"^path: '.*' (is not a complete state of mblsr1|has format)"):
        mblsr1.load_state(path)
    with pytest.raises(ValueError, match=r"^checkpoint: '.*' (is not a complete state of mblsr1|has format)"):
        run(N, WAYS["default"][1], max_steps=5, memory=2, checkpoint=path)


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_any_damage_is_noticed_or_harmless(data, written, tmp_path_factory):
    """A changed byte: refused, or in a part of the container that nothing reads (a time, a flag), and all is there."""
    damaged = bytearray(written)
    at = data.draw(st.integers(0, len(written) - 1))
    damaged[at] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("damaged") / "run.npz"
    path.write_bytes(damaged)
    try:
        state = mblsr1.load_state(path)
    except ValueError as error:
        assert str(error).startswith("path: ")
        return
    path.write_bytes(written)
    whole = mblsr1.load_state(path)
    _same_tree(state.tree, whole.tree)


def _same_tree(a, b):
    assert a.keys() == b.keys()
    for key in a:
        if isinstance(a[key], dict):
            _same_tree(a[key], b[key])
        else:
            assert np.asarray(a[key]).tobytes() == np.asarray(b[key]).tobytes() or a[key] == b[key], key


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0.0, 1.0, exclude_max=True))
def test_a_file_that_was_cut_off_is_refused(share, written, tmp_path_factory):
    path = tmp_path_factory.mktemp("cut") / "run.npz"
    path.write_bytes(written[: int(share * len(written))])
    refuses(path)


def _rewritten(path, change):
    """The file with its arrays changed and the container whole: what a checksum is for."""
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    change(arrays)
    with path.open("wb") as stream:
        np.savez(stream, **arrays)


def _edit_header(arrays, **fields):
    header = {**json.loads(arrays["mblsr1"].tobytes()), **fields}
    arrays["mblsr1"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)


TAMPERED = {
    "an entry": lambda a: a["state/w"].__setitem__(0, 7.0),
    "a shape": lambda a: a.update({"state/w": a["state/w"].reshape(-1, 1)}),
    "a dtype": lambda a: a.update({"state/w": a["state/w"].astype("f4")}),
    "two swapped": lambda a: a.update({"state/inner/memory/gram": a["state/inner/memory/rows"]}),
    "one more": lambda a: a.update({"state/x": np.ones(1)}),
    "one less": lambda a: a.pop("state/w"),
    "a number": lambda a: _edit_header(a, numbers={**json.loads(a["mblsr1"].tobytes())["numbers"], "state/step": 4}),
    "no checksum": lambda a: _edit_header(a, sha256=""),
    "another format": lambda a: _edit_header(a, format=1),
}


@pytest.mark.parametrize("change", TAMPERED.values(), ids=TAMPERED)
def test_a_file_that_was_changed_is_refused(change, written, tmp_path):
    path = tmp_path / "run.npz"
    path.write_bytes(written)
    _rewritten(path, lambda arrays: None)
    mblsr1.load_state(path)  # the same content in another container is the same state
    _rewritten(path, change)
    refuses(path)


def test_a_pickle_is_not_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    path = tmp_path / "run.npz"
    for name in ("w", "mblsr1"):
        with path.open("wb") as file:
            np.savez(file, **{name: np.array([Bomb()], dtype=object)})
        refuses(path)
    path.write_bytes(b"\x80\x04cposix\nsystem\n.")
    refuses(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mblsr1.npy", b"\x93NUMPY\x01\x00\x10\x00__import__('os')")
    refuses(path)
    assert not (tmp_path / "exploded").exists()


def test_a_state_of_another_kind_is_refused_with_what_it_lacks():
    with pytest.raises(ValueError, match=r"^state: lacks 'average'"):
        run(None, {}, state=State({"w": np.ones(D)}))


BAD_ARGUMENTS = [
    ({"checkpoint": 3}, TypeError, "checkpoint: must be the path of a file, got 3"),
    ({"checkpoint": b"run.npz"}, TypeError, "checkpoint: must be the path of a file"),
    ({"checkpoint": "."}, ValueError, "checkpoint: must be a file in a folder that exists, got '.'"),
    ({"checkpoint": "no/such/run.npz"}, ValueError, "checkpoint: must be a file in a folder that exists"),
    ({"checkpoint_every": "60"}, TypeError, "checkpoint_every: must be a finite number >= 0, in seconds, got '60'"),
    ({"checkpoint_every": -1}, ValueError, "checkpoint_every: must be a finite number >= 0, in seconds, got -1"),
    ({"checkpoint_every": float("nan")}, ValueError, "checkpoint_every: must be a finite number >= 0"),
]


@pytest.mark.parametrize(("arguments", "error", "text"), BAD_ARGUMENTS, ids=[b[2][:50] for b in BAD_ARGUMENTS])
@pytest.mark.parametrize("call", [mblsr1.minimize, mblsr1.iterate])
def test_bad_arguments(call, arguments, error, text):
    with pytest.raises(error) as caught:
        run(None, arguments, call)
    assert str(caught.value).startswith(text)


def test_another_method_or_shape_is_refused(tmp_path):
    run(N, WAYS["sgd"][1], max_steps=1, checkpoint=tmp_path / "file")
    with pytest.raises(ValueError, match=r"^checkpoint: is of method 'sgd'"):
        run(N, WAYS["adam"][1], max_steps=1, checkpoint=tmp_path / "file")
