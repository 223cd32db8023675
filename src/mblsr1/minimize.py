"""The two ways to run Algorithm 1: `minimize` to its end, `iterate` step by step."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from typing import Any

from scipy.optimize import OptimizeResult
from tqdm.auto import tqdm

from mblsr1._array import Array
from mblsr1.checkpoint import State
from mblsr1.methods.presets import Options
from mblsr1.run import Run, Step
from mblsr1.types import Method

__all__ = ["Step", "iterate", "minimize"]

Callback = Callable[["Step"], Any]


def minimize(
    fun: Callable[..., Any],
    grad: Callable[..., Any] | bool,
    w0: Array,
    sampler: Any = None,
    *,
    method: Method | None = None,
    options: Options | None = None,
    rng: Any = None,
    max_steps: int | None = None,
    max_samples: float | None = None,
    callback: Callback | None = None,
    state: State | None = None,
    disp: bool = False,
    hvp: Callable[..., Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 60.0,
    **changes: Any,
) -> OptimizeResult:
    """Minimise a loss whose data come in batches, from values and gradients alone.

    Parameters
    ----------
    fun : callable
        ``fun(w, batch) -> scalar``, the mean loss over the batch. Without a sampler ``fun(w)``. `w` is the run's own
        memory: no function may write to it.
    grad : callable or True
        ``grad(w, batch) -> array like w``; or True where `fun` returns ``(value, gradient)``. The gradient is copied,
        so it may lie in the same memory at each call.
    w0 : array
        Start, of any shape, library, real floating dtype and device; kept everywhere. Integers become
        the library's default float.
    sampler : None, int or sampler
        None: deterministic. An int N: ``IndexSampler(N)``. Else an object with ``n_samples`` and
        ``draw(size, rng)``, such as ``ArraySampler(X, y)``.
    method : Method, optional
        Default MB-LSR1; or ``mblsr1.sgd``, ``adam``, ``rmsprop``, ``svrg`` or ``s_lsr1`` with its settings.
    options : Options, optional
        Default ``Options()``, the recommended settings.
    rng : None, int or numpy.random.Generator
        Seed of everything that is drawn.
    max_steps, max_samples : number, optional
        Budgets of this call: steps, and cost in sample-gradients (a gradient, alone or with its loss, costs
        1 a sample, a loss alone 1/3, a Hessian-vector product 2). Neither is ever exceeded. Without both,
        15,000 steps where deterministic and 1,000 with a sampler.
    callback : callable, optional
        ``callback(step)`` after each step; StopIteration or a true return value stops the run. ``step.x`` is the run's
        own memory, in NumPy read-only.
    state : State, optional
        ``result.state`` of an earlier run with the same functions and options: continue it bit for bit. With
        another batch size, or a set of another size, the batches start anew.
    disp : bool
        Show a progress bar with loss, radius and batch size.
    hvp : callable, optional
        ``hvp(w, v, batch) -> array like w``, Hessian times v; used by warm starts.
    checkpoint : path, optional
        File that the run writes, whole or not at all, every `checkpoint_every` seconds, at its start and at its end.
        Where the file is there at the start the run goes on from it (not from `state`), and all budgets count from
        the first start: the same call, made again after it was killed, ends with the result of the uninterrupted
        one, bit for bit, history included. A call that had ended returns its result again, unless it would go on
        now: with another budget, a smaller gtol, or a callback that does not stop it. Other options, another set
        or dtype are refused. The file belongs to one run at a time.
    checkpoint_every : float, optional
        Seconds, >= 0; 0 writes after every step.
    **changes
        Single fields of `options`, e.g. ``memory=32``.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x fun jac nit nfev njev success status message n_samples batch_size radius n_restarts n_skipped
        history state``, and ``x_average`` with the option `averaging`. `fun` and `jac` are on the last batch (the
        whole set where the batch is; of batches that overlap, the samples that the next one takes over); with a
        first-order method, which has them made when it ends, they are those one step before `x` where the budget
        does not allow that; nan and None where nothing was evaluated. status: 0 converged, 1 step budget, 2
        sample budget, 3 stopped by the callback, 4 non-finite loss or gradient
        at the iterate, 5 no further progress possible.

    Raises
    ------
    ValueError, TypeError
        Where an argument or an option is unusable, or the file of `checkpoint` is damaged, naming it and what is
        allowed. Numerical trouble is a status, never an exception; exceptions of the user's own functions pass
        through.

    Notes
    -----
    Algorithm 1 of Griffin, Jahani, Takac, Yektamaram, Zhou (MB-LSR1). Measured by ``python -m nox -s bench``: 2 m + 9
    vectors of memory without a sampler, 2 m + 13 with batches that overlap, 2 m + 12 with ``Options.paper()``.

    Examples
    --------
    >>> import numpy as np, mblsr1
    >>> result = mblsr1.minimize(lambda w: float(w @ w), lambda w: 2 * w, np.ones(3))
    >>> result.success, float(result.fun) < 1e-9
    (True, True)
    """
    run = Run(
        fun, grad, w0, sampler, method, options, rng, max_steps, max_samples, callback, state, hvp, checkpoint,
        checkpoint_every, changes, keep_history=True,
    )  # fmt: skip
    if not disp:
        for _ in run.steps():
            pass
        return run.result()
    with tqdm(**_bar(max_steps, max_samples), desc=run.method.name) as bar:
        for step in run.steps():
            done = step.n_samples - run.first_cost if max_steps is None and max_samples else step.step - run.first_step
            bar.update(done - bar.n)
            shown = {"loss": step.loss, "radius": step.radius}
            text = {name: f"{value:.3g}" for name, value in shown.items() if not math.isnan(value)}
            bar.set_postfix(text, batch=step.batch_size, refresh=False)
    return run.result()


def iterate(
    fun: Callable[..., Any], grad: Callable[..., Any] | bool, w0: Array, sampler: Any = None, **arguments: Any
) -> Iterator[Step]:
    """Run `minimize` step by step: yield one record per step; break at will.

    Parameters
    ----------
    fun, grad, w0, sampler, **arguments
        As in :func:`minimize`; there is no `disp`. No history is kept, in the file of `checkpoint` neither. A loop that
        is left by ``break`` writes that file when the generator is closed: at once where nothing else refers to it.

    Yields
    ------
    Step
        The scalars of ``history`` as attributes, plus ``x``, the iterate after the step, and ``state``.

    Raises
    ------
    ValueError, TypeError
        As :func:`minimize`, at the call, before the first step.

    Examples
    --------
    >>> import numpy as np, mblsr1
    >>> for step in mblsr1.iterate(lambda w: float(w @ w), lambda w: 2 * w, np.ones(3)):
    ...     if step.loss < 0.1:
    ...         break
    """
    arguments.pop("disp", None)
    names = ("method", "options", "rng", "max_steps", "max_samples", "callback", "state", "hvp", "checkpoint")
    named = {name: arguments.pop(name, None) for name in names}
    every = arguments.pop("checkpoint_every", 60.0)
    run = Run(fun, grad, w0, sampler, **named, checkpoint_every=every, changes=arguments, keep_history=False)
    return run.steps_alone()


def _bar(max_steps: int | None, max_samples: float | None) -> dict[str, Any]:
    """What the progress bar counts: steps, or cost where only that is limited."""
    if max_steps is None and max_samples and math.isfinite(max_samples):
        return {"total": int(max_samples), "unit": "", "unit_scale": True}
    return {"total": max_steps, "unit": " steps"}
