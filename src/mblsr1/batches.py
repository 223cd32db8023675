"""The batch in hand: drawn, shared with the next one, and drawn again when a run is continued."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mblsr1 import _array
from mblsr1._array import Array
from mblsr1.problem import Oracle, OverlapOracle, Problem
from mblsr1.sampling import Sampler

__all__ = ["Batches"]


class Batches:
    """Where a run's batches come from.

    A batch is opaque and cannot be saved; what is saved is the generator's state before it was drawn.

    Parameters
    ----------
    problem : Problem
    sampler : Sampler or None
    rng : numpy.random.Generator
    overlap : float
        Share of a batch that the next one evaluates again; 0 draws every batch anew.
    steps_per_batch : int
    """

    def __init__(
        self, problem: Problem, sampler: Sampler | None, rng: np.random.Generator, overlap: float, steps_per_batch: int
    ) -> None:
        self.problem, self.sampler, self.rng = problem, sampler, rng
        self.overlap, self.steps_per_batch = overlap, steps_per_batch
        self.n_samples = 1 if sampler is None else sampler.n_samples
        self.oracle: Oracle | None = None
        self.used = 0
        self._before_draw: Mapping[str, Any] | None = None
        self._kept: tuple[Mapping[str, Any], Oracle] | None = None  # shared samples of the last step's batch

    def draw(self, size: int) -> tuple[Oracle, bool]:
        """Return the batch in hand while it serves, else a fresh one; and whether it is fresh."""
        if self.oracle is not None and self.serves_on(size):
            return self.oracle, False
        self._before_draw, self.used = self.rng.bit_generator.state, 0
        self.oracle = self._next(size)
        return self.oracle, True

    def serves_on(self, size: int) -> bool:
        """Whether the batch in hand is also the next step's."""
        oracle = self.oracle
        return oracle is not None and (oracle.is_full or (self.used < self.steps_per_batch and size == oracle.size))

    def bind(self, size: int) -> Oracle:
        """Draw samples and bind the problem to them."""
        is_full = self.n_samples is not None and size >= self.n_samples
        batch = None if self.sampler is None else self.problem.call(self.sampler.draw, size, self.rng)
        return self.problem.bind(batch, size, is_full)

    def _next(self, size: int) -> Oracle:
        """A new batch: the samples kept from the last one, those to be shared with the next, the rest."""
        shared_size = round(self.overlap * size)
        if shared_size == 0 or (self.n_samples is not None and size >= self.n_samples):
            return self.bind(size)
        shared = self.bind(shared_size)
        kept = [] if self._kept is None else [self._kept[1]]
        fresh = size - shared_size - sum(part.size for part in kept)
        rest = [self.bind(fresh)] if fresh > 0 else []
        return OverlapOracle([*kept, shared, *rest], shared)

    def made_step(self) -> None:
        """Count a step on the batch in hand, and keep the samples that it shares."""
        self.used += 1
        self._kept = None
        if isinstance(self.oracle, OverlapOracle) and self._before_draw is not None:
            self._kept = self._before_draw, self.oracle.shared

    def to_saved(self, size: int) -> dict[str, Any]:
        """Return what `restore` needs, as a tree; `size` is the next batch's."""
        kept = None
        if self._kept is not None:
            kept = {"rng": self._kept[0], "size": self._kept[1].size, "point": self._kept[1].remembered}
        return {"before_draw": self._before_draw if self.serves_on(size) else None, "used": self.used, "kept": kept}

    def restore(self, saved: Mapping[str, Any], size: int, w: Array) -> None:
        """Draw again what the saved run had in hand. Moves the generator; the caller sets it after."""
        self.used = int(saved["used"])
        kept = saved["kept"]
        if kept is not None:
            self.rng.bit_generator.state = kept["rng"]
            shared = self.bind(int(kept["size"]))
            shared.remember(w, kept["point"]["f"], _array.adopt(kept["point"]["g"], w))
            self._kept = kept["rng"], shared
        if saved["before_draw"] is not None:
            self.rng.bit_generator.state = self._before_draw = saved["before_draw"]
            self.oracle = self._next(size)
