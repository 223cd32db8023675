"""Interleaved timings, and the unit that they are given in: passes over the pair buffer."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: One timing lasts at least this long, over several calls where one is shorter.
LEAST_SECONDS = 1e-3
#: Bytes that the reference reads at most; its time is scaled to the buffer's.
MOST_BYTES = 1 << 29


class Timed:
    """A function that counts its calls and adds up the time spent in it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds, self.calls = function, 0.0, 0

    def __call__(self, *args: Any) -> Any:
        """Call, count and time."""
        self.calls += 1
        began = time.perf_counter()
        value = self.function(*args)
        self.seconds += time.perf_counter() - began
        return value


class Pass:
    """One pass over a buffer: np.dot of two arrays that together have as many bytes."""

    def __init__(self, nbytes: int, dtype: str) -> None:
        itemsize = np.dtype(dtype).itemsize
        half = max(1, min(nbytes, MOST_BYTES) // (2 * itemsize))
        self.x, self.y = np.ones(half, dtype=dtype), np.ones(half, dtype=dtype)
        self.nbytes, self.factor = nbytes, nbytes / (2 * half * itemsize)

    def seconds(self) -> float:
        """Time of one pass."""
        return self.factor * seconds(lambda: np.dot(self.x, self.y))

    def gigabytes(self, one: float) -> float:
        """Bandwidth where one pass takes `one` seconds."""
        return self.nbytes / one / 1e9


def seconds(function: Callable[[], object]) -> float:
    """Time of one call: the mean over as many as last a millisecond."""
    calls, elapsed, began = 0, 0.0, time.perf_counter()
    while elapsed < LEAST_SECONDS:
        function()
        calls += 1
        elapsed = time.perf_counter() - began
    return elapsed / calls


def in_turns(functions: dict[str, Callable[[], object]], unit: Pass, repeats: int) -> dict[str, list[float]]:
    """Return the times of each function, and of one pass under "pass": all take turns."""
    times: dict[str, list[float]] = {name: [] for name in (*functions, "pass")}
    for _ in range(repeats):
        for name, function in functions.items():
            times[name].append(seconds(function))
        times["pass"].append(unit.seconds())
    return times


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """Median over the turns of one time over the other: what slows the machine for a while slows both."""
    return statistics.median(a / b for a, b in zip(times, others, strict=True))


def in_library(x: NDArray[Any], library: str) -> Any:
    """Return a copy of an array in a library's own memory."""
    if library == "numpy":
        return x.copy()
    import torch

    return torch.from_numpy(x).clone()
