"""What the experiments share: what a run was made with, and the shape of what is claimed."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from benchmarks.machine import machine
from benchmarks.store import code_version

import mblsr1

PACKAGES = ("mblsr1", "numpy", "scipy", "torch")


class Claim(NamedTuple):
    """A row of the page's first table: where, what the paper says, what was measured, and whether it holds."""

    where: str
    claim: str
    measured: str
    holds: str


class Gap(NamedTuple):
    """Mean over the seeds of a difference, and the half width of its 95 % interval (paired, t)."""

    mean: float
    half: float

    @property
    def sign(self) -> int:
        """1 and -1 where the interval is on one side of zero."""
        return int(np.sign(self.mean)) if abs(self.mean) > self.half else 0


def paired(ours: Iterable[float], theirs: Iterable[float]) -> Gap:
    """Compare runs seed by seed, as many as both have; the interval of one seed is infinite."""
    from scipy import stats

    differences = np.array([a - b for a, b in zip(ours, theirs, strict=False)])
    n = len(differences)
    if n < 2:
        return Gap(float(differences.mean()), math.inf)
    return Gap(float(differences.mean()), float(stats.t.ppf(0.975, n - 1) * differences.std(ddof=1) / np.sqrt(n)))


class Budget(NamedTuple):
    """Limits of a run: passes over the set, batches, and samples where that is more than `least_passes`."""

    passes: float
    batches: int
    samples: int
    least_passes: float


def spent(budget: Budget) -> str:
    """Return a budget as a sentence."""
    return (
        f"Budget of every run: {budget.passes:g} N sample-gradients, at most those of {budget.batches:,} batches, and "
        f"at most max({budget.samples:,}, {budget.least_passes:g} N)."
    )


@functools.cache
def version() -> str:
    """Which code of mblsr1 a run uses; part of its settings."""
    return code_version(Path(mblsr1.__file__).parent, mblsr1.__version__)


@functools.cache
def made_on() -> str:
    """Machine and versions of the packages; part of a run's result."""
    return machine(PACKAGES)


def described(records: Iterable[dict[str, Any]]) -> str:
    """Return the machines and codes of stored runs, each once."""
    records = list(records)
    machines = sorted({r["result"]["machine"] for r in records})
    codes = sorted({r["settings"]["version"] for r in records})
    return f"{'; '.join(machines)}; code {', '.join(codes)}"


def chosen(known: Iterable[str], only: list[str] | None) -> list[str]:
    """Names asked for, in the order of `known`; a SystemExit says which are not known."""
    known = list(known)
    unknown = sorted(set(only or ()) - set(known))
    if unknown:
        raise SystemExit(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    return [name for name in known if name in (only or known)]
