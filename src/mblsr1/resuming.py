"""A run as a tree, and a run that goes on from one. It may come from a file: nothing in it is taken for granted."""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from mblsr1 import _array, _reduction
from mblsr1._array import Array
from mblsr1.batches import Batches
from mblsr1.checkpoint import CheckpointFile, State, from_tree, packed, to_tree, unpacked
from mblsr1.methods.presets import Options
from mblsr1.problem import Counts, Problem
from mblsr1.rules.batch import initial_check_state
from mblsr1.rules.exit import ExitState
from mblsr1.types import MESSAGES, Carried, CheckState, Method, Point, Status

__all__ = ["Resumable", "content", "restore", "settings_of", "snapshot", "take_up"]

#: Settings that shape no part of a state: the same call may change them.
_FREE = {"gtol"}
#: Settings that decide what the batch in hand is.
_OF_BATCHES = ("overlap", "steps_per_batch", "globalization", "growth")


class Resumable(Protocol):
    """What a run keeps: first what goes on from a state, then what only the same call takes up."""

    method: Method
    problem: Problem
    options: Options
    settings: dict[str, Any]
    n_samples: int | None
    w: Array
    step: int
    inner: Any
    check: CheckState
    exit: ExitState
    average: Carried
    counts: Counts
    rng: np.random.Generator
    batches: Batches
    known: Point | None

    file: CheckpointFile | None
    first_step: int
    first_cost: float
    status: Status | None
    budgets: list[float | None]
    good: Point | None
    end: tuple[Point, dict[str, int]] | None
    keep_history: bool
    history: dict[str, list[float]]

    def stops_again(self) -> bool:
        """Whether the callback, asked again about the last step, stops the run."""


def snapshot(run: Resumable, copy: bool) -> State:
    """Everything that a later run needs, as a tree."""
    tree = {
        "method": run.method.name,
        "shape": list(run.problem.shape),
        "settings": run.settings,
        "step": run.step,
        "w": run.w,
        "inner": run.inner,
        "check": run.check,
        "exit": run.exit,
        "average": run.average,
        "counts": run.counts,
        "rng": run.rng.bit_generator.state,
        "batches": run.batches.to_saved(run.check.size),
        "known": run.known if run.batches.serves_on(run.check.size) else None,
    }
    return State(to_tree(tree, copy))


def content(run: Resumable, state: State) -> dict[str, Any]:
    """What a checkpoint holds: the state, and what only this call knows."""
    this = {
        "first_step": run.first_step,
        "start": run.counts.start,
        "status": None if run.status is None else int(run.status),
        "budgets": run.budgets,
        "gtol": run.options.gtol,
        "good": _saved_point(run, run.good),
        "end": None if run.end is None else {"at": _saved_point(run, run.end[0]), "counts": run.end[1]},
        "history": packed(run.history) if run.keep_history else None,
    }
    return {"state": state.tree, "run": this}


def restore(run: Resumable, state: Any, argument: str) -> None:
    """Go on from a state, where there is one; on a set of another size, or with other batches, these start anew."""
    if state is None:
        return
    if not isinstance(state, State):
        raise TypeError(f"state: must be result.state, step.state or from load_state, got {type(state).__name__}")
    tree = state.tree
    lacking = sorted({"method", *snapshot(run, copy=False).tree} - set(tree))
    if lacking:
        raise ValueError(f"{argument}: lacks {lacking[0]!r}; it must be result.state, step.state or from load_state")
    with _reduction.raised_on_all(), _reading(argument):
        if tree["method"] != run.method.name or tuple(tree["shape"]) != run.problem.shape:
            raise ValueError(
                f"is of method {tree['method']!r} and shape {tuple(tree['shape'])}, this run is "
                f"{run.method.name!r} with w0 of shape {run.problem.shape}"
            )
        unlike = _difference(tree["settings"], run.settings)
    if unlike and argument == "checkpoint":
        raise ValueError(f"checkpoint: was written with {unlike}; to start anew, remove the file")
    with _reduction.raised_on_all(), _reading(argument, unlike):
        _take_over(run, tree)
        same_batches = _has_same_batches(tree["settings"], run.settings)
        known = _take_over_batch(run, tree) if same_batches else None
    if same_batches:
        run.batches.restore(tree["batches"], run.check.size, run.w)  # draws: an exception of the sampler is its own
    run.known = known
    run.rng.bit_generator.state = tree["rng"]


