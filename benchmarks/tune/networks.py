"""Classifiers with their weights in one flat NumPy vector: loss, gradient and accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np


class Network:
    """Shapes, start and accuracy; `loss_and_gradient` and `scores` come with the kind of network."""

    def __init__(self, shapes: Sequence[tuple[int, ...]], dtype: Any) -> None:
        self.shapes, self.dtype = list(shapes), np.dtype(dtype)
        self.ends = np.cumsum([int(np.prod(s)) for s in self.shapes])

    def start(self, rng: np.random.Generator) -> Any:
        """Random weights of variance 1 / inputs, zero biases."""
        parts = [self._random(s, rng) if len(s) > 1 else np.zeros(s) for s in self.shapes]
        return np.concatenate([p.ravel() for p in parts]).astype(self.dtype)

    def _random(self, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
        inputs = shape[0] if len(shape) == 2 else int(np.prod(shape[1:]))
        return rng.standard_normal(shape) / np.sqrt(inputs)

    def unpack(self, w: Any) -> list[Any]:
        """Views of a flat vector (of any library) in the shapes of the weights."""
        starts = [0, *self.ends[:-1]]
        return [w[a:b].reshape(s) for a, b, s in zip(starts, self.ends, self.shapes, strict=True)]

    def loss_and_gradient(self, w: Any, batch: Any) -> tuple[float, Any]:
        """Mean cross-entropy over the batch, and its gradient."""
        raise NotImplementedError

    def scores(self, w: Any, X: Any) -> Any:
        """Scores per sample and class."""
        raise NotImplementedError

    def loss(self, w: Any, X: Any, y: Any, chunk: int = 5_000) -> float:
        """Mean cross-entropy over a large set."""
        total = 0.0
        for i in range(0, len(y), chunk):
            s, labels = self.scores(w, X[i : i + chunk]).astype(float), y[i : i + chunk]
            s -= s.max(axis=1, keepdims=True)
            total += float((np.log(np.exp(s).sum(axis=1)) - s[np.arange(len(labels)), labels]).sum())
        return total / len(y)

    def accuracy(self, w: Any, X: Any, y: Any, chunk: int = 5_000) -> float:
        """Share of the samples whose highest score is the right class's."""
        starts = range(0, len(y), chunk)
        right = [(self.scores(w, X[i : i + chunk]).argmax(axis=1) == y[i : i + chunk]).sum() for i in starts]
        return float(sum(right)) / len(y)


class Perceptron(Network):
    """Fully connected layers with tanh between them, softmax at the end; float64.

    Parameters
    ----------
    *sizes : int
        Inputs, hidden units of each layer, classes.
    """

    def __init__(self, *sizes: int) -> None:
        super().__init__([s for a, b in pairwise(sizes) for s in ((a, b), (b,))], np.float64)

    def _layers(self, w: Any, X: Any) -> tuple[list[Any], list[Any]]:
        parts = self.unpack(w)
        weights, outputs = parts[::2], [X]
        for i, (W, b) in enumerate(zip(weights, parts[1::2], strict=True)):
            z = outputs[-1] @ W + b
            outputs.append(np.tanh(z) if i + 1 < len(weights) else z)
        return weights, outputs

    def scores(self, w: Any, X: Any) -> Any:
        """Scores per sample and class."""
        return self._layers(w, X)[1][-1]

    def loss_and_gradient(self, w: Any, batch: Any) -> tuple[float, Any]:
        """Mean cross-entropy over the batch, and its gradient by back-propagation."""
        X, y = batch
        weights, outputs = self._layers(w, X)
        z = outputs[-1] - outputs[-1].max(axis=1, keepdims=True)
        back = np.exp(z)
        norm = back.sum(axis=1, keepdims=True)
        rows = np.arange(len(y))
        loss = float((np.log(norm[:, 0]) - z[rows, y]).mean())
        back /= norm
        back[rows, y] -= 1.0
        back /= len(y)
        parts: list[Any] = []
        for i in range(len(weights) - 1, -1, -1):
            parts += [back.sum(axis=0), (outputs[i].T @ back).ravel()]
            if i:
                back = (back @ weights[i].T) * (1.0 - outputs[i] * outputs[i])
        return loss, np.concatenate(parts[::-1])


class TorchNetwork(Network):
    """A network in torch, float32; `forward` comes with the kind of network. NumPy goes in and out on the CPU."""

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        super().__init__(shapes, np.float32)

    def forward(self, parts: list[Any], X: Any) -> Any:
        """Scores in training, from tensors on any device; `parts` is what `unpack` gives."""
        raise NotImplementedError

    def evaluate(self, parts: list[Any], X: Any) -> Any:
        """Scores of the trained network, from tensors on any device."""
        return self.forward(parts, X)

    def scores(self, w: Any, X: Any) -> Any:
        """Scores per sample and class."""
        import torch

        with torch.no_grad():
            return self.evaluate(self.unpack(torch.from_numpy(w)), torch.from_numpy(X)).numpy()

    def loss_and_gradient(self, w: Any, batch: Any) -> tuple[float, Any]:
        """Mean cross-entropy over the batch, and its gradient, as NumPy."""
        import torch

        X, y = (torch.from_numpy(a) for a in batch)
        leaf = torch.from_numpy(w).detach().requires_grad_()
        loss = torch.nn.functional.cross_entropy(self.forward(self.unpack(leaf), X), y)
        loss.backward()
        return float(loss.detach()), leaf.grad.numpy()


