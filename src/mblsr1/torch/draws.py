"""What an evaluation leaves besides loss and gradient: running statistics, and the state of random generators.

f^(w; I) must be one function of w while a batch is used (reading 18): dropout draws the same at each of its
evaluations, and those at trial points leave no trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["Batch", "Draws", "check_model", "frozen_statistics"]


def check_model(model: Any) -> None:
    """Raise a TypeError where it is no module."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model: must be a torch.nn.Module, got {type(model).__name__}")


@contextmanager
def frozen_statistics(model: torch.nn.Module | None) -> Iterator[None]:
    """Leave a module's buffers and torch's random generators as they were: what is evaluated within has no trace.

    Parameters
    ----------
    model : torch.nn.Module or None
        With None the generators alone are kept. A module's buffers, such as the running statistics of batch norm, are
        put back where they were changed in place. Modes are not touched: in training mode batch norm uses the
        statistics of its batch, and dropout draws.

    Examples
    --------
    >>> import torch, mblsr1
    >>> model = torch.nn.BatchNorm1d(2)
    >>> with mblsr1.torch.frozen_statistics(model):
    ...     loss = model(torch.ones(4, 2)).sum()
    >>> int(model.num_batches_tracked)
    0
    """
    if model is not None:
        check_model(model)
    before, states = _copies(model), _generators()
    try:
        yield
    finally:
        _put_back(model, before)
        _set_generators(states)


class Batch:
    """Samples, with the states of the generators at their first evaluation.

    Parameters
    ----------
    data : object
        What the sampler drew.
    of_step : bool
        False for samples of a check, which leave no trace at all.
    """

    __slots__ = ("data", "of_step", "states")

    def __init__(self, data: Any = None, of_step: bool = True) -> None:
        self.data, self.of_step = data, of_step
        self.states: list[torch.Tensor] | None = None


class Draws:
    """Evaluations of a step's batch: the first is free, the others repeat its draws and leave no trace.

    Parameters
    ----------
    model : torch.nn.Module or None
        Whose buffers are kept; without one the random generators are held alone.
    """

    def __init__(self, model: torch.nn.Module | None) -> None:
        self.model = model
        self.in_step = False  # whether this step has evaluated anything
        self._after: list[torch.Tensor] | None = None
        self._is_new = False  # whether this step has evaluated a batch for the first time

    def evaluate(self, batch: Batch, function: Callable[[], Any]) -> Any:
        """Call the function, which evaluates on this batch."""
        self.in_step = True
        if batch.of_step and batch.states is None:
            batch.states, self._is_new = _generators(), True
            return function()
        with frozen_statistics(self.model):
            if batch.states is None:
                return function()
            _set_generators(batch.states)
            value = function()
            self._after = _copies(self.model)
        return value

    def end_step(self, moved: bool) -> None:
        """Where a step evaluated no new batch, the statistics are those of its last evaluation, at the new iterate."""
        if moved and not self._is_new and self._after is not None:
            _put_back(self.model, self._after)
        self._after, self._is_new, self.in_step = None, False, False


def _copies(model: torch.nn.Module | None) -> list[torch.Tensor]:
    return [] if model is None else [buffer.detach().clone() for buffer in model.buffers()]


def _put_back(model: torch.nn.Module | None, values: list[torch.Tensor]) -> None:
    if model is not None:
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), values, strict=True):
                buffer.copy_(value)


def _generators() -> list[torch.Tensor]:
    """States of the generator of the CPU, and of the GPU in use where there is one."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else states


def _set_generators(states: list[torch.Tensor]) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state)
