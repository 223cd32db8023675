"""MB-LSR1 one step a call: what it keeps between the steps of a loop that is not its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mblsr1 import _array
from mblsr1.checkpoint import from_tree, to_tree
from mblsr1.methods.presets import Options, mb_lsr1
from mblsr1.problem import Counts, Oracle, OverlapOracle, Problem
from mblsr1.rules.batch import counted, initial_check_state, progress_check
from mblsr1.torch.closures import Evaluation, both, gradient_alone, loss_alone, loss_or_both, takes_backward
from mblsr1.torch.draws import Batch, Draws
from mblsr1.types import Method, Outcome, Point

__all__ = ["Course"]


class _Plan(Counts):
    """Counts that know the planned cost and forbid nothing: the loop is the caller's."""

    def demand(self, size: int, thirds: int) -> None:
        """Allow the evaluation."""


class _Carried(NamedTuple):
    """What a step knows of the next start: loss and gradient there, on so many samples, which may be the whole set."""

    f: float
    g: Tensor
    size: int
    is_full: bool


class _Fresh(NamedTuple):
    """What Algorithm 6 asks for."""

    n_samples: int | None
    fresh_loss: Callable[..., list[float]]


class Course:
    """A run in single steps.

    Parameters
    ----------
    options : Options
    n_samples : int or None
        Size of the whole set.
    planned_samples : float or None
        Cost of the whole run, for annealing.
    rng : numpy.random.Generator
    draws : Draws
    """

    def __init__(
        self,
        options: Options,
        n_samples: int | None,
        planned_samples: float | None,
        rng: np.random.Generator,
        draws: Draws,
    ) -> None:
        self.options, self.n_samples, self.rng, self.draws = options, n_samples, rng, draws
        self.counts = _Plan()
        self.counts.limit(planned_samples)
        self.whole_batch = Batch()  # stands for the whole set
        self.batch_size = self.suggested = options.batch_size
        self.noise = self.progress = initial_check_state(self.batch_size)
        self.method: Method
        self.inner: Any = None
        self.carried: _Carried | None = None
        self.last: dict[str, float] = {}

    def begin(self, w: Tensor, blocks: Any, keeps_shapes: bool) -> None:
        """Start on a vector, or go on with another one: of other dtype or device, or of other parameters.

        Of those the pairs know nothing; only the radius is kept.
        """
        options = self.options if blocks is None else self.options.replace(blocks=blocks)
        whole = self.n_samples is not None and options.batch_size >= self.n_samples
        self.method = mb_lsr1(options, whole)
        before, carried = self.inner, self.carried
        self.inner, self.carried = self.method.init(w), None
        if before is None:
            return
        if keeps_shapes:
            self.inner = from_tree(self.inner, to_tree(before, copy=False), w)
            self.carried = None if carried is None else carried._replace(g=_array.adopt(carried.g, w))
        else:
            radius = self.inner.radius.with_delta(before.radius.delta)
            self.inner = self.inner._replace(radius=radius, n_restarts=before.n_restarts)

    @property
    def is_full(self) -> bool:
        """Whether the batch is the whole set."""
        return self.n_samples is not None and self.batch_size >= self.n_samples

    @property
    def batch(self) -> Batch:
        """What stands for the next step's batch."""
        return self.whole_batch if self.is_full else Batch()

    def advance(self, evaluation: Evaluation, w: Tensor) -> Any:
        """Lines 5 to 10 of Algorithm 1; returns the loss at w."""
        oracle, point = self._start(evaluation, w)
        first = evaluation.first
        self.carried = None
        if point.g is None or math.isinf(point.f):
            self.draws.end_step(False)
            self._record(point, math.nan, {"alpha": 0.0})
            return first
        grad_norm = oracle.norm_at(point)
        self.inner, outcome = self.method.step(oracle, self.inner, point, self.rng)
        evaluation.flat.load(outcome.w)
        self.draws.end_step(outcome.w is not w)
        self._carry(oracle, outcome)
        self._count(oracle, outcome)
        self._record(point, grad_norm, {"loss_after": outcome.f, **outcome.scalars})
        return torch.as_tensor(point.f, dtype=w.dtype, device=w.device) if first is None else first

    def check(self, evaluation: Evaluation, size: int, w: Tensor) -> None:
        """Algorithm 6, on the samples of this evaluation."""
        o = self.options
        rule = progress_check(1, o.progress_decrease, o.progress_fraction, o.check_size, o.check_both)
        functions = (loss_alone, gradient_alone) if takes_backward(evaluation.closure) else (loss_or_both, None)
        oracle = self._problem(w, *functions).bind(evaluation, size, False)

        def fresh_loss(_: int, *iterates: Tensor) -> list[float]:
            return [oracle.loss(iterate) for iterate in iterates]

        before = self.progress._replace(size=self.batch_size)
        nothing = Outcome(w, math.nan, None, 0.0, {})
        self.progress = rule(before, nothing, _Fresh(self.n_samples, fresh_loss))
        self._suggest(self.progress.size)

    def _suggest(self, size: int) -> None:
        """Suggest a batch of this size, unless more was suggested before and the caller has not followed."""
        self.suggested = max(self.suggested, size)

    def _problem(self, w: Tensor, fun: Callable[..., Any] = both, grad: Callable[..., Any] | None = None) -> Problem:
        problem = Problem(fun, grad, None, w, True, self.counts)
        problem.over_whole_set(self.n_samples, lambda size: ())
        return problem

    def _start(self, evaluation: Evaluation, w: Tensor) -> tuple[Oracle, Point]:
        """The batch with loss and gradient at w, taking over what the last step knows there."""
        oracle = self._with_carried(self._problem(w), evaluation, w)
        point = oracle.point(w)
        if self.options.globalization == "line-search" and takes_backward(evaluation.closure) and point.g is not None:
            problem = self._problem(w, loss_alone, gradient_alone)
            oracle = problem.bind(evaluation, self.batch_size, self.is_full)
            oracle.remember(w, point.f, point.g)
        return oracle, point

    def _with_carried(self, problem: Problem, evaluation: Evaluation, w: Tensor) -> Oracle:
        oracle, carried = problem.bind(evaluation, self.batch_size, self.is_full), self.carried
        known = carried if carried is not None and carried.is_full == self.is_full else None
        if self.is_full or not self.method.overlap:
            if known is not None:
                oracle.remember(w, known.f, known.g)
            return oracle
        if known is None:
            return OverlapOracle([oracle], oracle)
        taken = problem.bind(None, known.size, False)
        taken.remember(w, known.f, known.g)
        return OverlapOracle([taken, oracle], oracle)

    def _carry(self, oracle: Oracle, outcome: Outcome) -> None:
        """Keep what is known of the new iterate, where the next step's batch contains this one."""
        known = Point(outcome.w, outcome.f, outcome.g) if oracle.is_full else oracle.shared.remembered
        if known.w is outcome.w and known.g is not None and (oracle.is_full or self.method.overlap):
            self.carried = _Carried(known.f, known.g, self.batch_size, oracle.is_full)

    def _count(self, oracle: Oracle, outcome: Outcome) -> None:
        """Line 10: the rule of the batch size, where the step itself tells; and count until the next check."""
        self.progress = counted(self.progress, outcome)
        if self.options.growth == "noise" and self.method.overlap and self.method.batch_rule is not None:
            before = self.noise._replace(size=oracle.size)
            self.noise = self.method.batch_rule(before, outcome, oracle.problem)
            if self.noise.size > before.size:
                self._suggest(2 * self.batch_size)

    def _record(self, point: Point, grad_norm: float, scalars: dict[str, float]) -> None:
        self.last = {
            "loss": point.f, "grad_norm": grad_norm, **scalars, "batch_size": self.batch_size,
            "n_samples": self.counts.n_samples, "nfev": self.counts.nfev, "njev": self.counts.njev,
        }  # fmt: skip

    def to_saved(self) -> dict[str, Any]:
        """Everything that a later run needs, as a tree; the arrays themselves, not copies."""
        return {
            "rng": self.rng.bit_generator.state,
            "draws": self.whole_batch.states,
            **{name: to_tree(getattr(self, name), copy=False) for name in (*_NUMBERS, *_TREES, "counts", "carried")},
        }

    def restore(self, saved: dict[str, Any], like: Tensor) -> None:
        """Go on from `to_saved`, with arrays like this one; where that fails, nothing has changed."""
        values = {name: saved[name] for name in _NUMBERS}
        carried, draws = saved["carried"], saved["draws"]
        values["carried"] = None if carried is None else _Carried(**{**carried, "g": _array.adopt(carried["g"], like)})
        states = None if draws is None else [state.cpu() for state in draws]
        Counts().restore(saved["counts"])
        np.random.Generator(type(self.rng.bit_generator)()).bit_generator.state = saved["rng"]
        values.update({name: from_tree(getattr(self, name), saved[name], like) for name in _TREES})
        self.rng.bit_generator.state = saved["rng"]
        self.counts.restore(saved["counts"])
        self.whole_batch.states = states
        vars(self).update(values)


#: Attributes that are saved as they are, and as trees.
_NUMBERS, _TREES = ("batch_size", "suggested", "last"), ("noise", "progress", "inner")