class NetDNN(TorchNetwork):
    """Convolution 5x5x32, pooling, twice; 64 units, 10 classes; 59,946 parameters.

    The layers are inferred from the parameter count of the paper's NetDNN; rectifiers between them.
    """

    def __init__(self) -> None:
        super().__init__([(32, 1, 5, 5), (32,), (32, 32, 5, 5), (32,), (512, 64), (64,), (64, 10), (10,)])

    def forward(self, parts: list[Any], X: Any) -> Any:
        """Scores, from images of one channel."""
        from torch.nn import functional as F

        c1, b1, c2, b2, w3, b3, w4, b4 = parts
        h = F.max_pool2d(F.relu(F.conv2d(X[:, None], c1, b1)), 2)
        h = F.max_pool2d(F.relu(F.conv2d(h, c2, b2)), 2)
        return F.relu(h.flatten(1) @ w3 + b3) @ w4 + b4


class ResNet20(TorchNetwork):
    """Residual net of 20 layers for three-channel images, projections where the width changes; 272,474 parameters.

    Batch norm: loss and gradient take means and variances from the samples of the call itself, so a trial leaves
    nothing behind. `scores` takes them from `reference`, the same training images each time; there are no running
    averages. A scale is stored as its difference from 1, so that zeros are its start.

    Parameters
    ----------
    reference : array, (images, 3, height, width)
        Training images.
    """

    WIDTHS, BLOCKS, PARAMETERS = (16, 32, 64), 3, 272_474

    def __init__(self, reference: Any) -> None:
        shapes, before = self._convolution(3, 16, 3), 16
        for width in self.WIDTHS:
            for _ in range(self.BLOCKS):
                shapes += self._convolution(before, width, 3) + self._convolution(width, width, 3)
                shapes += self._convolution(before, width, 1) if before != width else []
                before = width
        super().__init__([*shapes, (before, 10), (10,)])
        assert self.ends[-1] == self.PARAMETERS, self.ends[-1]
        self.reference = reference

    @staticmethod
    def _convolution(before: int, after: int, side: int) -> list[tuple[int, ...]]:
        return [(after, before, side, side), (after,), (after,)]

    def forward(self, parts: list[Any], X: Any) -> Any:
        """Scores, with the moments of these images."""
        return self._through(Convolutions(parts), X)

    def evaluate(self, parts: list[Any], X: Any) -> Any:
        """Scores, with the moments of the reference images."""
        import torch

        first = Convolutions(parts)
        self._through(first, torch.as_tensor(self.reference, device=X.device))
        return self._through(Convolutions(parts, first.moments), X)

    def _through(self, layers: Convolutions, X: Any) -> Any:
        import torch

        h = layers(X.to(memory_format=torch.channels_last)).relu()  # the faster layout
        for number in range(len(self.WIDTHS) * self.BLOCKS):
            narrows = number > 0 and number % self.BLOCKS == 0
            stride = 2 if narrows else 1
            inner = layers(layers(h, stride).relu())
            h = (inner + (layers(h, stride) if narrows else h)).relu()
        weights, bias = layers.rest()
        return h.mean((2, 3)) @ weights + bias


class Convolutions:
    """Convolution and batch norm, a layer a call, with the next parameters of `parts`.

    Parameters
    ----------
    parts : list of tensors
        Weights, scale - 1 and shift of each layer, then what `rest` returns.
    moments : list of (mean, variance), optional
        Of each layer; where left out they are the batch's own, and are collected.
    """

    def __init__(self, parts: list[Any], moments: list[Any] | None = None) -> None:
        self._parts, self._collects = iter(parts), moments is None
        self.moments = moments or []
        self._layer = -1

    def __call__(self, h: Any, stride: int = 1) -> Any:
        """Return the next layer's output."""
        from torch.nn import functional as F

        weights, scale, shift = (next(self._parts) for _ in range(3))
        z = F.conv2d(h, weights, stride=stride, padding=weights.shape[-1] // 2)
        self._layer += 1
        if self._collects:
            self.moments.append((scale.new_zeros(scale.shape), scale.new_ones(scale.shape)))
        mean, variance = self.moments[self._layer]
        return F.batch_norm(z, mean, variance, 1.0 + scale, shift, training=self._collects, momentum=1.0)

    def rest(self) -> list[Any]:
        """Return the parameters that no call has used."""
        return list(self._parts)
