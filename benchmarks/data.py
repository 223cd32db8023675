"""Data sets of the benchmarks: .npz files by name, from the folder in the environment variable MBLSR1_DATA.

Where it is not set, they come from the ordinary downloaders (`download`).

Files: ``mnist.npz`` (x_train, y_train, x_test, y_test, uint8), ``cifar10_jpeg.npz`` (all images as JPEG:
jpeg_header, train_bytes, train_offsets, y_train and the same for test), ``cifar10.npz`` (10,000 training and 2,000
test images: x_train, y_train, x_test, y_test, uint8), and one file an imbalanced set (``ecoli.npz``, ...: X, and y
with +1 for the minority, -1 for the majority; shapes and classes are checked against the table of `imbalanced`).
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from benchmarks import download
from benchmarks.imbalanced import PARTS, TABLE, checked
from benchmarks.store import CACHE
from numpy.typing import NDArray

VARIABLE = "MBLSR1_DATA"


class Split(NamedTuple):
    """Training and test data: float inputs, integer classes."""

    X: NDArray[Any]
    y: NDArray[np.int64]
    X_test: NDArray[Any]
    y_test: NDArray[np.int64]


def load(name: str) -> Any:
    """Return the arrays of NAME.npz, or of a downloader; a FileNotFoundError says how to provide them."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        return _downloaded(name)
    path = Path(folder) / f"{name}.npz"
    if not path.is_file():
        raise FileNotFoundError(f"{name}.npz is not in the folder that the environment variable {VARIABLE} names")
    return np.load(path)


def _downloaded(name: str) -> Any:
    wanted = f"{name}.npz: set the environment variable {VARIABLE} to the folder that holds it"
    try:
        return download.fetch(name, CACHE)
    except LookupError:
        raise FileNotFoundError(wanted) from None
    except ImportError as missing:
        raise FileNotFoundError(f"{wanted}, or install {missing.name}, which downloads it") from missing


def mnist(flat: bool = True, n_train: int | None = None) -> Split:
    """Return MNIST scaled to [0, 1]; `n_train` takes that many training images, the same in every run."""
    z = load("mnist")
    rows = np.arange(60_000) if n_train is None else np.random.default_rng(0).permutation(60_000)[:n_train]
    X, X_test = z["x_train"][rows] / 255.0, z["x_test"] / 255.0
    if flat:
        X, X_test = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
    return Split(X, z["y_train"][rows].astype(np.int64), X_test, z["y_test"].astype(np.int64))


def cifar_small(cache: Path) -> Split:
    """Return CIFAR-10 averaged to 8 x 8 x 3 and standardised; decoded once, then kept in `cache`."""
    path = cache / "cifar10_8x8.npz"
    if not path.is_file():
        z = load("cifar10_jpeg")
        arrays = {"X": _decoded(z, "train"), "X_test": _decoded(z, "test"), "y": z["y_train"], "y_test": z["y_test"]}
        cache.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part.npz")
        np.savez(part, **arrays)
        part.replace(path)
    z = np.load(path)
    return Split(*_standardised(z["X"], z["X_test"], z["y"], z["y_test"]))


def cifar_images(n_train: int, side: int) -> Split:
    """Return CIFAR-10 images averaged to 3 x `side` x `side`, each channel standardised, float32; the first of each."""
    z = load("cifar10")
    X, X_test = (_averaged(z[name], side).transpose(0, 3, 1, 2) for name in ("x_train", "x_test"))
    X, y = X[:n_train], z["y_train"][:n_train].astype(np.int64)
    mean, sd = (f(X, axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.std))
    X, X_test = (np.ascontiguousarray((part - mean) / sd, dtype=np.float32) for part in (X, X_test))
    return Split(X, y, X_test, z["y_test"].astype(np.int64))


def imbalanced(name: str) -> Split:
    """Return an imbalanced set, class 1 the minority: a random 80/20 split, the same in every run, standardised.

    A ValueError names a set that is not what the table of `benchmarks.imbalanced` says.
    """
    if name not in TABLE and name not in PARTS:
        raise ValueError(f"{name}: not an imbalanced set; known: {', '.join([*TABLE, *PARTS])}")
    z = load(name)
    X, y = z["X"].astype(float), z["y"]
    checked(name, X, y)
    y = (y > 0).astype(np.int64)
    order = np.random.default_rng(123).permutation(len(y))
    cut = int(0.8 * len(y))
    train, test = order[:cut], order[cut:]
    return Split(*_standardised(X[train], X[test], y[train], y[test]))


def _decoded(z: Any, part: str) -> NDArray[np.float64]:
    from PIL import Image

    header, stream, ends = np.asarray(z["jpeg_header"]).tobytes(), z[f"{part}_bytes"].tobytes(), z[f"{part}_offsets"]
    pooled = np.empty((len(ends) - 1, 8, 8, 3))
    for i in range(len(pooled)):
        image = Image.open(io.BytesIO(header + stream[ends[i] : ends[i + 1]]))
        pooled[i] = _averaged(np.asarray(image)[None], 8)[0]
    return pooled.reshape(len(pooled), -1)


def _averaged(images: Any, side: int) -> NDArray[np.float64]:
    """Images x rows x columns x channels, each side x side pixels of equal blocks' means."""
    n, full, _, channels = images.shape
    block = full // side
    blocks: NDArray[np.float64] = images.reshape(n, side, block, side, block, channels).mean(axis=(2, 4), dtype=float)
    return blocks


def _standardised(X: Any, X_test: Any, y: Any, y_test: Any) -> tuple[Any, Any, Any, Any]:
    """Order the four as in Split; mean 0 and variance 1 over the training rows, constant columns left at 0."""
    mean, sd = X.mean(axis=0), X.std(axis=0)
    sd = np.where(sd < 1e-9, 1.0, sd)
    return (X - mean) / sd, y.astype(np.int64), (X_test - mean) / sd, y_test.astype(np.int64)
