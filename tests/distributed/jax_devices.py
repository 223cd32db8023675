"""Runs with vectors or data on eight devices of JAX, and on one; prints what the tests compare."""

import json
import os
import sys
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_ENABLE_X64"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import problems
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import mblsr1

D = 48
X, y = problems.logistic(n=160, d=D).data
MESH = Mesh(np.array(jax.devices()), ("parts",))


@jax.jit
@jax.value_and_grad
def loss_and_gradient(w, batch):
    X, y = batch
    penalty = 0.1 * jnp.sum(w**2 / (1.0 + w**2))
    return (jnp.mean(jnp.logaddexp(0.0, -y * (X @ w))) + penalty).astype(w.dtype)


def placed(x, spec):
    return jnp.asarray(x) if spec is None else jax.device_put(x, NamedSharding(MESH, PartitionSpec(*spec)))


def run(dtype, w_spec, X_spec, y_spec, **changes):
    """A run, and how its iterate and its pairs lie."""
    w0 = placed(np.full(D, 1.5, dtype), w_spec)
    sampler = mblsr1.ArraySampler(placed(X.astype(dtype), X_spec), placed(y.astype(dtype), y_spec))
    given = {"rng": 3, "max_steps": 10, **changes}
    result = mblsr1.minimize(loss_and_gradient, True, w0, sampler, **given)
    rows = result.state.tree["inner"]["memory"]["rows"]
    if w_spec:  # stopped and continued
        first = mblsr1.minimize(loss_and_gradient, True, w0, sampler, **{**given, "max_steps": 7})
        more = {**given, "max_steps": 3, "state": first.state}
        again = mblsr1.minimize(loss_and_gradient, True, w0, sampler, **more)
    else:
        again = result
    return {
        "x": np.asarray(result.x, dtype=float).tolist(),
        "loss": result.history["loss"],
        "parts of w": len({shard.index for shard in map(Part, result.x.addressable_shards)}),
        "columns here": rows.addressable_shards[0].data.shape[1],
        "continued": bool(np.array_equal(np.asarray(again.x), np.asarray(result.x))),
    }


class Part:
    """A shard's index as something that can be counted."""

    def __init__(self, shard):
        self.index = str(shard.index)


LAYOUTS = {
    "one device": (None, None, None),
    "vectors": (("parts",), (None, "parts"), ()),
    "data": ((), ("parts",), ("parts",)),
}
CASES = {
    "float64, samples": (np.float64, {"batch_size": 40}),
    "float64, whole": (np.float64, {"batch_size": 160}),
    "float64, paper": (np.float64, {"options": mblsr1.Options.paper(batch_size=40, restart_memory=16)}),
    "float32, samples": (np.float32, {"batch_size": 40}),
}

if __name__ == "__main__":
    found = {
        case: {layout: run(dtype, *specs, **changes) for layout, specs in LAYOUTS.items()}
        for case, (dtype, changes) in CASES.items()
    }
    print(json.dumps(found))
