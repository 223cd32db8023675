"""The demonstration: four methods train one small classifier on real data, at the same cost."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import mblsr1
from mblsr1.types import Method

__all__ = ["run"]

_HIDDEN = 50
_BATCH = 128
#: Points of a curve: the loss over the training set is looked at this often, outside the counted cost.
_POINTS = 120

Data = tuple[NDArray[np.float64], NDArray[np.int64]]


class Curve(NamedTuple):
    """What one method did."""

    name: str
    n_samples: list[float]
    loss: list[float]
    accuracy: float
    cost: float
    seconds: float


class Network:
    """One hidden layer of tanh units and softmax, weights in one flat vector.

    Parameters
    ----------
    inputs, hidden, classes : int
    """

    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        self.shapes = [(inputs, hidden), (hidden,), (hidden, classes), (classes,)]
        self.ends = np.cumsum([int(np.prod(s)) for s in self.shapes])

    def start(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Random weights of variance 1/inputs, zero biases."""
        parts = [rng.standard_normal(s) / np.sqrt(s[0]) if len(s) == 2 else np.zeros(s) for s in self.shapes]
        return np.concatenate([p.ravel() for p in parts])

    def unpack(self, w: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Views of w as weights and biases."""
        return [p.reshape(s) for p, s in zip(np.split(w, self.ends[:-1]), self.shapes, strict=True)]

    def probabilities(self, w: NDArray[np.float64], X: NDArray[np.float64]) -> Any:
        """Hidden units (n, hidden) and log-probabilities (n, classes)."""
        W1, b1, W2, b2 = self.unpack(w)
        hidden = np.tanh(X @ W1 + b1)
        scores = hidden @ W2 + b2
        scores -= scores.max(axis=1, keepdims=True)
        return hidden, scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))

    def loss_and_gradient(self, w: NDArray[np.float64], batch: Data) -> tuple[float, NDArray[np.float64]]:
        """Mean cross-entropy over the batch, and its gradient."""
        X, y = batch
        n = len(y)
        hidden, log_p = self.probabilities(w, X)
        back = np.exp(log_p)
        back[np.arange(n), y] -= 1.0
        back /= n
        inner = (back @ self.unpack(w)[2].T) * (1.0 - hidden * hidden)
        parts = [X.T @ inner, inner.sum(axis=0), hidden.T @ back, back.sum(axis=0)]
        return -float(log_p[np.arange(n), y].mean()), np.concatenate([p.ravel() for p in parts])

    def accuracy(self, w: NDArray[np.float64], data: Data) -> float:
        """Share of samples whose most probable class is right."""
        X, y = data
        return float((self.probabilities(w, X)[1].argmax(axis=1) == y).mean())


def digits() -> tuple[Data, Data]:
    """Return scikit-learn's bundled handwritten digits: 1,347 to train on, 450 to test."""
    from sklearn.datasets import load_digits  # noqa: PLC0415
    from sklearn.model_selection import train_test_split  # noqa: PLC0415

    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X / 16.0, y, test_size=450, stratify=y, random_state=0)
    return (X_train, y_train), (X_test, y_test)


def contestants() -> list[tuple[str, dict[str, Any]]]:
    """Names and settings; the first-order methods at settings that are usual for this kind of network."""
    return [
        ("MB-LSR1", {"options": mblsr1.Options(batch_size=_BATCH)}),
        ("L-SSR1-TR", {"options": mblsr1.Options.l_ssr1_tr(batch_size=_BATCH, initial_radius=1.0)}),
        ("SGD, rate 0.1, momentum 0.9", _first_order(mblsr1.sgd(0.1, 0.9))),
        ("Adam, rate 0.001", _first_order(mblsr1.adam(1e-3))),
    ]


def _first_order(method: Method) -> dict[str, Any]:
    return {"method": method, "options": mblsr1.Options(batch_size=_BATCH)}


def train(name: str, settings: dict[str, Any], train_data: Data, test_data: Data, budget: float, seed: int) -> Curve:
    """Run one method and keep its loss over the whole training set, from the same start for all."""
    network = Network(train_data[0].shape[1], _HIDDEN, int(train_data[1].max()) + 1)
    w0 = network.start(np.random.default_rng(seed))
    at, losses = [0.0], [network.loss_and_gradient(w0, train_data)[0]]
    seconds = 0.0

    def watch(step: mblsr1.Step) -> None:
        nonlocal seconds
        if step.n_samples - at[-1] >= budget / _POINTS:
            began = time.perf_counter()
            at.append(step.n_samples)
            losses.append(network.loss_and_gradient(step.x, train_data)[0])
            seconds -= time.perf_counter() - began

    seconds -= time.perf_counter()
    result = mblsr1.minimize(
        network.loss_and_gradient, True, w0, mblsr1.ArraySampler(*train_data),
        rng=seed, max_samples=budget, callback=watch, disp=True, **settings,
    )  # fmt: skip
    seconds += time.perf_counter()
    at.append(result.n_samples)
    losses.append(network.loss_and_gradient(result.x, train_data)[0])
    return Curve(name, at, losses, network.accuracy(result.x, test_data), result.n_samples, seconds)


def table(curves: list[Curve]) -> str:
    """Return the results as text."""
    rows = [f"{'method':30}{'test accuracy':>14}{'train loss':>12}{'sample-gradients':>18}{'seconds':>9}"]
    rows += [f"{c.name:30}{c.accuracy:14.4f}{c.loss[-1]:12.2e}{c.cost:18,.0f}{c.seconds:9.2f}" for c in curves]
    return "\n".join(rows)


def picture(curves: list[Curve], epoch: int, output: str) -> None:
    """Draw loss against cost, each curve named at its end."""
    import matplotlib  # noqa: PLC0415

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    fig, ax = plt.subplots(figsize=(9, 5.2), layout="constrained")
    colors = ["#0b6e99", "#7a5195", "#ef5675", "#ffa600"]
    for curve, color in zip(curves, colors, strict=True):
        x = np.asarray(curve.n_samples) / epoch
        ax.semilogy(x, curve.loss, color=color, lw=2.8 if curve is curves[0] else 1.8, label=curve.name)
    ax.set_xlabel("cost: passes over the data (sample-gradients / N)")
    ax.set_ylabel("loss over the training set")
    ax.set_title("Handwritten digits, one hidden layer of 50 tanh units", loc="left", fontsize=13)
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(True, which="major", color="0.9")
    ax.set_xlim(0, None)
    fig.savefig(output, dpi=150)
    plt.close(fig)


def run(output: str, epochs: float, seed: int, show: Callable[[str], None] = print) -> int:
    """Train, print the table, write the picture; return the exit code."""
    try:
        import matplotlib  # noqa: F401, PLC0415
        from threadpoolctl import threadpool_limits  # noqa: PLC0415

        train_data, test_data = digits()
    except ImportError as error:
        show(f'The demonstration needs scikit-learn and matplotlib: python -m pip install "mblsr1[demo]" ({error})')
        return 1
    n = len(train_data[1])
    show(f"{n} digits to train on, {len(test_data[1])} to test, {epochs:g} passes for each method, batch {_BATCH}")
    with threadpool_limits(limits=1):  # the matrices are small: threads would only wait for each other
        curves = [train(name, s, train_data, test_data, epochs * n, seed) for name, s in contestants()]
    show("\n" + table(curves))
    picture(curves, n, output)
    show(f"\nseed {seed}, mblsr1 {mblsr1.__version__}, NumPy {np.__version__}, Python {platform.python_version()}")
    show(f"The picture is in {output}")
    return 0
