"""
A convolutional net in torch
============================

`mblsr1.torch.MBLSR1` stands in a training loop where another `torch.optim.Optimizer` stood. It needs a closure, as
`torch.optim.LBFGS` does, and no learning rate.

Where the variable ``MBLSR1_DATA`` names a folder with MNIST as ``mnist.npz`` (``x_train``, ``y_train``, ``x_test``,
``y_test``), this trains on 6,000 of its images; otherwise, as on this page, on scikit-learn's digits.
"""

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn.functional import cross_entropy

import mblsr1.torch


def read():
    """Images (n, 1, side, side) and labels, to train on and to test."""
    path = Path(os.environ.get("MBLSR1_DATA", "")) / "mnist.npz"
    if path.is_file():
        with np.load(path) as file:
            parts = (
                file["x_train"][:6000] / 255,
                file["x_test"][:2000] / 255,
                file["y_train"][:6000],
                file["y_test"][:2000],
            )
    else:
        X, y = load_digits(return_X_y=True)
        parts = train_test_split(X.reshape(-1, 8, 8) / 16, y, test_size=450, stratify=y, random_state=0)
    X, X_test, y, y_test = parts
    images = [torch.tensor(part[:, None], dtype=torch.float32) for part in (X, X_test)]
    return *images, torch.tensor(y, dtype=torch.int64), torch.tensor(y_test, dtype=torch.int64)


X, X_test, y, y_test = read()
N, side, passes = len(y), X.shape[-1], 20


def network():
    """Two convolutions and two linear layers, the same start each time."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(16, 32, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Flatten(), torch.nn.Linear(32 * (side // 4) ** 2, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10),
    )  # fmt: skip


def looked_at(model):
    """Training loss, and share of the test images that are read correctly."""
    with torch.no_grad():
        return float(cross_entropy(model(X), y)), float((model(X_test).argmax(dim=1) == y_test).double().mean())


# %%
# The loop is the usual one, but for two things. The optimizer is told how many samples there are and what the
# training will cost, so that it can lower its radius at the end; and the loop follows ``suggested_batch_size``, which
# grows where a batch is more noise than gradient. A step evaluates the closure twice, before and after, so one pass
# of steps costs two.


def train_with_mblsr1():
    """Cost in passes, training loss and test accuracy."""
    model, rng = network(), np.random.default_rng(0)
    optimizer = mblsr1.torch.MBLSR1(model.parameters(), n_samples=N, planned_samples=passes * N, batch_size=64)
    rows = [(0.0, *looked_at(model))]
    while (cost := optimizer.last_step.get("n_samples", 0)) < passes * N:
        size = optimizer.suggested_batch_size
        chosen = torch.from_numpy(rng.choice(N, size, replace=False))
        images, labels = X[chosen], y[chosen]

        def closure(images=images, labels=labels):
            loss = cross_entropy(model(images), labels)
            loss.backward()
            return loss

        optimizer.step(closure, batch_size=size)
        if cost / N > rows[-1][0] + 0.5:
            rows.append((cost / N, *looked_at(model)))
    print(f"MB-LSR1: last batch {size}, loss {looked_at(model)[0]:.4f}, test accuracy {looked_at(model)[1]:.3f}")
    return np.array([*rows, (cost / N, *looked_at(model))])


def train_with_adam(rate):
    """The same with Adam at batch 64."""
    model, rng = network(), np.random.default_rng(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    rows = [(0.0, *looked_at(model))]
    for k in range(passes * N // 64):
        chosen = torch.from_numpy(rng.choice(N, 64, replace=False))
        optimizer.zero_grad()
        cross_entropy(model(X[chosen]), y[chosen]).backward()
        optimizer.step()
        if (k + 1) * 64 / N > rows[-1][0] + 0.5:
            rows.append(((k + 1) * 64 / N, *looked_at(model)))
    print(f"Adam, rate {rate}: loss {rows[-1][1]:.4f}, test accuracy {rows[-1][2]:.3f}")
    return np.array(rows)


runs = {f"Adam, rate {rate}, batch 64": train_with_adam(rate) for rate in (3e-4, 1e-3, 3e-3, 1e-2)}
runs["MB-LSR1"] = train_with_mblsr1()

# %%
# Where the whole run may be left to the library, one call does it, with the overlapping batches of `mblsr1.minimize`:
# a step then costs about one gradient a sample, not two.

model = network()


def loss(model, batch):
    """Mean loss over a batch."""
    images, labels = batch
    return cross_entropy(model(images), labels)


result = mblsr1.torch.minimize(
    model, loss, mblsr1.ArraySampler(X, y), rng=0, batch_size=64, max_samples=passes * N
)  # fmt: skip
at_end = looked_at(model)
print(f"mblsr1.torch.minimize: {result.nit} steps, loss {at_end[0]:.4f}, test accuracy {at_end[1]:.3f}")

# %%
# In training loss the best of four rates puts Adam ahead, and its usual rate, 0.001, leaves it behind. In test
# accuracy, drawn beside it, Adam is ahead with three of the four rates, the usual one among them. That is the trade:
# nothing to tune, and not the last word where tuning is cheap.

fig, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for name, rows in runs.items():
    style = {"color": "k", "lw": 2} if name == "MB-LSR1" else {"lw": 1}
    axes[0].semilogy(rows[:, 0], rows[:, 1], label=name, **style)
    axes[1].plot(rows[:, 0], rows[:, 2], **style)
axes[0].semilogy([result.n_samples / N], at_end[:1], "k*", ms=12, label="mblsr1.torch.minimize, at its end")
axes[1].plot([result.n_samples / N], at_end[1:], "k*", ms=12)
axes[0].set(xlabel="passes over the data", ylabel="training loss")
axes[0].legend(frameon=False)
axes[1].set(xlabel="passes over the data", ylabel="test accuracy", ylim=(0.85, 1.0))
plt.show()
