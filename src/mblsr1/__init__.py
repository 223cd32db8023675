"""Stochastic quasi-Newton optimization: MB-LSR1, limited-memory SR1 in a trust region.

>>> import numpy as np, mblsr1
>>> result = mblsr1.minimize(lambda w: float(w @ w), lambda w: 2 * w, np.ones(2))
>>> result.message
'converged: the gradient over the whole set is within gtol'
"""

import importlib
from types import ModuleType

from mblsr1 import callbacks
from mblsr1.checkpoint import State, load_state, save_state
from mblsr1.linalg import scaling
from mblsr1.linalg.lsr1 import LSR1
from mblsr1.linalg.subproblem import TrustRegionSolution, solve_trust_region
from mblsr1.methods.first_order import adam, rmsprop, sgd, svrg
from mblsr1.methods.presets import Options, mb_lsr1
from mblsr1.methods.sampled import s_lsr1
from mblsr1.minimize import Step, iterate, minimize
from mblsr1.plotting import plot
from mblsr1.rules import metric
from mblsr1.sampling import ArraySampler, IndexSampler, LoaderSampler, StreamSampler
from mblsr1.scipy import scipy_method
from mblsr1.types import Method, Outcome, Point, Status

__version__ = "0.1.0"

__all__ = [
    "LSR1",
    "ArraySampler",
    "IndexSampler",
    "LoaderSampler",
    "Method",
    "Options",
    "Outcome",
    "Point",
    "State",
    "Status",
    "Step",
    "StreamSampler",
    "TrustRegionSolution",
    "adam",
    "callbacks",
    "iterate",
    "load_state",
    "mb_lsr1",
    "metric",
    "minimize",
    "plot",
    "rmsprop",
    "s_lsr1",
    "save_state",
    "scaling",
    "scipy_method",
    "sgd",
    "solve_trust_region",
    "svrg",
]

#: Imported where they are first used: each needs a library of its own.
_OF_A_LIBRARY = ("distributed", "jax", "sklearn", "torch")


def __getattr__(name: str) -> ModuleType:
    if name in _OF_A_LIBRARY:
        return importlib.import_module(f"mblsr1.{name}")
    raise AttributeError(f"module 'mblsr1' has no attribute {name!r}")
