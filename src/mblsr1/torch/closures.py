"""A caller's closure as a function of the parameter vector."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mblsr1.torch.draws import Batch, Draws
from mblsr1.torch.flat import FlatParameters

#: *args and **kwargs, which may be left out.
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

__all__ = [
    "Evaluation",
    "both",
    "check_closure",
    "checked_loss",
    "gradient_alone",
    "loss_alone",
    "loss_or_both",
    "takes_backward",
]


def check_closure(closure: Any) -> None:
    """Raise a TypeError where it cannot be called without arguments."""
    if not callable(closure):
        raise TypeError(f"closure: must be a function that evaluates the loss and its gradients, got {closure!r:.60}")
    try:
        signature = inspect.signature(closure)
    except (TypeError, ValueError):  # of a callable that tells nothing
        return
    needed = [p.name for p in signature.parameters.values() if p.default is p.empty and p.kind not in _VARIADIC]
    if needed:
        raise TypeError(
            f"closure: must be callable without arguments, got one that needs {', '.join(needed)}; "
            "give `backward` the default True"
        )


def takes_backward(closure: Callable[..., Any]) -> bool:
    """Whether a closure has an argument `backward`, with which the loss can be had alone."""
    try:
        return "backward" in inspect.signature(closure).parameters
    except (TypeError, ValueError):
        return False


class Evaluation:
    """One closure during one step: loss and gradient of its batch as functions of w.

    Parameters
    ----------
    closure : callable
        Makes loss and gradients; with ``backward=False`` the loss alone.
    flat : FlatParameters
    draws : Draws
    batch : Batch
        What stands for the closure's batch in `draws`.
    """

    def __init__(self, closure: Callable[..., Any], flat: FlatParameters, draws: Draws, batch: Batch) -> None:
        self.closure, self.flat, self.draws, self.batch = closure, flat, draws, batch
        self.first: Any = None  # what the first call returned

    def __call__(self, w: Tensor, **arguments: Any) -> Tensor | float:
        """The closure's loss, with the parameters set to w."""
        self.flat.load(w)
        self.flat.clear_gradient()
        with torch.enable_grad():
            value = self.draws.evaluate(self.batch, lambda: self.closure(**arguments))
        if self.first is None:
            self.first = value.detach() if isinstance(value, torch.Tensor) else value
        return checked_loss(value, "closure")


def checked_loss(value: Any, name: str) -> Tensor | float:
    """A loss as a number or a tensor of shape (), without a graph; an error says what `name` must return."""
    if isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_complex() and value.dtype != torch.bool:
        value = value.detach().reshape(())
        return value if value.dtype in (torch.float32, torch.float64) else value.double()
    if isinstance(value, np.ndarray) and value.shape == ():
        value = value[()]
    if not isinstance(value, bool) and isinstance(value, numbers.Real):
        return float(value)
    shown = f"a tensor of {value.dtype} and shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else value
    raise TypeError(f"{name}: must return the loss, one real number, got {shown!s:.80}")


def both(w: Tensor, evaluation: Evaluation) -> tuple[Tensor | float, Tensor]:
    """Loss and gradient; a ValueError where a finite loss has brought no gradient at all."""
    loss, gradient = loss_or_both(w, evaluation)
    if not evaluation.flat.has_gradient and math.isfinite(loss):
        raise ValueError("closure: must call backward() on the loss that it evaluates; no parameter has a gradient")
    return loss, gradient


def loss_or_both(w: Tensor, evaluation: Evaluation) -> tuple[Tensor | float, Tensor]:
    """The loss, and zero for the gradient where the closure makes none."""
    return evaluation(w), evaluation.flat.gradient()


def loss_alone(w: Tensor, evaluation: Evaluation) -> Tensor | float:
    """The loss, without a backward pass."""
    return evaluation(w, backward=False)


def gradient_alone(w: Tensor, evaluation: Evaluation) -> Tensor:
    """The gradient."""
    return both(w, evaluation)[1]
