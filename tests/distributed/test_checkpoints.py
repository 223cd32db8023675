"""Files of ranks that are killed, threads here: ranks with parts of the vectors go on from a step that all have."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import problems
import pytest
from ranks import run_on

import mblsr1
from mblsr1 import _reduction, state_file
from mblsr1.checkpoint import State
from mblsr1.distributed import RankError, data_parallel, vectors_in_parts

PROBLEM = problems.logistic(n=120, d=30)
STEPS = 9


class Killed(BaseException):
    pass


def in_parts(comm, folder, name=None, **changes):
    """A run on half of the vectors; its file is named after the rank."""
    X, y = PROBLEM.data
    own = slice(30 * comm.rank // comm.size, 30 * (comm.rank + 1) // comm.size)
    with vectors_in_parts(comm) as parts:

        def fun(w, batch):
            margin = y[batch] * parts.sum(X[batch, own] @ w)
            wrong = np.exp(-np.logaddexp(0.0, margin))
            loss = float(np.mean(np.logaddexp(0.0, -margin))) + parts.sum(0.05 * float(w @ w))
            return loss, X[batch, own].T @ (-y[batch] * wrong) / len(batch) + 0.1 * w

        path = None if folder is None else folder / (name or f"run-{comm.rank}.npz")
        given = {"rng": 3, "batch_size": 30, "max_steps": STEPS, "checkpoint": path, "checkpoint_every": 0, **changes}
        try:
            result = mblsr1.minimize(*parts.functions(fun, True), PROBLEM.w0[own], 120, **given)
        except Killed:
            return "killed"
        return result.x.tobytes(), str(dict(result.history)), result.n_samples, result.status


@pytest.fixture(scope="module")
def whole():
    return run_on(2, in_parts, None)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def steps_of(folder):
    return [mblsr1.load_state(folder / f"run-{rank}.npz").step for rank in range(2)]


# --- when they write -----------------------------------------------------------------------------


def test_ranks_write_at_the_same_steps_whatever_their_clocks_say(tmp_path):
    def program(comm):
        seen = []

        def look(step):
            seen.append(mblsr1.load_state(tmp_path / f"run-{comm.rank}.npz").step)

        in_parts(comm, tmp_path, checkpoint_every=0 if comm.rank else 1e9, callback=look)
        return seen

    assert run_on(2, program) == [list(range(STEPS))] * 2
    assert steps_of(tmp_path) == [STEPS, STEPS]
    assert files(tmp_path) == ["run-0.npz", "run-1.npz"]


def test_a_full_disk_of_one_rank_keeps_all_files_and_the_run_goes_on(tmp_path, monkeypatch, whole):
    real, seen = np.savez, []

    def full(file, **arrays):
        if "run-1" in file.name:
            seen.append(steps_of(tmp_path) if len(seen) == 4 else None)
            if len(seen) in (4, 5):
                raise OSError(28, "No space left on device")
        real(file, **arrays)

    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(RuntimeWarning, match=r"^checkpoint: '.*run-1.npz' was not written: .*No space") as warned:
        assert run_on(2, in_parts, tmp_path) == whole
    assert len(warned) == 2
    assert seen[4] == [2, 2]
    assert steps_of(tmp_path) == [STEPS, STEPS]
    assert files(tmp_path) == ["run-0.npz", "run-1.npz"]


def test_a_first_file_that_one_rank_cannot_write_is_an_error_on_all(tmp_path, monkeypatch):
    real = np.savez

    def full(file, **arrays):
        if "run-1" in file.name:
            raise OSError(28, "No space left on device")
        real(file, **arrays)

    monkeypatch.setattr(np, "savez", full)
    first, second = run_on(2, in_parts, tmp_path)
    with pytest.raises(OSError, match=r"^checkpoint: '.*run-1.npz' was not written: .*No space"):
        raise second
    with pytest.raises(RankError, match=r"^rank 1: OSError: checkpoint: "):
        raise first
    assert files(tmp_path) == []


# --- killed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["before", "between", "after"])
@pytest.mark.parametrize("write", [0, 1, 4, STEPS])
def test_ranks_that_are_killed_while_they_write_go_on_alike(place, write, tmp_path, monkeypatch, whole):
    """`write` files are whole on all ranks; of the next, none, that of rank 0, or both have their name."""
    real, left = state_file.put, [write, write]

    def put(part, path):
        rank = int("run-1" in path.name)
        left[rank] -= 1
        if left[rank] < 0:
            if place == "after" or (place == "between" and rank == 0):
                real(part, path)
            raise Killed
        real(part, path)

    with monkeypatch.context() as patch:
        patch.setattr(state_file, "put", put)
        assert run_on(2, in_parts, tmp_path) == ["killed"] * 2
    assert len(files(tmp_path)) >= 2
    assert run_on(2, in_parts, tmp_path) == whole
    assert files(tmp_path) == ["run-0.npz", "run-1.npz"]


@pytest.mark.parametrize("cut", [0.0, 0.5, 0.9])
def test_a_file_that_is_cut_off_on_one_rank_is_no_step_of_all(cut, tmp_path, monkeypatch, whole):
    real, left = state_file.written, [4, 4]

    def written(path, tree):
        rank = int("run-1" in path.name)
        left[rank] -= 1
        part = real(path, tree)
        if left[rank] >= 0:
            return part
        if rank == 1:
            os.truncate(part, int(cut * part.stat().st_size))
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(state_file, "written", written)
        assert run_on(2, in_parts, tmp_path) == ["killed"] * 2
    assert len(files(tmp_path)) == 4
    assert run_on(2, in_parts, tmp_path) == whole
    assert files(tmp_path) == ["run-0.npz", "run-1.npz"]


def test_a_callback_that_ends_all_ranks_by_an_exception_loses_nothing(tmp_path, whole):
    def stop(step):
        if step.step == 5:
            raise Killed

    def program(comm):
        return in_parts(comm, tmp_path, callback=stop, checkpoint_every=1e9)

    assert run_on(2, program) == ["killed"] * 2
    seen = []
    again = run_on(2, lambda comm: in_parts(comm, tmp_path, callback=lambda step: seen.append(step.step)))
    assert again == whole
    assert min(seen) == 6


def test_a_run_that_had_ended_returns_its_result_on_all_ranks(tmp_path, whole):
    assert run_on(2, in_parts, tmp_path) == whole
    assert run_on(2, in_parts, tmp_path) == whole


# --- files that do not belong together -----------------------------------------------------------


def expect(errors, text):
    for error in errors:
        with pytest.raises((ValueError, RankError), match=text):
            raise error


@pytest.mark.parametrize("other", ["an earlier step", "none"])
def test_files_without_a_step_in_common_are_refused_on_all_ranks(other, tmp_path):
    run_on(2, lambda comm: in_parts(comm, tmp_path, max_steps=3))
    shutil.copy(tmp_path / "run-1.npz", tmp_path / "earlier")
    run_on(2, in_parts, tmp_path)
    (tmp_path / "run-1.npz").unlink()
    if other != "none":
        (tmp_path / "earlier").replace(tmp_path / "run-1.npz")
    expect(run_on(2, in_parts, tmp_path), r"^checkpoint: the ranks' files, here '.*', have no step in common; put back")


def test_files_of_other_runs_are_refused_on_all_ranks(tmp_path):
    run_on(2, lambda comm: in_parts(comm, tmp_path, rng=1))
    (tmp_path / "other").mkdir()
    run_on(2, lambda comm: in_parts(comm, tmp_path / "other"))
    (tmp_path / "other" / "run-1.npz").replace(tmp_path / "run-1.npz")
    expect(run_on(2, in_parts, tmp_path), "^rng: must be the same seed on all ranks")


def test_a_file_of_another_rank_is_refused(tmp_path):
    run_on(2, in_parts, tmp_path)
    found = run_on(2, lambda comm: in_parts(comm, tmp_path, f"run-{1 - comm.rank}.npz"))
    expect(found, r"checkpoint: '.*' is of \[rank, ranks\] \[(1, 2\], this is \[0|0, 2\], this is \[1), 2\]")
    with pytest.raises(ValueError, match=r"^checkpoint: '.*' is of \[rank, ranks\] \[1, 2\], this is \[0, 1\]"):
        mblsr1.minimize(PROBLEM.fun, PROBLEM.grad, PROBLEM.w0[:15], 120, checkpoint=tmp_path / "run-1.npz")


def test_a_damaged_file_of_one_rank_is_an_error_on_all(tmp_path):
    run_on(2, in_parts, tmp_path)
    (tmp_path / "run-1.npz").write_bytes(b"")
    first, second = run_on(2, in_parts, tmp_path)
    assert isinstance(second, ValueError)
    expect([first], r"^rank 1: ValueError: checkpoint: '.*run-1.npz' is not a complete state")


def test_states_that_were_saved_by_hand_are_gone_on_from(tmp_path, whole):
    run_on(2, lambda comm: in_parts(comm, tmp_path, max_steps=4))
    for rank in range(2):
        path = tmp_path / f"run-{rank}.npz"
        mblsr1.save_state(path, mblsr1.load_state(path))
    first, second = run_on(2, lambda comm: in_parts(comm, tmp_path, max_steps=STEPS - 4))
    assert (first[0], second[0]) == (whole[0][0], whole[1][0])


@pytest.mark.parametrize("step", ["x", -1, 2.5, None])
def test_a_foreign_step_is_refused_on_all_ranks(step, tmp_path):
    run_on(2, in_parts, tmp_path)
    tree = mblsr1.load_state(tmp_path / "run-1.npz").tree
    mblsr1.save_state(tmp_path / "run-1.npz", State({**tree, "step": step}))
    expect(run_on(2, in_parts, tmp_path), r"checkpoint: must be of a step >= 0, got ")


def test_one_file_for_all_is_refused(tmp_path):
    found = run_on(2, lambda comm: in_parts(comm, tmp_path, "run.npz"))
    expect(found, r"^checkpoint: must be another file on each rank, such as f'run-\{parts.rank\}.npz'")
    assert files(tmp_path) == []


def test_a_file_on_one_rank_alone_is_refused(tmp_path):
    found = run_on(2, lambda comm: in_parts(comm, tmp_path if comm.rank else None))
    expect(found, "^checkpoint: must be given on all ranks or on none")


# --- batches shared out: the state is the same on all ranks, and so is the file ------------------


def shared(comm, path, **changes):
    given = {"rng": 7, "batch_size": 40, "max_steps": STEPS, "checkpoint": path, "checkpoint_every": 0, **changes}
    functions = data_parallel(PROBLEM.fun, PROBLEM.grad, comm)
    try:
        result = mblsr1.minimize(*functions, PROBLEM.w0, 120, **given)
    except Killed:
        return "killed"
    return result.x.tobytes(), str(dict(result.history)), result.n_samples, result.status


@pytest.mark.parametrize("step", [1, 4])
def test_ranks_that_share_batches_go_on_from_one_file(step, tmp_path):
    def stop(at):
        if at.step == step:
            raise Killed

    path = tmp_path / "run.npz"
    (whole,) = run_on(1, shared, None)
    assert run_on(3, lambda comm: shared(comm, path, callback=stop)) == ["killed"] * 3
    assert run_on(2, shared, path) == [whole] * 2
    assert files(tmp_path) == ["run.npz"]


def test_a_rank_that_comes_late_does_no_harm(tmp_path, monkeypatch):
    """It takes the file that another writes at this moment for one that a killed run left."""
    real, path = np.savez, tmp_path / "run.npz"

    def slow(file, **arrays):
        real(file, **arrays)
        if not path.exists():
            time.sleep(0.2)

    def program(comm):
        time.sleep(0.1 * comm.rank)
        return shared(comm, path)

    (whole,) = run_on(1, shared, None)
    monkeypatch.setattr(np, "savez", slow)
    removed, unlink = [], Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda self, **how: removed.append(self) or unlink(self, **how))
    assert run_on(2, program) == [whole] * 2
    assert removed
    assert files(tmp_path) == ["run.npz"]


# --- the functions of the reduction --------------------------------------------------------------


def test_what_parts_have_in_common():
    offered = [[8, 3, 5], [5, 8], [8, 1, 5, 7, 2]]

    def program(comm, which):
        with vectors_in_parts(comm):
            return _reduction.in_common(which[comm.rank]), _reduction.place(), _reduction.is_spread()

    assert run_on(3, program, offered) == [([5, 8], (rank, 3), True) for rank in range(3)]
    assert [common for common, *_ in run_on(2, program, [[], []])] == [[], []]
    assert [common for common, *_ in run_on(2, program, [[4], []])] == [[], []]
    assert (_reduction.in_common([2, 1]), _reduction.place(), _reduction.is_spread()) == ([1, 2], (0, 1), False)
