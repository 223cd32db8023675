"""One run: Algorithm 1, the loop that every method runs in. It knows no method."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from scipy.optimize import OptimizeResult

from mblsr1 import _array, _reduction
from mblsr1._array import Array
from mblsr1.arguments import (
    DRIVER_OPTIONS,
    check_budgets,
    check_functions,
    check_whole_set,
    checked_checkpoint,
    checked_options,
    checked_rng,
    checked_start,
    size_of,
)
from mblsr1.batches import Batches
from mblsr1.checkpoint import State
from mblsr1.checks import stops
from mblsr1.methods.presets import mb_lsr1
from mblsr1.problem import CHUNK, GRADIENT, BudgetSpent, Counts, Oracle, OverlapOracle, Problem
from mblsr1.resuming import content, restore, settings_of, snapshot, take_up
from mblsr1.rules.averaging import added
from mblsr1.rules.batch import checked_size, counted, fixed, initial_check_state, sample_size
from mblsr1.rules.exit import ExitState, exit_check
from mblsr1.sampling import checked_sampler
from mblsr1.types import MESSAGES, NAN, Carried, Method, Outcome, Point, Status

__all__ = ["Result", "Run", "Step"]

#: Steps of a run without any budget: deterministic, from a sampler.
_DEFAULT_STEPS = {True: 15_000, False: 1_000}
#: A stream's stand-in for the whole set, in batches.
_STREAM_CHECK = 10
#: Columns that every history has, whatever the method.
_FIRST, _LAST = ("step", "loss", "loss_after", "grad_norm"), ("batch_size", "n_samples", "nfev", "njev")
_COLUMNS = ("rho", "rho_hat", "radius", "alpha", "sigma", "step_norm", "decrease", "predicted", "slope", "noise")


class Step:
    """Record of one step: the history's scalars as attributes, `x` and `state`.

    Attributes
    ----------
    x : array
        The iterate after the step, in the user's shape. It is the run's own memory, in NumPy read-only: copy it to
        change it.
    state : State
        For `save_state`, or to continue from here. A copy, made when asked for; only until the
        next step is made. Where one of the user's functions raised an exception in the next step, it may
        have some of that step's work: a run that continues from it is sound, but not bit for bit as if nothing
        had happened. After an interrupt (Ctrl-C) in the middle of a step it is gone.
    scalars : dict
        All scalars by name.
    """

    __slots__ = ("_run", "scalars", "x")

    def __init__(self, run: Run, scalars: dict[str, float], x: Array) -> None:
        self._run, self.scalars, self.x = run, scalars, x

    def __getattr__(self, name: str) -> Any:
        try:
            return object.__getattribute__(self, "scalars")[name]
        except KeyError:
            raise AttributeError(f"Step has no scalar {name!r}; it has {', '.join(self.scalars)}") from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.scalars]

    def __repr__(self) -> str:
        return f"Step(step={self.step}, loss={self.loss:.6g}, n_samples={self.n_samples})"

    @property
    def state(self) -> State:
        """The run's state after this step."""
        if self._run.step != self.step:
            raise RuntimeError(f"the state of step {self.step} is gone: read it before the next step is made")
        if not self._run.is_sound:
            raise RuntimeError("the run was interrupted in the middle of a step: go on from an earlier state")
        return self._run.snapshot(copy=True)


class Result(OptimizeResult):  # type: ignore[misc]
    """What a run leaves; in print the history is one line instead of all its numbers."""

    def __repr__(self) -> str:
        shown = OptimizeResult(self)
        if "history" in shown:
            columns = shown["history"]
            shown["history"] = f"{len(columns)} columns of {len(columns.get('step', ()))} steps: {', '.join(columns)}"
        return repr(shown)


