"""Stochastic tasks: which of them select the default settings, and which only report.

"selection": MNIST, CIFAR-10 averaged to 8 x 8, six imbalanced sets and NetDNN, looked at while settings
are chosen. "reporting": eight further imbalanced sets and ResNet20 with batch norm, run only with settings that
stand. "own batch": first-order methods on MNIST at batches of their own, for the comparison with mblsr1's large one.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from benchmarks import data
from benchmarks.store import CACHE
from benchmarks.tune.networks import NetDNN, Network, Perceptron, ResNet20

SELECTION_SETS = ("ecoli", "oil", "yeast_me2", "us_crime", "satimage", "letter_img")
REPORTING_SETS = (
    "spectrometer", "abalone_19", "wine_quality", "ozone_level", "optical_digits", "pen_digits", "mammography", "scene",
)  # fmt: skip


class Task(NamedTuple):
    """Data, batch (0: an eighth of the set), passes over the data, and role.

    `families` are the only ones that run; None: all. Where `thrifty`, a grid is run on seed 0 alone, and the best of
    it on the other seeds.
    """

    data: str
    batch: int
    epochs: float
    role: str = "selection"
    families: tuple[str, ...] | None = None
    thrifty: bool = False


#: Smallest first.
TASKS: dict[str, Task] = {
    **{name: Task(name, 0, 60) for name in SELECTION_SETS},
    **{name: Task(name, 0, 60, "reporting") for name in REPORTING_SETS},
    "letter_img batch 16": Task("letter_img", 16, 6),
    "mnist batch 64": Task("mnist", 64, 1),
    "mnist batch 256": Task("mnist", 256, 3),
    "cifar10 8x8": Task("cifar", 4096, 15),
    "mnist": Task("mnist", 4096, 15),
    "netdnn": Task("netdnn", 1024, 8, thrifty=True),
    "resnet20": Task("resnet20", 512, 12, "reporting", thrifty=True),
    "mnist 64 long": Task("mnist", 64, 15, "own batch", ("SGD", "Adam"), thrifty=True),
    "mnist 256 long": Task("mnist", 256, 15, "own batch", ("SGD", "Adam"), thrifty=True),
}


@functools.lru_cache(maxsize=2)
def setting(name: str) -> tuple[Network, data.Split]:
    """Return network and data by the name of the data."""
    if name == "mnist":
        return Perceptron(784, 50, 10), data.mnist()
    if name == "cifar":
        return Perceptron(192, 128, 64, 10), data.cifar_small(CACHE)
    if name == "netdnn":
        split = data.mnist(flat=False, n_train=12_000)
        return NetDNN(), split._replace(X=split.X.astype("float32"), X_test=split.X_test.astype("float32"))
    if name == "resnet20":
        split = data.cifar_images(n_train=4_096, side=16)
        return ResNet20(split.X[:500]), split
    split = data.imbalanced(name)
    return Perceptron(split.X.shape[1], 50, 2), split
