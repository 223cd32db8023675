"""Whole runs over the parameters of a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from scipy.optimize import OptimizeResult
from torch import Tensor
from torch.utils.data import DataLoader

from mblsr1.arguments import check_functions
from mblsr1.minimize import Step
from mblsr1.minimize import minimize as minimize_vector
from mblsr1.sampling import LoaderSampler, Sampler, checked_sampler
from mblsr1.torch.closures import checked_loss
from mblsr1.torch.draws import Batch, Draws, check_model
from mblsr1.torch.flat import FlatParameters, check_memory, trainable
from mblsr1.torch.given import check_blocks

__all__ = ["minimize"]


def minimize(
    model: torch.nn.Module,
    loss: Callable[..., Any],
    sampler: Any = None,
    *,
    blocks: bool = False,
    callback: Callable[[Step], Any] | None = None,
    **arguments: Any,
) -> OptimizeResult:
    """Train a module: `mblsr1.minimize` over its parameters, with gradients by autograd.

    Parameters
    ----------
    model : torch.nn.Module
        Its parameters that require a gradient are the start, and are at the result afterwards.
    loss : callable
        ``loss(model, batch) -> scalar tensor``, the mean loss over the batch; without a sampler ``loss(model)``.
    sampler : None, int, sampler or torch.utils.data.DataLoader
        As in `mblsr1.minimize`. A DataLoader's batches are joined and split to the size asked for; `rng` does not
        move it, and its data count as a stream of no known size. ``ArraySampler`` draws from tensors.
    blocks : bool
        Learn a metric from the parameters' shapes.
    callback : callable, optional
        ``callback(step)`` after each step; within it the parameters may be at another point than `step.x`.
    **arguments
        Of `mblsr1.minimize`: options, rng, max_steps, max_samples, state, disp, ..., and single options.

    Returns
    -------
    scipy.optimize.OptimizeResult
        As of `mblsr1.minimize`; `x` and `jac` are vectors (d,), the parameters one after the other.

    Raises
    ------
    ValueError, TypeError
        As `mblsr1.minimize`; and where parameters are not float32 or float64 of one dtype on one device.

    Notes
    -----
    All evaluations of a batch repeat the draws of its first, dropout's included. Those at trial points and on samples
    of no step (checks, the whole set in parts) leave the running statistics of batch norm and the generators alone.
    An exception leaves the parameters at the last iterate.

    Examples
    --------
    >>> import torch, mblsr1
    >>> model = torch.nn.Linear(1, 1, dtype=torch.float64)
    >>> x = torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None]
    >>> result = mblsr1.torch.minimize(model, lambda model: ((model(x) - 3 * x - 1) ** 2).mean())
    >>> round(model.bias.item(), 4)
    1.0
    """
    check_model(model)
    if not callable(loss):
        raise TypeError(f"loss: must be a function loss(model, batch), got {type(loss).__name__}")
    check_blocks(blocks)
    check_functions(loss, True, None, callback)
    parameters = trainable(list(model.parameters())) or _none()
    check_memory(list(model.parameters()))
    flat = FlatParameters(parameters)
    draws, start = Draws(model), flat.buffer.clone()
    newest = [start]

    def after(step: Step) -> Any:
        newest[0] = step.x
        draws.end_step(step.alpha > 0.0)
        return None if callback is None else callback(step)

    if blocks:
        arguments["blocks"] = flat.shapes
    if isinstance(sampler, DataLoader):
        loader = sampler
        sampler = LoaderSampler(lambda: loader)
    sampler = checked_sampler(sampler)
    if sampler is not None:
        sampler = _Marked(sampler, draws)
    try:
        with torch.no_grad():
            result = minimize_vector(
                _function(model, loss, flat, draws), True, start, sampler, callback=after, **arguments
            )
        newest[0] = result.x
    finally:
        flat.load(newest[0])
        flat.give_back()
    return result


def _function(
    model: torch.nn.Module, loss: Callable[..., Any], flat: FlatParameters, draws: Draws
) -> Callable[..., tuple[Any, Tensor]]:
    """Loss and gradient as a function of the vector and a batch."""
    whole = Batch()

    def backward(*drawn: Batch) -> Any:
        with _explained():
            value = loss(model, *(batch.data for batch in drawn))
        number = checked_loss(value, "loss")
        if not (isinstance(value, Tensor) and value.requires_grad):
            raise TypeError(f"loss: must return a tensor that autograd can differentiate, got {value!r:.80}")
        value.backward()
        if not flat.has_gradient:
            raise ValueError("loss: must depend on the model's parameters; none has a gradient")
        return number

    def fun(w: Tensor, *drawn: Batch) -> tuple[Any, Tensor]:
        flat.load(w)
        flat.clear_gradient()
        with torch.enable_grad():
            value = draws.evaluate(drawn[0] if drawn else whole, lambda: backward(*drawn))
        return value, flat.gradient()

    return fun


@contextmanager
def _explained() -> Iterator[None]:
    """Say what to do where batch norm was given a part of a batch that is too small for it."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            "batch_size: must be larger for batch norm, which in training needs two samples or more in the share "
            "`overlap` of a batch, a part of its own: with overlap=0.125 a batch of 12"
        ) from error


class _Marked:
    """A sampler whose batches know whether they belong to a step, and how their first evaluation drew.

    A step draws before it evaluates; samples that are drawn later, and parts of the whole set, are those of a check.
    """

    def __init__(self, sampler: Sampler, draws: Draws) -> None:
        self._sampler, self._draws = sampler, draws
        self.n_samples = sampler.n_samples
        if getattr(sampler, "chunks", None) is not None:
            self.chunks = self._chunks

    def draw(self, size: int, rng: np.random.Generator) -> Batch:
        return Batch(self._sampler.draw(size, rng), not self._draws.in_step)

    def _chunks(self, size: int) -> Iterator[tuple[Batch, int]]:
        for data, count in self._sampler.chunks(size):  # type: ignore[attr-defined]
            yield Batch(data, False), count


def _none() -> list[Tensor]:
    raise ValueError("model: one parameter must require a gradient and have an entry, got none")