def _take_over(run: Resumable, tree: Mapping[str, Any]) -> None:
    run.w = _vector(tree["w"], run.w)
    if not _array.all_finite(run.w):
        raise ValueError("its iterate must be finite")
    run.step = _count(tree, "step")
    run.inner = from_tree(run.inner, tree["inner"], run.w)
    run.average = from_tree(run.average, tree["average"], run.w)
    run.counts.restore(tree["counts"])
    run.rng = run.batches.rng = _generator(tree["rng"], run.rng)
    if _has_same_sizes(tree["settings"], run.settings):
        size = _count(tree["check"], "size", 1, math.inf if run.n_samples is None else run.n_samples)
        run.check = initial_check_state(size)


def _take_over_batch(run: Resumable, tree: Mapping[str, Any]) -> Point | None:
    """Take over what belongs to the batch in hand; return what is known of the iterate on it."""
    run.check = from_tree(run.check, tree["check"], run.w)
    run.exit = from_tree(run.exit, tree["exit"], run.w)
    _check_batches(tree["batches"], run.w, run.rng)
    known = tree["known"]
    return None if known is None or known["g"] is None else _point(run, {**known, "w": None})


def take_up(run: Resumable, saved: Mapping[str, Any], max_samples: float | None) -> None:
    """Go on as the call that wrote the checkpoint; where that had ended, so has this one, unless it would go on now."""
    with _reduction.raised_on_all(), _reading("checkpoint"):
        run.first_step = _count(saved, "first_step")
        run.counts.limit(max_samples, _count(saved, "start"))
        run.first_cost = run.counts.start / 3
        run.good = _point(run, saved["good"])
        if saved["history"] is not None:
            run.history = unpacked(saved["history"])
        end = saved["end"]
        at = None if end is None else _point(run, end["at"])
        status = None if saved["status"] is None else Status(saved["status"])
        goes_on = status is None or _goes_on_after(run, status, saved)
    if goes_on or (status is Status.STOPPED and not run.stops_again()):
        return
    run.status = status
    run.end = None if at is None else (at, end["counts"])
    if status in (Status.NON_FINITE, Status.NO_PROGRESS) and run.file is not None:
        warnings.warn(
            f"checkpoint: the run in {str(run.file.path)!r} had ended: {MESSAGES[status]}; to go on from it, pass "
            "state=mblsr1.load_state(...) and another file; to start anew, remove it",
            RuntimeWarning,
            stacklevel=4,
        )


def _goes_on_after(run: Resumable, status: Status, saved: Mapping[str, Any]) -> bool:
    """Whether this call has another setting than the one by which the run in the checkpoint had ended."""
    if status is Status.CONVERGED:
        return bool(run.options.gtol < saved["gtol"])
    return status in (Status.STEP_BUDGET, Status.SAMPLE_BUDGET) and bool(saved["budgets"] != run.budgets)


def settings_of(options: Options, obeyed: Collection[str] | None, n_samples: int | None, w: Array) -> dict[str, Any]:
    """Return what a state is made with, as numbers and text: options (those that are `obeyed`), set and dtype."""
    fields = [field.name for field in dataclasses.fields(options) if obeyed is None or field.name in obeyed]
    values = {name: getattr(options, name) for name in fields}
    plain = {name: "a function" if callable(value) else value for name, value in values.items()}
    dtype = _array.spec(w)[1].rpartition(".")[2]
    return {**json.loads(json.dumps(plain)), "n_samples": n_samples, "dtype": dtype}


