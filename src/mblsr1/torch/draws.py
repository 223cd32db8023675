"""What an evaluation leaves besides loss and gradient: running statistics, and the state of random generators.

f^(w; I) must be one function of w while a batch is used (reading 18): dropout draws the same at each of its
evaluations, and those at trial points leave no trace.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["Draws", "check_model", "frozen_statistics"]

#: Batches whose draws are kept: that of a step has a part of the last one, a shared part and fresh samples.
_BATCHES = 3


def check_model(model: Any) -> None:
    """Raise a TypeError where it is no module."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model: must be a torch.nn.Module, got {type(model).__name__}")


@contextmanager
def frozen_statistics(model: torch.nn.Module | None) -> Iterator[None]:
    """Leave a module's buffers and torch's random generators as they were: what is evaluated within has no trace.

    Parameters
    ----------
    model : torch.nn.Module
        Its buffers, such as the running statistics of batch norm, are put back where they were changed in place. Modes
        are not touched: in training mode batch norm uses the statistics of its batch, and dropout draws.

    Examples
    --------
    >>> import torch, mblsr1
    >>> model = torch.nn.BatchNorm1d(2)
    >>> with mblsr1.torch.frozen_statistics(model):
    ...     loss = model(torch.ones(4, 2)).sum()
    >>> int(model.num_batches_tracked)
    0
    """
    before, states = _copies(model), _generators()
    try:
        yield
    finally:
        _put_back(model, before)
        _set_generators(states)


class Draws:
    """Evaluations of a batch: the first is free, the others repeat its draws and leave no trace.

    Parameters
    ----------
    model : torch.nn.Module or None
        Whose buffers are kept; without one the random generators are held alone.
    """

    def __init__(self, model: torch.nn.Module | None) -> None:
        self.model = model
        self._known: deque[tuple[Any, list[torch.Tensor]]] = deque(maxlen=_BATCHES)
        self._after: list[torch.Tensor] | None = None
        self._is_new = False  # whether this step has evaluated a batch for the first time

    def evaluate(self, batch: Any, function: Callable[[], Any]) -> Any:
        """Call the function, which evaluates on this batch; two batches are one where they are the same object."""
        states = self.of(batch)
        if states is None:
            self._known.append((batch, _generators()))
            self._is_new = True
            return function()
        with frozen_statistics(self.model):
            _set_generators(states)
            value = function()
            self._after = _copies(self.model)
        return value

    def end_step(self, moved: bool) -> None:
        """Where a step evaluated no new batch, the statistics are those of its last evaluation, at the new iterate."""
        if moved and not self._is_new and self._after is not None:
            _put_back(self.model, self._after)
        self._after, self._is_new = None, False

    def of(self, batch: Any) -> list[torch.Tensor] | None:
        """The generators' states at the first evaluation of a batch."""
        return next((states for known, states in self._known if known is batch), None)

    def remember(self, batch: Any, states: list[torch.Tensor]) -> None:
        """Take the states of an earlier run."""
        self._known.append((batch, [state.cpu() for state in states]))


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
