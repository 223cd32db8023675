"""Deterministic development problems from sif2jax (CUTEst in JAX). All of them select; none only reports.

Some of these are not in the package's own lists, mostly because their agreement with CUTEst is
still under review there; as smooth functions to minimise they serve all the same.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

_LIST = (
    "AKIVA ALLINITU BARD BROWNBS CLIFF CUBE DENSCHNC DENSCHNE DENSCHNF DEVGLA1 DEVGLA2 EXPFIT GULF HATFLDD "
    "HATFLDE HATFLDFL HELIX HIELOW HIMMELBF JENSMP KOWOSB LANCZOS1LS MEXHAT MGH09LS OSBORNEA PALMER1C PALMER5C "
    "SINEVAL SISSER TOINTGOR TOINTPSP VARDIM ZANGWIL2 HAHN1LS ERRINRSM CHNRSNBM COOLHANSLS METHANL8LS VANDANMSLS "
    "HILBERTA TRIGON2 ECKERLE4LS VESUVIOLS HATFLDFLS LSC1LS ARWHEAD ARGTRIGLS BOX BROYDN3DLS DIXMAANC DIXMAANE1 "
    "DIXMAANH DIXMAANJ DIXMAANN DIXON3DQ DQDRTIC DQRTIC EDENSCH EG2 ENGVAL1 EXTROSNB FLETBV3M FLETCBV2 FMINSRF2 "
    "INTEQNELS LUKSAN11LS LUKSAN12LS LUKSAN13LS LUKSAN15LS LUKSAN16LS LUKSAN22LS MANCINO MODBEALE MOREBV MSQRTBLS "
    "NCB20 NCB20B NONDIA NONMSQRT PENALTY1 PENALTY2 POWER QUARTC SENSORS SINEALI SPINLS SROSENBR VAREIGVL YATP1LS "
    "CURLY30 TRIDIA TESTQUAD SCOSINE KSSLS"
)
NAMES = tuple(_LIST.split())
COMPILE_LIMIT = 60.0


class Skipped(Exception):
    """The problem takes no part; says why."""


class Functions(NamedTuple):
    """Value and gradient of a problem, compiled in float64, at NumPy vectors."""

    fun: Callable[[Any], float]
    grad: Callable[[Any], Any]
    start: Any


def instance(name: str) -> Any:
    """Return the problem called `name`, listed by sif2jax or not."""
    import sif2jax

    for problem in sif2jax.problems:
        if type(problem).__name__ == name:
            return problem
    for folder in ("_unconstrained_minimisation", "_quadratic_problems"):
        try:
            module = importlib.import_module(f"sif2jax.cutest.{folder}.{name.lower()}")
            return getattr(module, name)()
        except (ModuleNotFoundError, AttributeError):
            continue
    raise Skipped("not in this version of sif2jax")


def functions(name: str) -> Functions:
    """Compile value and gradient apart; raise Skipped where that takes over a minute."""
    import jax
    from jax.flatten_util import ravel_pytree

    jax.config.update("jax_enable_x64", True)
    problem = instance(name)
    y0, unravel = ravel_pytree(problem.y0)

    def objective(w: Any) -> Any:
        return problem.objective(unravel(w), problem.args)

    value, gradient = jax.jit(objective), jax.jit(jax.grad(objective))
    start = np.array(y0, dtype=np.float64)
    began = time.perf_counter()
    f0, g0 = float(value(start)), np.asarray(gradient(start))
    if (seconds := time.perf_counter() - began) > COMPILE_LIMIT:
        raise Skipped(f"compilation took {seconds:.0f} s")
    if not (np.isfinite(f0) and np.isfinite(g0).all()):
        raise Skipped("loss or gradient is not finite at the start")
    return Functions(lambda w: float(value(w)), lambda w: np.array(gradient(w), dtype=np.float64), start)
