r"""
A stream without an end
=======================

Here no set exists to make passes over: each batch is drawn anew from scikit-learn's digits, every image moved by up
to one pixel in each direction and its grey levels disturbed, so no image comes twice. `StreamSampler` needs nothing
but a function that makes a batch of any size. The images that were kept apart are disturbed too, once.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import mblsr1

X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(X / 16, y, test_size=500, stratify=y, random_state=0)


def disturbed(X, rng):
    """Each image moved by -1, 0 or 1 pixel down and to the right, with noise on the grey levels."""
    padded = np.pad(X.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    down, right = rng.integers(0, 3, (2, len(X), 1, 1))
    rows, columns = np.arange(8).reshape(8, 1) + down, np.arange(8) + right
    moved = padded[np.arange(len(X)).reshape(-1, 1, 1), rows, columns]
    return moved.reshape(-1, 64) + 0.1 * rng.standard_normal((len(X), 64))


def draw(size, rng):
    """A batch of the stream."""
    chosen = rng.integers(0, len(y), size)
    return disturbed(X[chosen], rng), y[chosen]


# %%
# The model has one hidden layer of tanh units. What the weights are is one line; the loss is the cross-entropy.

hidden = 40
shapes = [(64, hidden), (hidden,), (hidden, 10), (10,)]
ends = np.cumsum([np.prod(shape) for shape in shapes])


def scores(w, X):
    """Weights, hidden units and scores."""
    A, a, B, b = (part.reshape(shape) for part, shape in zip(np.split(w, ends[:-1]), shapes, strict=True))
    units = np.tanh(X @ A + a)
    return B, units, units @ B + b


def loss_and_gradient(w, batch):
    """Mean cross-entropy over the batch, and its gradient."""
    X, y = batch
    B, units, s = scores(w, X)
    log_p = s - np.logaddexp.reduce(s, axis=1, keepdims=True)
    back = np.exp(log_p)
    back[np.arange(len(y)), y] -= 1
    back /= len(y)
    inner = (back @ B.T) * (1 - units**2)
    gradient = [X.T @ inner, inner.sum(axis=0), units.T @ back, back.sum(axis=0)]
    return -log_p[np.arange(len(y)), y].mean(), np.concatenate([part.ravel() for part in gradient])


# %%
# The run is a loop, so the program decides when it has seen enough: here after 100,000 images. Where the batch says
# more noise than gradient, it doubles; a stream has no size that would limit it.

rng = np.random.default_rng(0)
test = disturbed(X_test, rng)
w0 = np.concatenate([(rng.standard_normal(shape) / np.sqrt(shape[0])).ravel() for shape in shapes])


def accuracy(w):
    """Share of the test images that are read correctly."""
    return np.mean(scores(w, test)[2].argmax(axis=1) == y_test)


def watched(**how):
    """Cost, test loss and batch size along the run, and its last step."""
    rows = []
    for step in mblsr1.iterate(
        loss_and_gradient, True, w0, mblsr1.StreamSampler(draw), rng=0, batch_size=64, max_samples=100_000, **how
    ):
        if not rows or step.n_samples >= rows[-1][0] + 500:
            rows.append((step.n_samples, loss_and_gradient(step.x, (test, y_test))[0], step.batch_size))
    return np.array(rows).T, step


ours, last = watched()
print(f"MB-LSR1: {last.step} steps, last batch {last.batch_size}, test accuracy {accuracy(last.x):.3f}")
others = {}
for rate in (0.003, 0.01, 0.03):
    others[rate], last = watched(method=mblsr1.adam(rate))
    print(f"Adam, rate {rate}: {last.step} steps, test accuracy {accuracy(last.x):.3f}")

fig, axes = plt.subplots(2, 1, sharex=True, figsize=(7, 6), height_ratios=(2, 1), layout="constrained")
for rate, (cost, loss, _) in others.items():
    axes[0].semilogy(cost, loss, lw=1, label=f"Adam, rate {rate}, batch 64")
axes[0].semilogy(ours[0], ours[1], color="k", lw=2, label="MB-LSR1")
axes[0].set(ylabel="loss on the images kept apart", ylim=(None, 3))
axes[0].legend(frameon=False)
axes[1].semilogy(ours[0], ours[2], color="k")
axes[1].set(xlabel="images seen", ylabel="batch size")
plt.show()
