"""Data sets by the ordinary downloaders, in the arrays of the .npz files that `data` describes.

Used where no folder is named. imbalanced-learn has the imbalanced sets (from Zenodo), torchvision MNIST and CIFAR-10;
without torchvision MNIST comes from OpenML by scikit-learn. They keep what they have fetched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.imbalanced import TABLE

Arrays = dict[str, Any]


def fetch(name: str, folder: Path) -> Arrays:
    """Return the arrays of NAME.npz.

    Parameters
    ----------
    name : str
        "mnist", "cifar10" or a set of `imbalanced.TABLE`.
    folder : Path
        Where torchvision puts its files.

    Raises
    ------
    LookupError
        Where no downloader has it.
    ImportError
        Where the downloader is not installed.
    """
    if name in TABLE:
        return from_imblearn(name)
    if name == "mnist":
        try:
            return from_torchvision("MNIST", folder)
        except ImportError:
            return from_openml()
    if name == "cifar10":
        return from_torchvision("CIFAR10", folder)
    raise LookupError(name)


def from_imblearn(name: str) -> Arrays:
    """Return an imbalanced set; `imblearn` codes the classes as the files do, +1 the minority."""
    from imblearn.datasets import fetch_datasets

    found = fetch_datasets(filter_data=(name,))[name]
    return {"X": np.asarray(found.data), "y": np.asarray(found.target, dtype=np.int8)}


def from_torchvision(name: str, folder: Path) -> Arrays:
    """Return MNIST (images x 28 x 28) or CIFAR-10 (images x 32 x 32 x 3), uint8, by torchvision."""
    from torchvision import datasets

    arrays: Arrays = {}
    for part in ("train", "test"):
        found = getattr(datasets, name)(str(folder), train=part == "train", download=True)
        arrays[f"x_{part}"] = np.asarray(found.data, dtype=np.uint8)
        arrays[f"y_{part}"] = np.asarray(found.targets, dtype=np.int64)
    return arrays


def from_openml() -> Arrays:
    """Return MNIST by OpenML, which has the 60,000 training images first."""
    from sklearn.datasets import fetch_openml

    found = fetch_openml("mnist_784", version=1, as_frame=False)
    X, y = np.asarray(found.data, dtype=np.uint8).reshape(-1, 28, 28), np.asarray(found.target, dtype=np.int64)
    return {"x_train": X[:60_000], "y_train": y[:60_000], "x_test": X[60_000:], "y_test": y[60_000:]}
