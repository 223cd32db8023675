"""
A pytree of parameters in JAX
=============================

An autoencoder squeezes the 64 pixels of scikit-learn's digits through two numbers and restores them. Its parameters are
what a user of JAX would write, a list of dicts; `mblsr1.jax.minimize` takes the tree, differentiates the loss, compiles
it and returns a tree.
"""

from itertools import pairwise

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import mblsr1

X, digit = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
N = len(X)
sizes = (64, 40, 20, 2, 20, 40, 64)


def start(seed):
    """Weights of variance 1 / inputs, zero biases: one dict for each layer."""
    rng = np.random.default_rng(seed)
    return [
        {
            "W": jnp.asarray(rng.standard_normal((a, b)) / np.sqrt(a), jnp.float32),
            "b": jnp.zeros(b, jnp.float32),
        }
        for a, b in pairwise(sizes)
    ]


def through(layers, x):
    """The layers one after the other, tanh between them."""
    for k, layer in enumerate(layers):
        x = x @ layer["W"] + layer["b"]
        x = jnp.tanh(x) if k < len(layers) - 1 else x
    return x


def loss(layers, batch):
    """Cross-entropy of each pixel's grey level, the mean over the images."""
    (x,) = batch
    code = through(layers[:3], x)
    scores = through(layers[3:], code)
    return jnp.mean(jnp.sum(jnp.logaddexp(0.0, scores) - x * scores, axis=1))


# %%
# Three runs of 25 passes: on samples, on samples with ``blocks=True``, which tells the method that the leaves are
# matrices, and Adam in the same driver, at a rate that suits it.

sampler = mblsr1.ArraySampler(X)
w0 = start(0)


def run(**how):
    """Cost in passes, losses over the whole set, and the parameters found."""
    cost, losses, whole = [0.0], [float(loss(w0, (X,)))], jax.jit(lambda w: loss(w, (X,)))

    def watch(step):
        if step.n_samples / N >= cost[-1] + 1:
            cost.append(step.n_samples / N)
            losses.append(float(whole(step.x)))

    result = mblsr1.jax.minimize(
        loss, True, w0, sampler, rng=0, max_samples=25 * N, callback=watch, **how
    )  # fmt: skip
    return [*cost, result.n_samples / N], [*losses, float(whole(result.x))], result


runs = {
    "MB-LSR1": run(),
    "MB-LSR1, blocks": run(blocks=True),
    "Adam, rate 0.01": run(method=mblsr1.adam(1e-2)),
}
for name, (_, losses, result) in runs.items():
    print(f"{name:18} {result.nit} steps, last batch {result.batch_size}, loss {losses[-1]:.3f}")
print("shapes found:", jax.tree.map(jnp.shape, runs["MB-LSR1"][2].x)[0])

# %%
# The code of each image, two numbers, is its place in the middle picture; nothing has told the net which digit it is.

best = min(runs, key=lambda name: runs[name][1][-1])
layers = runs[best][2].x
code = np.asarray(through(layers[:3], X))
restored = jax.nn.sigmoid(through(layers[3:], code[:8]))

fig, axes = plt.subplots(1, 3, figsize=(12, 4), width_ratios=(1.2, 1.2, 0.7), layout="constrained")
for name, (cost, losses, _) in runs.items():
    axes[0].semilogy(cost, losses, label=name)
axes[0].set(xlabel="passes over the data", ylabel="loss over the whole set")
axes[0].legend(frameon=False)
shown = axes[1].scatter(*code.T, c=digit, cmap="tab10", s=6, vmin=-0.5, vmax=9.5)
fig.colorbar(shown, ax=axes[1], ticks=range(10), label="digit")
axes[1].set_title(f"code, {best}", loc="left")
pairs = np.hstack([X[:8].reshape(-1, 8), np.asarray(restored).reshape(-1, 8)])
axes[2].imshow(np.hstack([pairs[:32], np.zeros((32, 4)), pairs[32:]]), cmap="gray_r")
axes[2].set_title("image, restored", loc="left")
axes[2].set_axis_off()
plt.show()
