"""A smooth problem written once for every array library, and the runs that are compared between libraries."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from choices import RESOLVING

import mblsr1
from mblsr1 import Options


@dataclass(frozen=True)
class Logistic:
    """Mean logistic loss of labels -1 and 1, plus weight w'w / 2; features of scales from `high` to `low`.

    The curvature lies between `weight` and weight + high^2 (1 + sqrt(d / n))^2 / 4.
    """

    weight: float
    high: float
    low: float
    n: int = 512
    d: int = 40

    @cached_property
    def data(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(4)
        X = rng.standard_normal((self.n, self.d)) * np.geomspace(self.high, self.low, self.d)
        return X, np.sign(X @ rng.standard_normal(self.d) + 0.5 * rng.standard_normal(self.n))

    def fun(self, w: Any, batch: tuple[Any, Any]) -> Any:
        """The loss, an array of shape () of the library of w; w of any shape."""
        X, y = batch
        xp = array_namespace(w)
        flat = xp.reshape(w, (-1,))
        margins = y * xp.matmul(X, flat)
        losses = xp.logaddexp(xp.zeros_like(margins), -margins)
        return xp.mean(losses) + 0.5 * self.weight * xp.sum(flat * flat)

    def grad(self, w: Any, batch: tuple[Any, Any]) -> Any:
        """The gradient, in the shape of w."""
        X, y = batch
        xp = array_namespace(w)
        flat = xp.reshape(w, (-1,))
        pull = -y / (1.0 + xp.exp(y * xp.matmul(X, flat)))
        return xp.reshape(xp.matmul(pull, X) / X.shape[0] + self.weight * flat, w.shape)

    def hvp(self, w: Any, v: Any, batch: tuple[Any, Any]) -> Any:
        """The Hessian at w times v, in the shape of w."""
        X, y = batch
        xp = array_namespace(w)
        flat, along = xp.reshape(w, (-1,)), xp.reshape(v, (-1,))
        share = 1.0 / (1.0 + xp.exp(y * xp.matmul(X, flat)))
        bend = share * (1.0 - share) * xp.matmul(X, along)
        return xp.reshape(xp.matmul(bend, X) / X.shape[0] + self.weight * along, w.shape)

    def both(self, w: Any, batch: tuple[Any, Any]) -> tuple[Any, Any]:
        return self.fun(w, batch), self.grad(w, batch)

    def problem(self, xp: Any, sampled: bool, data: tuple[Any, Any] | None = None) -> dict[str, Any]:
        """Arguments of `minimize` in a library: from a sampler of its arrays, or deterministic over all rows."""
        arrays = [xp(a) for a in (self.data if data is None else data)]
        if sampled:
            functions = {"fun": self.fun, "grad": self.grad, "hvp": self.hvp}
            return {**functions, "sampler": mblsr1.ArraySampler(*arrays), "batch_size": 256}
        return {
            "fun": lambda w: self.fun(w, arrays),
            "grad": lambda w: self.grad(w, arrays),
            "hvp": lambda w, v: self.hvp(w, v, arrays),
        }


#: Curvature from 0.2 to 0.5, condition about 2.
MILD = Logistic(weight=0.2, high=1.0, low=0.3)
#: Curvature from 4 to 7: SR1 with gamma = 1 has Psi = Y - S, which loses all digits where the curvature is near 1.
STEEP = Logistic(weight=4.0, high=3.0, low=3.0)

_PAPER = {"memory": 4, "initial_radius": 1.0}
_METRIC = mblsr1.metric.kronecker([(5, 6), (10,)], exponent=0.25, memory=0.9, every=5, floor=1e-2, stride=2)
#: Name: problem and settings. Few pairs, so that the Gram matrix of a run of 50 steps stays regular.
RUNS: dict[str, tuple[Logistic, dict[str, Any]]] = {
    "recommended": (MILD, {"options": Options(memory=4)}),
    "re-solving": (MILD, {"options": RESOLVING.replace(memory=4)}),
    "kronecker": (MILD, {"options": Options(memory=4, metric=_METRIC)}),
    "paper": (STEEP, {"options": Options.paper(**_PAPER)}),
    "l_ssr1_tr": (STEEP, {"options": Options.l_ssr1_tr(**_PAPER)}),
    "sgd": (MILD, {"method": mblsr1.sgd(0.5, momentum=0.5)}),
    "adam": (MILD, {"method": mblsr1.adam(0.05)}),
    "rmsprop": (MILD, {"method": mblsr1.rmsprop(0.02)}),
    "svrg": (MILD, {"method": mblsr1.svrg(0.5, passes=3.0)}),
    "s_lsr1": (MILD, {"method": mblsr1.s_lsr1(4)}),
}
