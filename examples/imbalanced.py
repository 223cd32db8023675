r"""
Logistic regression on an imbalanced set
========================================

One handwritten digit in ten is an eight. A model that never says "eight" is right nine times in ten, so each class
gets half of the weight:

.. math:: f(w) = \frac1N \sum_i c_i \log(1 + e^{-y_i x_i^\top w}) + \frac{\lambda}{2} \|w\|^2,
   \qquad c_i = \frac{N}{2 N_{y_i}}.

The weights belong to the data: they are drawn with the rows, and a batch that has few eights by chance is still an
unbiased sample of the loss.

The digits are scikit-learn's 1,797; where the variable ``MBLSR1_DATA`` names a folder with ``optical_digits.npz``
(arrays ``X`` and ``y`` of -1 and 1), those 5,620 of the same source.
"""

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import PrecisionRecallDisplay, balanced_accuracy_score
from sklearn.model_selection import train_test_split

import mblsr1


def read():
    """Images as rows, and 1 for an eight, -1 for another digit."""
    path = Path(os.environ.get("MBLSR1_DATA", "")) / "optical_digits.npz"
    if path.is_file():
        with np.load(path) as file:
            return file["X"] / 16.0, file["y"].astype(float)
    X, digit = load_digits(return_X_y=True)
    return X / 16.0, np.where(digit == 8, 1.0, -1.0)


X, y = read()
X = np.column_stack([X, np.ones(len(X))])
X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
N, ridge = len(y), 1e-4
c = np.where(y > 0, N / (2 * np.sum(y > 0)), N / (2 * np.sum(y < 0)))
print(f"{N} images to train on, {np.mean(y > 0):.1%} of them eights")


def loss_and_gradient(w, batch):
    """Means over the batch."""
    X, y, c = batch
    margin = y * (X @ w)
    slope = -y * c * np.exp(-np.logaddexp(0.0, margin))
    loss = np.mean(c * np.logaddexp(0.0, -margin)) + 0.5 * ridge * (w @ w)
    return loss, X.T @ slope / len(y) + ridge * w


# %%
# Three runs from zero: on samples, as by default, where the batch grows to a quarter of the set; on the whole set
# from the first step on; and Adam with the best of five rates, which one knows only afterwards. The minimum is that
# of a fourth run, which goes on from the second.

sampler = mblsr1.ArraySampler(X, y, c)
w0 = np.zeros(X.shape[1])
passes = 100


def run(**how):
    """Passes and losses over the whole set, and the last iterate."""
    cost, loss = [0.0], [loss_and_gradient(w0, (X, y, c))[0]]

    def watch(step):
        if step.n_samples / N >= 1.02 * cost[-1] + 0.1:
            cost.append(step.n_samples / N)
            loss.append(loss_and_gradient(step.x, (X, y, c))[0])

    result = mblsr1.minimize(
        loss_and_gradient, True, w0, sampler, rng=0, max_samples=passes * N, callback=watch, **how
    )  # fmt: skip
    return np.array(cost), np.array(loss), result


runs = {
    "samples": run(batch_size=256),
    "whole set": run(batch_size=N, gtol=1e-8),
}
rates = (0.003, 0.01, 0.03, 0.1, 0.3)
adam = {rate: run(batch_size=64, method=mblsr1.adam(rate)) for rate in rates}
rate = min(adam, key=lambda rate: adam[rate][1][-1])
runs[f"Adam, rate {rate}, batch 64"] = adam[rate]
minimum = mblsr1.minimize(
    loss_and_gradient, True, runs["whole set"][2].x, sampler, batch_size=N, gtol=1e-10, max_steps=1000
).fun

# %%
# On samples, noise sets a floor; on the whole set there is none. So where a gradient over all the data is cheap, as
# here, take ``batch_size=N``. Whether the last digits of the loss matter is for the images to say that were kept
# apart: here they do not.

fig, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for name, (cost, loss, result) in runs.items():
    accuracy = balanced_accuracy_score(y_test, np.sign(X_test @ result.x))
    print(f"{name:28} {loss[-1] - minimum:8.1e} above the minimum, balanced accuracy {accuracy:.3f}; {result.message}")
    axes[0].loglog(cost[1:], loss[1:] - minimum, label=name)
    PrecisionRecallDisplay.from_predictions(y_test, X_test @ result.x, ax=axes[1], name=name)
axes[0].set(xlabel="passes over the data", ylabel="loss above its minimum", ylim=(1e-9, 3))
axes[0].legend(frameon=False)
axes[1].legend(loc="lower left")
axes[1].set_title("images kept apart", loc="left")
plt.show()
