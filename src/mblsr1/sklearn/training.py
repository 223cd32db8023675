"""The run of an estimator: passes over the data, early stopping, and a step on a chunk."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import OptimizeResult
from sklearn.exceptions import ConvergenceWarning

from mblsr1 import _array
from mblsr1.checkpoint import State
from mblsr1.minimize import Step, minimize
from mblsr1.sampling import ArraySampler, StreamSampler
from mblsr1.sklearn.network import Floats, Network
from mblsr1.types import Status

__all__ = ["Passes", "Patience", "step_on_chunk", "train"]

#: Rows of X, targets, weights of mean 1.
Data = tuple[Any, Any, Floats]


class Patience(NamedTuple):
    """What ends a run before its gradient is small: `passes` passes in a row without a gain of `tol`.

    Attributes
    ----------
    score : callable or None
        ``score(w)`` on the validation set; None where the gain is that of the training loss.
    """

    score: Callable[[Floats], float] | None
    tol: float
    passes: int


class Passes:
    """The driver's callback: sums steps up to passes over the data, and ends the run where patience does.

    A pass is one step or more that together cost as much as the gradients of all samples; the first one has the
    gradient at the start for free.

    Attributes
    ----------
    losses : list of float
        Mean loss of the batches of each pass, before its steps.
    scores : list of float
        Score after each pass: that of the validation set, else minus the loss.
    best : array or None
        Weights of the best validation score.
    """

    def __init__(self, n_samples: int, first: int, patience: Patience | None, verbose: Any) -> None:
        self.n_samples, self.first, self.patience, self.verbose = n_samples, first, patience, verbose
        self.losses: list[float] = []
        self.scores: list[float] = []
        self.best: Floats | None = None
        self.stopped = False
        self._open: list[float] = []
        self._waited = 0

    def __call__(self, step: Step) -> bool:
        """Take in a step; whether the run is to end."""
        self._open.append(step.loss)
        if step.n_samples >= self.first + self.n_samples * (len(self.losses) + 1):
            self.close(step.x)
        return self.stopped

    def close(self, w: Floats) -> None:
        """End the pass in hand at w, if a step was made in it."""
        if not self._open:
            return
        self.losses.append(float(np.mean(self._open)))
        self._open = []
        if self.verbose:
            print(f"Iteration {len(self.losses)}, loss = {self.losses[-1]:.8f}")
        if self.patience is not None:
            self._judge(w, self.patience)

    def _judge(self, w: Floats, patience: Patience) -> None:
        best = max(self.scores, default=-np.inf)
        score = -self.losses[-1] if patience.score is None else patience.score(w)
        if patience.score is not None and score > best:
            self.best = w.copy()
        if patience.score is not None and self.verbose:
            print(f"Validation score: {score:.6f}")
        self.scores.append(score)
        self._waited = self._waited + 1 if score < best + patience.tol else 0
        self.stopped = self._waited > patience.passes


def train(
    network: Network, w: Floats, data: Data, rng: np.random.Generator, max_iter: int, options: dict[str, Any],
    patience: Patience | None, verbose: Any,
) -> tuple[Floats, Passes]:  # fmt: skip
    """Minimise the loss from w; a ConvergenceWarning where `max_iter` passes do not suffice."""
    sampler = ArraySampler(*data)
    n = len(data[2])
    first = min(options["batch_size"], n)  # evaluated at the start
    passes = Passes(n, first, patience, verbose)
    # on all samples a step is a pass, however often it is re-solved
    budget = {"max_steps": max_iter} if first == n else {"max_samples": first + max_iter * n}
    result = minimize(
        network.loss_and_gradient, True, w, sampler, rng=rng, callback=passes, largest_share=1.0, **budget, **options
    )
    passes.close(result.x)
    if not (passes.stopped or _has_converged(result, options["gtol"])):
        _warn(result, max_iter)
    return (result.x if passes.best is None else passes.best), passes


def _has_converged(result: OptimizeResult, gtol: float) -> bool:
    """Whether the end is a minimum; after the last step on all samples the driver does not look any more."""
    if result.status == Status.STEP_BUDGET:
        return _array.norm(result.jac) <= gtol
    return result.status == Status.CONVERGED or (result.status == Status.NO_PROGRESS and _at_rounding(result))


def _warn(result: OptimizeResult, max_iter: int) -> None:
    if result.status in (Status.STEP_BUDGET, Status.SAMPLE_BUDGET):
        text = f"max_iter={max_iter} passes over the data are used up; raise max_iter or tol, or scale the features"
    else:
        text = f"{result.message}; scale the features"
    warnings.warn(f"MB-LSR1 did not converge: {text}.", ConvergenceWarning, stacklevel=5)  # the line that calls fit


def _at_rounding(result: OptimizeResult) -> bool:
    """Whether the gradient has become as small as the precision allows, beside its largest norm in the run."""
    largest = max(result.history["grad_norm"], default=0.0)
    return bool(_array.norm(result.jac) <= np.sqrt(np.finfo(result.x.dtype).eps) * largest)


def step_on_chunk(
    network: Network, w: Floats, data: Data, rng: np.random.Generator, state: State | None, options: dict[str, Any]
) -> OptimizeResult:
    """Make one step on a chunk of a stream, with the pairs and the radius that the chunks before have left."""
    stream = StreamSampler(lambda size, rng: data)
    return minimize(
        network.loss_and_gradient, True, w, stream, rng=rng, max_steps=1, state=state, overlap=0.0, **options
    )
