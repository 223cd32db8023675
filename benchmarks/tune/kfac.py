"""K-FAC of kfac-jax on a fully connected network: the peer that sees layers, not only matrices.

kfac-jax 0.0.8 does not run with JAX 0.8 and later, so it has an environment of its own: ``python -m nox -s kfac``.
A step is charged one gradient a sample, as every method's; the extra backward pass that samples the Fisher matrix is
not charged, which favours K-FAC.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from benchmarks.tune.networks import Perceptron

MOMENTUM, INVERSES_EVERY = 0.9, 5


def train(
    setting: dict[str, float], network: Perceptron, w0: Any, sampler: Any, batch: int, budget: float, seed: int,
    watch: Callable[[float, Any], None],
) -> tuple[Any, int, bool]:  # fmt: skip
    """Spend the budget; return the weights, the steps and whether they stayed finite. The rate falls with a cosine."""
    import jax

    steps, rng, key = int(budget // batch), np.random.default_rng(seed), jax.random.PRNGKey(seed)
    params, w = layers(network, w0), w0
    optimizer = _optimizer(setting["rate"], setting["damping"], steps)
    state = optimizer.init(params, key, sampler.draw(batch, np.random.default_rng(seed)))
    for step in range(steps):
        key, own = jax.random.split(key)
        params, state, _stats = optimizer.step(params, state, own, batch=sampler.draw(batch, rng), global_step_int=step)
        w = np.concatenate([np.asarray(p).ravel() for layer in params for p in layer])
        if not np.isfinite(w).all():
            return w, step + 1, False
        watch((step + 1) * batch, w)
    return w, steps, True


def layers(network: Perceptron, w: Any) -> list[tuple[Any, Any]]:
    """Weights and bias of each layer."""
    import jax.numpy as jnp

    parts = [jnp.asarray(p) for p in network.unpack(w)]
    return list(zip(parts[::2], parts[1::2], strict=True))


def loss(params: Any, batch: Any) -> Any:
    """Mean cross-entropy of the perceptron, registered as such."""
    import jax
    import jax.numpy as jnp
    import kfac_jax

    h, y = batch
    for i, (W, b) in enumerate(params):
        h = h @ W + b
        h = jnp.tanh(h) if i + 1 < len(params) else h
    kfac_jax.register_softmax_cross_entropy_loss(h, y)
    return -jnp.mean(jax.nn.log_softmax(h)[jnp.arange(len(y)), y])


def prepare() -> None:
    """Float64 and one thread; before JAX is first used."""
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    import jax

    jax.config.update("jax_enable_x64", True)


def _optimizer(rate: float, damping: float, steps: int) -> Any:
    import jax
    import jax.numpy as jnp
    import kfac_jax

    return kfac_jax.Optimizer(
        jax.value_and_grad(loss), l2_reg=0.0, num_burnin_steps=0, inverse_update_period=INVERSES_EVERY,
        learning_rate_schedule=lambda global_step: 0.5 * rate * (1.0 + jnp.cos(jnp.pi * global_step / steps)),
        momentum_schedule=lambda global_step: MOMENTUM, damping_schedule=lambda global_step: damping,
    )  # fmt: skip
