"""One step of torch.optim.LBFGS (direction and update, without the closure) beside ours, on one function, in turns.

Theirs minimises the convex function: without a line search it diverges on the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from benchmarks.micro.steps import MODES, SPARE, STEPS, Quartic, Run, split
from benchmarks.micro.timing import Pass, Timed, ratio

QUICK = {"d": 100_000, "m": 16}


def cases() -> Iterator[dict[str, Any]]:
    """Dtype and m of every row."""
    for dtype, m in itertools.product(("float64", "float32"), (8, 16, 32, 64)):
        yield {"dtype": dtype, "d": 1_000_000, "m": m}


class Theirs:
    """torch.optim.LBFGS, one iteration a step, no line search."""

    def __init__(self, problem: Quartic, m: int) -> None:
        import torch

        w = torch.nn.Parameter(problem.start.clone())
        self.optimizer = torch.optim.LBFGS(
            [w], lr=0.5, max_iter=1, history_size=m, tolerance_grad=0.0, tolerance_change=0.0
        )

        def closure() -> float:
            with torch.no_grad():
                w.grad = problem.grad(w)
                return problem.fun(w)

        self.closure, self.m = Timed(closure), m
        self.step_timed = Timed(lambda: self.optimizer.step(self.closure))

    def step(self) -> float | None:
        """Seconds of a step outside the closure; None while the history fills."""
        before = self.step_timed.seconds - self.closure.seconds
        full = len(next(iter(self.optimizer.state.values()), {}).get("old_dirs", ())) == self.m
        self.step_timed()
        return self.step_timed.seconds - self.closure.seconds - before if full else None


def measure(dtype: str, d: int, m: int) -> dict[str, float]:
    """Return the times of steps of ours and of theirs, made in turns, in passes; and ours over theirs."""
    unit = Pass(2 * m * d * np.dtype(dtype).itemsize, dtype)
    times: dict[str, list[float]] = {name: [] for name in (*MODES, "torch.optim.LBFGS", "pass")}
    with split() as timed:
        runs = {mode: Run(Quartic(d, dtype, "torch"), mode, m, timed) for mode in MODES}
        other = Theirs(Quartic(d, dtype, "torch", sign=1.0), m)
        for _ in range(m + SPARE):
            made = {mode: run.step() for mode, run in runs.items()}
            seconds = other.step()
            if seconds is None or None in made.values():
                continue
            for mode, record in made.items():
                times[mode].append(record.seconds)  # type: ignore[union-attr]
            times["torch.optim.LBFGS"].append(seconds)
            times["pass"].append(unit.seconds())
            if len(times["pass"]) == STEPS:
                break
    theirs = times["torch.optim.LBFGS"]
    found = {"pass_ms": 1e3 * min(times["pass"]), "torch.optim.LBFGS": ratio(theirs, times["pass"])}
    return found | {f"{mode} / LBFGS": ratio(times[mode], theirs) for mode in MODES}