class Run:
    """One run: what Algorithm 1 keeps between its lines."""

    def __init__(
        self, fun: Any, grad: Any, w0: Any, sampler: Any, method: Any, options: Any, rng: Any, max_steps: Any,
        max_samples: Any, callback: Any, state: Any, hvp: Any, checkpoint: Any, checkpoint_every: Any,
        changes: dict[str, Any], keep_history: bool,
    ) -> None:  # fmt: skip
        with _reduction.raised_on_all():  # what one rank cannot use
            self.options = checked_options(method, options, changes)
            w0 = checked_start(w0)
            check_functions(fun, grad, hvp, callback)
            check_budgets(max_steps, max_samples)
            self.file = checked_checkpoint(checkpoint, checkpoint_every)
            self.sampler = checked_sampler(sampler)
            self.n_samples = size_of(self.sampler)
            check_whole_set(self.n_samples, self.options.check_size, method)
            whole = self.n_samples is not None and self.options.batch_size >= self.n_samples
            self.method: Method = mb_lsr1(self.options, whole) if method is None else method
            self.rng = checked_rng(rng)
        self.callback, self.asks = callback, _reduction.somewhere(callback is not None)
        self.w: Array = _array.copy(_array.flatten(w0))
        self._require_same(hvp, max_steps, max_samples)
        saved = None if self.file is None else self.file.load()
        state = state if saved is None else State(saved["state"])
        self._require_same_state(state)
        self.inner: Any = self.method.init(self.w)
        size = self.options.batch_size if self.n_samples is None else min(self.options.batch_size, self.n_samples)
        self.check = initial_check_state(size)
        self.settings = settings_of(self.options, None if method is None else DRIVER_OPTIONS, self.n_samples, self.w)
        if method is None and (self.n_samples is None or size < self.n_samples):
            sample_size(self.options.check_size, size, self.n_samples)  # a rule of the user: tried once
        self.exit = ExitState()
        self.average = Carried()
        self.batch_rule = self.method.batch_rule or fixed()
        self.step = 0
        self.known: Point | None = None  # loss and gradient at w on the batch in hand
        self.counts = Counts()
        self.problem = Problem(fun, None if grad is True else grad, hvp, w0, self.sampler is not None, self.counts)
        self.batches = Batches(self.problem, self.sampler, self.rng, self.method.overlap, self.options.steps_per_batch)
        self.problem.over_whole_set(self.n_samples, self.batches.chunks)
        restore(self, state, "state" if saved is None else "checkpoint")
        self.keep_history = keep_history
        self.history: dict[str, list[float]] = {name: [] for name in (*_FIRST, *_COLUMNS, *_LAST)}
        self._begin(max_steps, max_samples)
        if saved is None:
            self._save()
        elif "run" in saved:
            take_up(self, saved["run"], max_samples)

    def _begin(self, max_steps: Any, max_samples: Any) -> None:
        """Set what belongs to this call: budgets, and what is known of its iterates."""
        self.first_step, self.first_cost = self.step, self.counts.n_samples
        self.max_steps = _DEFAULT_STEPS[self.sampler is None] if max_steps is max_samples is None else max_steps
        self.counts.limit(max_samples)
        self.budgets = [None if x is None else float(x) for x in (self.max_steps, max_samples)]
        self.status: Status | None = None
        self.good: Point | None = self.known  # the last iterate at which loss and gradient were finite
        self.unsound: Point | None = None  # where they were not
        self.end: tuple[Point, dict[str, int]] | None = None  # what the result of a finished run shows: its last point
        self.is_sound = True

    def _require_same(self, hvp: Any, max_steps: Any, max_samples: Any) -> None:
        """Raise a ValueError where ranks with parts of the vectors were given what makes them decide otherwise."""
        numbers = {name: x for name, x in vars(self.options).items() if isinstance(x, int | float | str | None)}
        given = {"method": self.method.name, "max_steps": max_steps, "max_samples": max_samples, **numbers}
        _reduction.require_same({
            "checkpoint: must be given on all ranks or on none": self.file is None,
            "hvp: must be given on all ranks or on none": hvp is None,
            "w0: must have the same dtype on all ranks": str(self.w.dtype),
            "sampler: must have the same n_samples on all ranks": (self.sampler is None, self.n_samples),
            **{f"{name}: must be the same on all ranks": value for name, value in given.items()},
        })  # fmt: skip

    def _require_same_state(self, state: Any) -> None:
        """The same of where they begin."""
        tree = getattr(state, "tree", {})
        drawn = None if self.sampler is None else tree.get("rng", self.rng.bit_generator.state)
        _reduction.require_same({
            "state: must be of the same step on all ranks": tree.get("step"),
            "rng: must be the same seed on all ranks, not None": drawn,
        })  # fmt: skip

    def steps(self) -> Iterator[Step]:
        """Algorithm 1, lines 4-11."""
        while self.status is None and not self._out_of_steps():
            try:
                with _array.quiet():
                    step = self._advance()
            except Exception:  # one of the user's functions, called where the state is sound
                raise
            except BaseException:
                self.is_sound = False
                raise
            if step is None:
                return
            try:
                yield step
                self._ask(step)
            except BaseException:  # between two steps, where the state is whole
                if not (self._out_of_steps() and self.keep_history):  # the result of the last one needs its batch
                    self._save(together=False)
                raise
            if self.file is not None and self.file.is_due and not self._out_of_steps():
                self._save()

    def steps_alone(self) -> Iterator[Step]:
        """The steps of a run without a result."""
        yield from self.steps()
        self._save()

    def _advance(self) -> Step | None:
        """Lines 5-10; None where the run ends before the step. A step that the budget cuts short is not made."""
        oracle = self._draw()
        rng_before = self.rng.bit_generator.state
        try:
            point = self._point(oracle)
            if not self._is_sound(point) or self._converged(oracle, point):
                return None
            inner, outcome = self.method.step(oracle, self.inner, point, self.rng)  # lines 5, 8, 9
        except BudgetSpent:
            self.rng.bit_generator.state = rng_before
            self.status = Status.SAMPLE_BUDGET
            return None
        if not (math.isfinite(outcome.f) or _array.all_finite(outcome.w)):
            self.status = Status.NON_FINITE
            return None
        self._check_progress(outcome)  # line 10, the last that calls the user's functions: the step is made after it
        self.inner = inner
        self._commit(outcome)  # line 6
        if outcome.stuck:
            self.status = Status.NO_PROGRESS
        return self._record(point, outcome)

    def _check_progress(self, outcome: Outcome) -> None:
        rng_before = self.rng.bit_generator.state
        try:
            self.check = checked_size(self.batch_rule(self.check, outcome, self), self.n_samples)
        except BudgetSpent as spent:
            self.rng.bit_generator.state = rng_before
            self.check = counted(self.check, outcome)
            if not spent.too_large:  # a check that max_samples never allows is left out
                self.status = Status.SAMPLE_BUDGET

    def _out_of_steps(self) -> bool:
        if self.max_steps is not None and self.step - self.first_step >= self.max_steps:
            self.status = Status.STEP_BUDGET
        return self.status is not None

    def _draw(self) -> Oracle:
        """The batch of the next step; what is known of the iterate belongs to the batch before."""
        oracle, fresh = self.batches.draw(self.check.size)
        if fresh or isinstance(oracle, OverlapOracle):
            self.known = None
        return oracle

    def _point(self, oracle: Oracle) -> Point:
        """Loss and gradient at w on the batch, evaluated unless the last step left them."""
        if self.known is not None and self.known.g is not None:
            return self.known
        return oracle.point(self.w, self.method.needs_loss)

    def _is_sound(self, point: Point) -> bool:
        if point.g is None or math.isinf(point.f):
            self.status = Status.NON_FINITE
            self.unsound = point
            return False
        self.good = self.known = point
        return True

    def _converged(self, oracle: Oracle, point: Point) -> bool:
        """Line 7: Algorithm 2, before the step (reading 16)."""
        self.grad_norm = oracle.norm_at(point)
        done, self.exit = exit_check(
            self.exit, self.grad_norm, self.options.gtol, self.options.check_every, oracle.is_full,
            lambda: self._full_gradient_norm(point.w),
        )  # fmt: skip
        if done:
            self.status = Status.CONVERGED
        return done

    def _full_gradient_norm(self, w: Array) -> float:
        """Norm of the gradient over the whole set, or many samples of a stream; inf where the budget has not enough."""
        rng_before = self.rng.bit_generator.state
        try:
            g = self._full_gradient(w)
        except BudgetSpent:  # a check that is left out: the run goes on
            self.rng.bit_generator.state = rng_before
            return math.inf
        return math.inf if g is None else _array.norm(g)

    def _full_gradient(self, w: Array) -> Array | None:
        chunks = getattr(self.sampler, "chunks", None)
        if chunks is None:
            size = max(CHUNK, _STREAM_CHECK * self.check.size)
            size = size if self.n_samples is None else min(size, self.n_samples)
            self.counts.demand(size, GRADIENT)  # before anything is drawn
            return self.batches.bind(size).gradient(w)
        if self.n_samples is None:
            return self.problem.full_gradient(w, chunks(max(CHUNK, self.check.size)))
        return self.problem.whole_gradient(w, self.check.size)

    def fresh_loss(self, size: int, *iterates: Array) -> list[float]:
        """Losses on one fresh sample: the check of Algorithm 6."""
        oracle = self.batches.bind(size)
        return [oracle.loss(w) for w in iterates]

    def _commit(self, outcome: Outcome) -> None:
        self.w = outcome.w
        self.step += 1
        self.batches.made_step()
        self.known = Point(outcome.w, outcome.f, outcome.g)
        if outcome.g is not None:
            self.good = self.known
        if self.options.averaging > 0.0:
            self.average = added(self.average, self.w, self.options.averaging)

    def _record(self, point: Point, outcome: Outcome) -> Step:
        scalars: dict[str, float] = {
            "step": self.step,
            "loss": point.f,
            "loss_after": outcome.f,
            "grad_norm": self.grad_norm,
            **dict.fromkeys(_COLUMNS, NAN),
            **outcome.scalars,
            "batch_size": 1 if self.sampler is None or self.batches.oracle is None else self.batches.oracle.size,
            "n_samples": self.counts.n_samples,
            "nfev": self.counts.nfev,
            "njev": self.counts.njev,
        }
        for name, value in scalars.items() if self.keep_history else ():
            self.history.setdefault(name, []).append(value)
        return self._step_at(scalars)

    def _step_at(self, scalars: dict[str, float]) -> Step:
        return Step(self, scalars, _array.shown(_array.reshape(self.w, self.problem.shape)))

    def _ask(self, step: Step) -> None:
        if not self.asks:
            return
        with _reduction.raised_on_all():
            try:
                stop = self.callback is not None and stops(self.callback(step))
            except StopIteration:
                stop = True
        if _reduction.somewhere(stop) and self.status is None:
            self.status = Status.STOPPED

    def stops_again(self) -> bool:
        """Ask the callback once more about the last step that the history has."""
        last = {name: column[-1] for name, column in self.history.items() if column}
        if last:
            self._ask(self._step_at(last))
        stopped, self.status = self.status is not None, None
        return stopped

    def result(self) -> Result:
        """Collect what the run leaves."""
        if self.status is Status.NON_FINITE and self.good is not None:
            self.w = self.good.w
        state = self.snapshot(copy=False)  # first: what the last point costs is no part of a continued run
        if self.end is None:
            with _array.quiet():
                self.end = self._last_point(), self.counts.to_saved()
        last, counts = self.end
        self.counts.restore(counts)
        state.tree["w"] = self.w
        self._save(state)
        status = Status.STOPPED if self.status is None else self.status
        scalar = {name: column[-1] for name, column in self.history.items() if column}
        return Result(
            x=self._given(last.w), fun=last.f, jac=None if last.g is None else self._given(last.g),
            nit=self.step, nfev=self.counts.nfev, njev=self.counts.njev, n_samples=self.counts.n_samples,
            success=status is Status.CONVERGED, status=int(status), message=MESSAGES[status],
            batch_size=self.check.size, radius=scalar.get("radius", NAN),
            n_restarts=int(scalar.get("n_restarts", 0)), n_skipped=int(scalar.get("n_skipped", 0)),
            history=self.history, state=state, **self._averaged(),
        )  # fmt: skip

    def _averaged(self) -> dict[str, Array]:
        """The mean of the iterates, where it was asked for and a step was made."""
        if self.average.vector is None:
            return {}
        return {"x_average": self._given(self.average.vector)}

    def _given(self, x: Array) -> Array:
        """A vector for the user to do with as they like: the state keeps its own."""
        return _array.owned(_array.reshape(x, self.problem.shape))

    def _last_point(self) -> Point:
        """The newest iterate that can be vouched for, with its loss and gradient."""
        good = self.good
        if good is None:
            return self.unsound or Point(self.w, NAN, None)
        if good.w is self.w and not math.isnan(good.f):
            return good
        if self.batches.oracle is None:
            return Point(self.w, good.f, good.g)
        try:
            point = self.batches.oracle.point(self.w)
        except BudgetSpent:
            return Point(self.w, good.f, good.g)
        if point.g is None or math.isinf(point.f):
            self.status, self.w = Status.NON_FINITE, good.w
            return good
        return point

    def snapshot(self, copy: bool) -> State:
        """Everything that a later run needs, as a tree."""
        return snapshot(self, copy)

    def _save(self, state: State | None = None, together: bool = True) -> None:
        """Write the checkpoint, where there is one: the state, and what only this call knows."""
        if self.file is not None:
            self.file.save(content(self, self.snapshot(copy=False) if state is None else state), together)
