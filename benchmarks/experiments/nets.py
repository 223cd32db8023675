"""The networks of Table 1 on their data, as loss and gradient by rows, on the CPU or a GPU."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from benchmarks import data
from benchmarks.tune.networks import NetDNN, ResNet20, TorchNetwork

#: Images from which ResNet20 takes the moments of its batch norm in an evaluation.
REFERENCE = 500
#: Images that go through a network at once on the CPU: more do not fit its caches.
PIECE = 256
#: Images that an evaluation takes at once where there is no such limit.
EVALUATED = 2_000


class Images(NamedTuple):
    """Images and their classes, as tensors on the device."""

    X: Any
    y: Any


class Trainee:
    """A network with the images that it is trained on.

    Parameters
    ----------
    network : TorchNetwork
    images : Images
    piece : int or None
        Images that a pass takes at once; None: the whole batch, as batch norm needs it.
    """

    def __init__(self, network: TorchNetwork, images: Images, piece: int | None) -> None:
        self.network, self.images, self.piece = network, images, piece

    def start(self, seed: int) -> Any:
        """Random weights, a tensor on the device; equal seeds give equal weights."""
        import torch

        w = self.network.start(np.random.default_rng(1_000 + seed))
        return torch.from_numpy(w).to(self.images.X.device)

    def loss(self, w: Any, rows: Any) -> float:
        """Mean cross-entropy over the rows."""
        import torch

        parts = self.network.unpack(w)
        with torch.no_grad():
            return float(sum(self._share(parts, piece, len(rows)) for piece in self._pieces(rows)))

    def loss_and_gradient(self, w: Any, rows: Any) -> tuple[float, Any]:
        """Mean cross-entropy over the rows, and its gradient."""
        leaf = w.detach().requires_grad_()
        total = 0.0
        for piece in self._pieces(rows):
            share = self._share(self.network.unpack(leaf), piece, len(rows))
            share.backward()
            total = total + share.detach()
        return float(total), leaf.grad

    def gradient(self, w: Any, rows: Any) -> Any:
        """Gradient of the mean cross-entropy over the rows."""
        return self.loss_and_gradient(w, rows)[1]

    def measured(self, w: Any, *sets: Images) -> list[tuple[float, float]]:
        """Mean cross-entropy and accuracy of the trained network on each set; the loss may be nan."""
        import torch

        X, parts = torch.cat([images.X for images in sets]), self.network.unpack(w)
        step = self.piece or EVALUATED
        with torch.no_grad():
            scores = torch.cat([self.network.evaluate(parts, X[i : i + step]) for i in range(0, len(X), step)])
        found = zip(scores.split([len(images.y) for images in sets]), sets, strict=True)
        return [(_cross_entropy(s, images.y), float((s.argmax(1) == images.y).float().mean())) for s, images in found]

    def _pieces(self, rows: Any) -> Iterator[Any]:
        import torch

        rows = torch.from_numpy(np.asarray(rows)).to(self.images.X.device)
        step = self.piece or len(rows)
        return (rows[i : i + step] for i in range(0, len(rows), step))

    def _share(self, parts: list[Any], rows: Any, count: int) -> Any:
        """The rows' part of a mean over `count`."""
        import torch

        scores = self.network.forward(parts, self.images.X[rows])
        return torch.nn.functional.cross_entropy(scores, self.images.y[rows], reduction="sum") / count


def _cross_entropy(scores: Any, y: Any) -> float:
    import torch

    return float(torch.nn.functional.cross_entropy(scores, y))


class Case(NamedTuple):
    """A trainee, images that are held out of the training set, and the test set."""

    trainee: Trainee
    held_out: Images
    test: Images


@functools.lru_cache(maxsize=2)
def case(name: str, n_train: int, n_held_out: int, side: int, device: str) -> Case:
    """Return a network and its data by name: "mnist" or "cifar10"; `side` in pixels."""
    n = n_train + n_held_out
    split = SPLITS[name](n, side)
    if len(split.y) < n:
        raise ValueError(f"{name}: {n} training images are needed, the data has {len(split.y)}")
    images = _on(device, split.X, split.y)
    train, held_out = (Images(images.X[part], images.y[part]) for part in (slice(n_train), slice(n_train, n)))
    network = NetDNN() if name == "mnist" else ResNet20(split.X[:REFERENCE])
    piece = PIECE if name == "mnist" and device == "cpu" else None
    return Case(Trainee(network, train, piece), held_out, _on(device, split.X_test, split.y_test))


def _mnist(n: int, side: int) -> data.Split:
    return data.mnist(flat=False, n_train=n)


def _on(device: str, X: Any, y: Any) -> Images:
    import torch

    return Images(torch.from_numpy(np.asarray(X, np.float32)).to(device), torch.from_numpy(y).to(device))


SPLITS: dict[str, Callable[[int, int], data.Split]] = {"mnist": _mnist, "cifar10": data.cifar_images}
