"""A linear model, or one hidden layer of tanh units: its penalised mean loss and the gradient."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.special
from numpy.typing import NDArray

__all__ = ["Network", "logistic", "softmax", "squared"]

Floats = NDArray[np.floating[Any]]
Loss = Callable[[Floats, Any], tuple[Floats, Floats]]


def squared(scores: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Half the squared error of each row of y (n, outputs), and its derivative by the scores."""
    error = scores - y
    return 0.5 * (error * error).sum(axis=1), error


def logistic(scores: Floats, codes: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Negative log-likelihood of classes 0 and 1 whose log odds are the one score, and its derivative."""
    z, is_one = scores[:, 0], codes.astype(scores.dtype)
    return np.logaddexp(0.0, z) - is_one * z, (scipy.special.expit(z) - is_one)[:, None]


def softmax(scores: Floats, codes: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Negative log-likelihood of classes 0, 1, ... with one score each, and its derivative."""
    logs = scipy.special.log_softmax(scores, axis=1)
    pull, rows = np.exp(logs), np.arange(len(codes))
    pull[rows, codes] -= 1.0
    return -logs[rows, codes], pull


class Network:
    """Weights in one vector, W and b of each layer in order, and their loss.

    The loss is the mean over the rows of weight times loss, and alpha / 2 times the squares of all W.

    Parameters
    ----------
    sizes : sequence of int
        Features, hidden units where there are any, outputs.
    loss : callable
        ``loss(scores, targets) -> (losses (n,), their derivative by the scores (n, outputs))``.
    alpha : float
    """

    def __init__(self, sizes: tuple[int, ...], loss: Loss, alpha: float) -> None:
        self.shapes: list[tuple[int, ...]] = [s for a, b in pairwise(sizes) for s in ((a, b), (b,))]
        self.loss, self.alpha = loss, alpha
        self._ends = np.cumsum([int(np.prod(s)) for s in self.shapes])[:-1]

    @property
    def is_linear(self) -> bool:
        """Whether there is no hidden layer."""
        return len(self.shapes) == 2

    def start(self, rng: np.random.Generator, dtype: Any) -> Floats:
        """Zeros for a linear model; else weights of variance 1 / fan-in, and b = 0."""
        if self.is_linear:
            return self.pack([np.zeros(s, dtype) for s in self.shapes])
        parts = [rng.standard_normal(s) / np.sqrt(s[0]) if len(s) == 2 else np.zeros(s) for s in self.shapes]
        return self.pack([p.astype(dtype) for p in parts])

    @staticmethod
    def pack(parts: list[Floats]) -> Floats:
        """One vector of all W and b."""
        return np.concatenate([p.ravel() for p in parts])

    def unpack(self, w: Floats) -> list[Floats]:
        """W and b of each layer, views of w."""
        return [p.reshape(s) for p, s in zip(np.split(w, self._ends), self.shapes, strict=True)]

    @staticmethod
    def outputs(parts: list[Floats], X: Any) -> tuple[Any, Floats]:
        """Inputs (n, inputs) of the last layer, and scores (n, outputs)."""
        *hidden, W, b = parts
        inputs = np.tanh(X @ hidden[0] + hidden[1]) if hidden else X
        return inputs, np.asarray(inputs @ W + b)

    def loss_and_gradient(self, w: Floats, batch: tuple[Any, Any, Floats]) -> tuple[float, Floats]:
        """Loss and gradient on a batch: rows of X, targets and weights of mean 1 over the whole set."""
        X, targets, weights = batch
        parts = self.unpack(w)
        with np.errstate(over="ignore", invalid="ignore"):  # a loss that is not finite is a rejected step
            inputs, scores = self.outputs(parts, X)
            losses, pull = self.loss(scores, targets)
            pull = pull * (weights / len(weights))[:, None]
            gradients = [np.asarray(inputs.T @ pull), pull.sum(axis=0)]
            if not self.is_linear:
                inner = (pull @ parts[2].T) * (1.0 - inputs * inputs)
                gradients = [np.asarray(X.T @ inner), inner.sum(axis=0), *gradients]
            value = float(weights @ losses) / len(weights) + self._penalise(parts, gradients)
        return value, self.pack(gradients)

    def _penalise(self, parts: list[Floats], gradients: list[Floats]) -> float:
        """Add the penalty's gradient to that of each W, and return the penalty."""
        for i in range(0, len(parts), 2):
            gradients[i] += self.alpha * parts[i]
        return 0.5 * self.alpha * sum(float(np.vdot(W, W)) for W in parts[::2])