def _difference(saved: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the first setting that was another one, in words; empty where all are the same."""
    for name, value in now.items():
        if name not in _FREE and saved.get(name) != value:
            return f"{name}={saved.get(name)!r}, this call has {value!r}"
    return ""


def _has_same_sizes(saved: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the set and the first batch are as large."""
    sizes = [s["batch_size"] if s["n_samples"] is None else min(s["batch_size"], s["n_samples"]) for s in (saved, now)]
    return bool(saved["n_samples"] == now["n_samples"] and sizes[0] == sizes[1])


def _has_same_batches(saved: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the batch in hand, and what is known on it, serve this run too."""
    return _has_same_sizes(saved, now) and all(saved.get(name) == now.get(name) for name in _OF_BATCHES)


@contextmanager
def _reading(argument: str, unlike: str = "") -> Iterator[None]:
    """Make any error in a tree that is not as it should be a ValueError that names the argument."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        text = str(error).removeprefix("state: ")
        reason = f"lacks {text}" if isinstance(error, LookupError) else text
        hint = f"; it was made with {unlike}" if unlike else ""
        raise ValueError(f"{argument}: {reason}{hint}") from error


def _count(tree: Mapping[str, Any], name: str, low: int = 0, high: float = math.inf) -> int:
    """Return an entry that must be an int in [low, high]."""
    value: Any = tree[name]
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not low <= int(value) <= high:
        raise ValueError(f"its {name!r} must be an int in [{low}, {high}], got {value!r:.60}")
    return int(value)


def _vector(saved: Any, like: Array) -> Array:
    """Return a saved vector as one like `like`, of the same length."""
    _check_vector(saved, like)
    return _array.adopt(saved, like)


def _check_vector(saved: Any, like: Array) -> None:
    if not _array.is_array(saved) or tuple(saved.shape) != tuple(like.shape):
        raise ValueError(f"must hold vectors of shape {tuple(like.shape)}, got {getattr(saved, 'shape', saved)!r:.60}")


def _generator(saved: Mapping[str, Any], rng: np.random.Generator) -> np.random.Generator:
    """Return a generator in the saved state: `rng` where it is of that kind."""
    kind: Any = getattr(np.random, str(saved["bit_generator"]), None)
    is_kind = isinstance(kind, type) and issubclass(kind, np.random.BitGenerator)
    if not is_kind or kind is np.random.BitGenerator:
        raise ValueError(f"needs a bit generator of NumPy, got {saved['bit_generator']!r:.60}")
    if type(rng.bit_generator) is not kind:
        rng = np.random.Generator(kind())
    rng.bit_generator.state = saved
    return rng


def _check_batches(saved: Mapping[str, Any], w: Array, rng: np.random.Generator) -> None:
    """Raise an error where a batch cannot be drawn again from what was saved of it. Moves the generator."""
    _count(saved, "used")
    states, points, taken = [saved["before_draw"]], [saved["shared"]], saved["taken"]
    if taken is not None:
        _count(taken, "size", 1)
        states.append(taken["rng"])
        points.append(taken["at"])
    for state in states:
        if state is not None:
            rng.bit_generator.state = state
    for point in points:
        if point is not None and point["g"] is not None:
            float(point["f"])
            _check_vector(point["g"], w)


def _saved_point(run: Resumable, point: Point | None) -> dict[str, Any] | None:
    return None if point is None else {"w": None if point.w is run.w else point.w, "f": point.f, "g": point.g}


def _point(run: Resumable, saved: Mapping[str, Any] | None) -> Point | None:
    if saved is None:
        return None
    w, g = (None if saved[name] is None else _vector(saved[name], run.w) for name in "wg")
    return Point(run.w if w is None else w, float(saved["f"]), g)
