"""What ranks with parts of the vectors have to agree on, threads here: arguments, seeds, and when the run stops."""

import numpy as np
import problems
import pytest
from ranks import run_on

import mblsr1
from mblsr1 import _array, _reduction
from mblsr1.distributed import RankError, vectors_in_parts

PROBLEM = problems.logistic(n=120, d=30)


def cosh(parts):
    """A loss whose gradient needs no other rank."""
    return parts.functions(lambda w, *_: parts.sum(float(np.cosh(w).sum())), lambda w, *_: np.sinh(w))


def run(comm, w0=None, sampler=None, **changes):
    """A run on a part of three entries."""
    with vectors_in_parts(comm) as parts:
        given = {"rng": 3, "max_steps": 6, **changes}
        return mblsr1.minimize(*cosh(parts), np.full(3, 1.0 + comm.rank) if w0 is None else w0, sampler, **given)


# --- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"w0": np.zeros(0)}, ValueError, r"w0: must have at least one entry, got shape \(0,\)"),
        ({"w0": np.array([1.0, np.nan])}, ValueError, "w0: must be finite"),
        ({"w0": "abc"}, TypeError, "w0: must be an array of real"),
        ({"memory": -1}, ValueError, "memory: must be"),
        ({"sampler": 0}, ValueError, "sampler: the number of samples must be an int >= 1, got 0"),
        ({"max_steps": -1}, ValueError, "max_steps: must be"),
        ({"rng": "a"}, TypeError, "rng: must be"),
        ({"callback": 3}, TypeError, "callback: must be"),
        ({"checkpoint": 3}, TypeError, "checkpoint: must be"),
    ],
)
def test_an_argument_that_one_rank_cannot_use_is_an_error_on_all(changes, kind, text):
    first, second, third = run_on(3, lambda comm: run(comm, **changes) if comm.rank == 1 else run(comm))
    with pytest.raises(kind, match=f"^{text}"):
        raise second
    for error in (first, third):
        with pytest.raises(RankError, match=f"^rank 1: {kind.__name__}: {text}"):
            raise error


def test_more_ranks_than_entries():
    """The formula for shares of d entries gives a rank none of them."""

    def program(comm):
        own = slice(3 * comm.rank // comm.size, 3 * (comm.rank + 1) // comm.size)
        return run(comm, np.ones(own.stop - own.start))

    empty, *others = run_on(4, program)
    assert isinstance(empty, ValueError)
    assert all(str(error).startswith("rank 0: ValueError: w0: must have at least one entry") for error in others)


@pytest.mark.parametrize(
    ("of_rank", "name"),
    [
        (lambda r: {"rng": r}, "rng"),
        (lambda r: {"rng": None}, "rng"),
        (lambda r: {"rng": None, "max_steps": 5 + r}, "max_steps"),
        (lambda r: {"max_samples": 500.0 + r}, "max_samples"),
        (lambda r: {"sampler": 120 + r}, "sampler"),
        (lambda r: {"sampler": None if r else 120}, "sampler"),
        (lambda r: {"memory": 8 + r}, "memory"),
        (lambda r: {"gtol": 0.1 * r}, "gtol"),
        (lambda r: {"method": mblsr1.adam(0.1) if r else mblsr1.sgd(0.1)}, "method"),
        (lambda r: {"method": mblsr1.adam(0.1) if r else None}, "method"),
        (lambda r: {"w0": np.ones(3, np.float32 if r else np.float64)}, "w0"),
        (lambda r: {"hvp": (lambda w, v, b: v) if r else None}, "hvp"),
    ],
)
def test_ranks_that_were_given_different_arguments_are_told_so(of_rank, name):
    def program(comm):
        return run(comm, **{"sampler": 120, "batch_size": 30, **of_rank(comm.rank)})

    for error in run_on(2, program):
        with pytest.raises(ValueError, match=f"^{name}: must .*on all ranks"):
            raise error


def test_ranks_without_a_seed_that_draw_alike_run():
    """A generator in the same state, and a state of an earlier run, are as good as a seed."""

    def program(comm):
        given = {"sampler": 120, "batch_size": 30}
        first = run(comm, rng=np.random.default_rng(5), **given)
        more = run(comm, rng=None, state=first.state, **given)
        return first.nit, more.nit, more.fun

    first, second = run_on(2, program)
    assert first == second
    assert first[:2] == (6, 12)


def test_without_a_sampler_no_seed_is_needed():
    assert [result.nit for result in run_on(2, lambda comm: run(comm, rng=None))] == [6, 6]


def test_states_of_different_steps_are_refused():
    def program(comm):
        state = run(comm, max_steps=3).state
        more = run(comm, max_steps=1, state=state).state
        return run(comm, state=more if comm.rank else state)

    for error in run_on(2, program):
        with pytest.raises(ValueError, match=r"^state: must be of the same step on all ranks"):
            raise error


# --- callbacks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ways", ["returns", "raises"])
@pytest.mark.parametrize("alone", [True, False])
def test_a_callback_that_stops_one_rank_stops_all(ways, alone):
    """As one that looks at the clock does; the others may have none."""

    def program(comm):
        def stop(step):
            if comm.rank == 1 and step.step == 2:
                if ways == "raises":
                    raise StopIteration
                return True
            return None

        result = run(comm, callback=None if alone and comm.rank != 1 else stop)
        return result.nit, result.status, result.message

    found = run_on(3, program)
    assert [answer[:2] for answer in found] == [(2, 3)] * 3
    assert len(set(found)) == 1


@pytest.mark.parametrize(("answer", "kind"), [(None, OSError), (np.ones(3), TypeError)])
def test_an_exception_of_a_callback_on_one_rank_stops_all(answer, kind):
    def program(comm):
        def callback(step):
            if answer is None and step.step == 2:
                raise OSError("no such disk")
            return answer

        return run(comm, callback=callback if comm.rank == 1 else None)

    first, second, third = run_on(3, program)
    assert type(second) is kind
    for error in (first, third):
        assert type(error) is RankError
        assert str(error) == f"rank 1: {kind.__name__}: {second}"


def test_without_callbacks_nothing_is_exchanged_for_them():
    def program(comm):
        result = run(comm, max_steps=4)
        quiet = comm.exchanges
        again = run(comm, max_steps=4, callback=lambda step: None)
        return quiet, comm.exchanges - quiet, result.fun == again.fun

    assert len({asked - quiet for quiet, asked, _ in run_on(2, program)}) == 1
    ((quiet, asked, same), _) = run_on(2, program)
    assert (asked - quiet, same) == (8, True)


# --- the functions of the reduction --------------------------------------------------------------


def test_facts_are_compared_in_their_order():
    def program(comm):
        with vectors_in_parts(comm):
            _reduction.require_same({"a": 1, "b": {"x": 1, "y": 2}, "c": None})
            _reduction.require_same({"a": 1, "b: differs": comm.rank, "c": comm.rank})

    for error in run_on(2, program):
        with pytest.raises(ValueError, match=r"^b: differs$"):
            raise error


def test_within_raised_on_all_a_part_is_a_vector_of_its_own():
    def program(comm):
        with vectors_in_parts(comm):
            with _reduction.raised_on_all():
                alone = _array.dot(np.ones(2), np.ones(2))
            return alone, _array.dot(np.ones(2), np.ones(2)), _reduction.somewhere(comm.rank == 1)

    assert run_on(2, program) == [(2.0, 4.0, True)] * 2


def test_without_ranks_they_pass_things_on():
    assert not _reduction.somewhere(False)
    _reduction.require_same({"a": 1})
    with pytest.raises(StopIteration), _reduction.raised_on_all():
        raise StopIteration
