"""Gradient evaluations to a small gradient, on the problems of `problems`. These select the default."""

from __future__ import annotations

import functools
import importlib.metadata
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.store import Settings, Store, code_version, key
from benchmarks.tune import RESULTS
from benchmarks.tune.problems import Functions, Skipped, functions

import mblsr1

#: mblsr1's settings by name: changes to Options().
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "10 pairs": {"memory": 10},
    "10 pairs, SR1 alone": {"memory": 10, "whole_matrix": "sr1"},
    "10 pairs, L-BFGS alone": {"memory": 10, "whole_matrix": "l-bfgs"},
    "10 pairs, no interpolation": {"memory": 10, "interpolate": False, "poor_ratio": 0.1, "good_ratio": 0.5},
}

BASE = "L-BFGS-B"
TOLERANCE, MAX_PAIRED, MAX_SECONDS = 1e-5, 2_000, 60.0
STORE = Store("deterministic", RESULTS)

Row = tuple[str, dict[str, Any]]


class Done(Exception):
    """The run is over: solved, or out of evaluations or time."""


class Counter:
    """Loss and gradient that count, and end the run. "paired" is the number of different points evaluated."""

    def __init__(self, fun: Callable[[Any], float], grad: Callable[[Any], Any], start: Any) -> None:
        self._fun, self._grad = fun, grad
        self.goal = TOLERANCE * max(1.0, float(np.linalg.norm(grad(start))))
        self.losses = self.gradients = 0
        self.solved = False
        self.norm = math.inf
        self._points: set[bytes] = set()
        self._end = time.monotonic() + MAX_SECONDS

    @property
    def paired(self) -> int:
        """Points at which anything was evaluated."""
        return len(self._points)

    def _visit(self, w: Any) -> None:
        point = np.ascontiguousarray(w).tobytes()
        new = point not in self._points
        if (new and self.paired >= MAX_PAIRED) or time.monotonic() > self._end:
            raise Done
        self._points.add(point)

    def fun(self, w: Any) -> float:
        """Loss."""
        self._visit(w)
        self.losses += 1
        return self._fun(w)

    def grad(self, w: Any) -> Any:
        """Gradient; ends the run where it is small."""
        self._visit(w)
        self.gradients += 1
        g = self._grad(w)
        self.norm = float(np.linalg.norm(g))
        if self.norm <= self.goal:
            self.solved = True
            raise Done
        return g

    def both(self, w: Any) -> tuple[float, Any]:
        """Loss and gradient."""
        return self.fun(w), self.grad(w)


def l_bfgs_b(counter: Counter, start: Any, **options: Any) -> str:
    """SciPy's, 10 pairs, without its own stopping rules."""
    from scipy.optimize import minimize

    fixed = {"maxcor": 10, "ftol": 0.0, "gtol": 1e-300, "maxiter": 10**6, "maxfun": 10**6}
    return str(minimize(counter.both, start, jac=True, method="L-BFGS-B", options={**fixed, **options}).message)


def torch_lbfgs(counter: Counter, start: Any) -> str:
    """torch.optim.LBFGS, 10 pairs, strong Wolfe conditions, without its own stopping rules."""
    import torch

    w = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = torch.optim.LBFGS(
        [w], max_iter=10**6, max_eval=10**6, tolerance_grad=0.0, tolerance_change=0.0, history_size=10,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Any:
        f, g = counter.both(w.detach().numpy())
        w.grad = torch.from_numpy(g)
        return torch.tensor(f, dtype=torch.float64)

    optimizer.step(closure)
    return "stopped by itself"


def ours(counter: Counter, start: Any, **options: Any) -> str:
    """mblsr1 without its own stopping rule."""
    options = {"gtol": 0.0, **options}
    return str(mblsr1.minimize(counter.fun, counter.grad, start, max_steps=10**6, **options).message)


RUNNERS: dict[str, Callable[..., str]] = {BASE: l_bfgs_b, "torch LBFGS": torch_lbfgs, "mblsr1": ours}


def methods() -> dict[str, Row]:
    """Rows of the table: name, and (runner, options)."""
    peers: dict[str, Row] = {name: (name, {}) for name in RUNNERS if name != "mblsr1"}
    return {**peers, **{f"mblsr1 {name}": ("mblsr1", options) for name, options in VARIANTS.items()}}


@functools.cache
def version_of(runner: str) -> str:
    """Which code a runner runs."""
    if runner == "mblsr1":
        return code_version(Path(mblsr1.__file__).parent, mblsr1.__version__)
    return importlib.metadata.version("scipy" if runner == BASE else "torch").split("+")[0]


def settings(problem: str, runner: str, options: dict[str, Any]) -> Settings:
    """Everything that makes the run what it is."""
    limits = {"tolerance": TOLERANCE, "max_paired": MAX_PAIRED}
    return {"problem": problem, "method": runner, "options": options, **limits, "version": version_of(runner)}


def jobs(problems: list[str], chosen: list[str] | None = None) -> list[tuple[str, list[Row]]]:
    """Return per problem the runs that are missing; a problem is compiled once for all of them."""
    have = STORE.finished()
    rows = {key({"row": row}): row for name, row in methods().items() if chosen is None or name in chosen}
    missing = [(p, [r for r in rows.values() if key(settings(p, *r)) not in have]) for p in problems]
    return [job for job in missing if job[1]]


def work(job: tuple[str, list[Row]]) -> None:
    """Run the missing methods on one problem and store each."""
    problem, rows = job
    try:
        compiled = functions(problem)
    except Skipped as reason:
        for runner, options in rows:
            STORE.save(settings(problem, runner, options), {"skipped": str(reason)})
        return
    for runner, options in rows:
        STORE.save(settings(problem, runner, options), solve(compiled, runner, options))


def solve(compiled: Functions, runner: str, options: dict[str, Any]) -> dict[str, Any]:
    """One run: what it cost, and how it ended."""
    counter = Counter(compiled.fun, compiled.grad, compiled.start)
    began = time.monotonic()
    try:
        with np.errstate(all="ignore"):
            message = RUNNERS[runner](counter, compiled.start.copy(), **options)
    except Done:
        message = "solved" if counter.solved else "out of evaluations or time"
    return {
        "d": compiled.start.size, "solved": counter.solved, "gradients": counter.gradients, "losses": counter.losses,
        "paired": counter.paired, "norm": counter.norm, "goal": counter.goal,
        "seconds": round(time.monotonic() - began, 2), "message": message,
    }  # fmt: skip
