"""The batch in hand: drawn, shared with the next one, and drawn again when a run is continued."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mblsr1 import _array
from mblsr1._array import Array
from mblsr1.problem import Oracle, OverlapOracle, Problem
from mblsr1.sampling import Sampler
from mblsr1.types import NAN, Point

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
        self._taken: tuple[Mapping[str, Any], Oracle] | None = None  # what the batch in hand took over

    def draw(self, size: int) -> tuple[Oracle, bool]:
        """Return the batch in hand while it serves, else a fresh one; and whether it is fresh."""
        if self.oracle is not None and self.serves_on(size):
            return self.oracle, False
        self._taken = self._to_take_over()
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

    def chunks(self, size: int) -> Iterable[tuple[Any, int]]:
        """(batch, count) over the whole set, in parts of `size` samples where the sampler has them."""
        chunks = getattr(self.sampler, "chunks", None)
        if chunks is not None:
            return chunks(size)  # type: ignore[no-any-return]
        assert self.n_samples is not None
        batch = None if self.sampler is None else self.problem.call(self.sampler.draw, self.n_samples, self.rng)
        return [(batch, self.n_samples)]

    def _next(self, size: int) -> Oracle:
        """A new batch: the samples taken over from the last one, those to be shared with the next, the rest."""
        shared_size = min(max(round(self.overlap * size), 1), size // 2) if self.overlap else 0
        if shared_size == 0 or (self.n_samples is not None and size >= self.n_samples):
            return self.bind(size)
        shared = self.bind(shared_size)
        taken = [] if self._taken is None else [self._taken[1]]
        fresh = size - shared_size - sum(part.size for part in taken)
        rest = [self.bind(fresh)] if fresh > 0 else []
        return OverlapOracle([*taken, shared, *rest], shared)

    def _to_take_over(self) -> tuple[Mapping[str, Any], Oracle] | None:
        """The samples that the next batch takes over, with the generator's state before they were drawn."""
        if self.used and self._before_draw is not None:
            return (self._before_draw, self.oracle.shared) if isinstance(self.oracle, OverlapOracle) else None
        return self._taken

    def made_step(self) -> None:
        """Count a step on the batch in hand."""
        self.used += 1

    def to_saved(self, size: int) -> dict[str, Any]:
        """Return what `restore` needs, as a tree; `size` is the next batch's."""
        serves_on = self.serves_on(size)
        taken = self._taken if serves_on else self._to_take_over()
        half_used = serves_on and self.used > 0
        overlaps = isinstance(self.oracle, OverlapOracle) and half_used
        if taken is not None:  # in the middle of a batch its values are those of an earlier iterate
            at = Point(None, NAN, None) if half_used else taken[1].remembered
            kept = {"rng": taken[0], "size": taken[1].size, "at": at}
        return {
            "before_draw": self._before_draw if serves_on else None,
            "used": self.used if serves_on else 0,
            "taken": None if taken is None else kept,
            "shared": self.oracle.shared.remembered if overlaps and self.oracle is not None else None,
        }

    def restore(self, saved: Mapping[str, Any], size: int, w: Array) -> None:
        """Draw again what the saved run had in hand. Moves the generator; the caller sets it after."""
        self.used = int(saved["used"])
        taken = saved["taken"]
        if taken is not None:
            self.rng.bit_generator.state = taken["rng"]
            self._taken = taken["rng"], _known(self.bind(int(taken["size"])), taken["at"], w)
        if saved["before_draw"] is not None:
            self.rng.bit_generator.state = self._before_draw = saved["before_draw"]
            self.oracle = self._next(size)
            if saved["shared"] is not None:
                _known(self.oracle.shared, saved["shared"], w)


def _known(oracle: Oracle, at: Mapping[str, Any], w: Array) -> Oracle:
    """The oracle with the values at w that an earlier run evaluated."""
    if at["g"] is not None:
        oracle.remember(w, at["f"], _array.adopt(at["g"], w))
    return oracle
