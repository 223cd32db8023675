"""Vectors whose parts lie on several ranks: what leaves a part is put together here, and no other file knows of ranks.

Without a reduction, in every other run, all functions return what they are given.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Reduction",
    "everywhere",
    "extent",
    "in_common",
    "is_spread",
    "largest",
    "own_part",
    "place",
    "raised_on_all",
    "reduced_by",
    "require_different",
    "require_same",
    "somewhere",
    "summed",
    "summed_numbers",
]

Numbers = NDArray[np.float64]
#: Random numbers of other ranks are drawn and dropped so many at a time.
_AT_ONCE = 1 << 16


class Reduction(Protocol):
    """Ranks that hold parts of the same vectors and put their numbers together in the same order."""

    def gather(self, x: Numbers) -> Numbers:
        """Return the (ranks, n) numbers that the ranks gave, each (n,), in the order of the parts."""

    def stop_all(self, error: BaseException | None) -> None:
        """Raise on all ranks where one of them has an error; None is none."""

    @property
    def rank(self) -> int:
        """Which part this is."""

    @property
    def size(self) -> int:
        """How many parts there are."""


_current: ContextVar[Reduction | None] = ContextVar("reduction", default=None)


@contextmanager
def reduced_by(reduction: Reduction) -> Iterator[None]:
    """Let all vectors of the solver be parts while the context lasts, in this thread."""
    token = _current.set(reduction)
    try:
        yield
    finally:
        _current.reset(token)


def is_spread() -> bool:
    """Whether vectors are parts."""
    return _current.get() is not None


def place() -> tuple[int, int]:
    """Return which part this is, and how many there are."""
    reduction = _current.get()
    return (0, 1) if reduction is None else (reduction.rank, reduction.size)


@contextmanager
def raised_on_all() -> Iterator[None]:
    """Let an exception of one rank be raised on all; within, a part is a vector of its own and nothing is exchanged."""
    reduction, error = _current.get(), None
    if reduction is None:
        yield
        return
    token = _current.set(None)
    try:
        yield
    except Exception as raised:
        error = raised
    finally:
        _current.reset(token)
    reduction.stop_all(error)


def require_same(facts: Mapping[str, Any]) -> None:
    """Raise a ValueError on all ranks where a fact differs among them; the keys are what it says."""
    reduction = _current.get()
    if reduction is None:
        return
    seen = reduction.gather(np.array([_number(fact) for fact in facts.values()]))
    for message, column in zip(facts, seen.T, strict=True):
        if np.any(column != column[0]):
            raise ValueError(message)


def require_different(message: str, fact: Any) -> None:
    """Raise a ValueError on all ranks where two of them have the same fact."""
    reduction = _current.get()
    if reduction is not None and len(np.unique(reduction.gather(np.array([_number(fact)])))) < reduction.size:
        raise ValueError(message)


def _number(fact: Any) -> float:
    """A number by which ranks see whether they have the same."""
    return float(zlib.crc32(json.dumps(fact, sort_keys=True, default=repr).encode()))


def in_common(offered: Sequence[int]) -> list[int]:
    """Return those of some numbers >= 0 that all parts offer, in increasing order."""
    reduction = _current.get()
    if reduction is None:
        return sorted(offered)
    padded = np.full(int(largest(float(len(offered)))), -1.0)
    padded[: len(offered)] = offered
    return sorted(set.intersection(*(set(map(int, row)) for row in reduction.gather(padded))) - {-1})


def summed(x: Numbers) -> Numbers:
    """Return the sum of an array over the parts, in their order: the same bits on all ranks."""
    reduction = _current.get()
    if reduction is None:
        return x
    total: Numbers = reduction.gather(x.ravel()).sum(axis=0).reshape(x.shape)
    return total


def summed_numbers(x: list[float]) -> list[float]:
    """`summed` for numbers."""
    return x if _current.get() is None else [float(value) for value in summed(np.array(x))]


def largest(x: float) -> float:
    """Return the largest of the parts' numbers; nan where one is nan."""
    reduction = _current.get()
    return x if reduction is None else float(reduction.gather(np.array([x])).max())


def everywhere(fact: bool) -> bool:
    """Whether it is true of every part."""
    reduction = _current.get()
    return fact if reduction is None else bool(reduction.gather(np.array([float(fact)])).all())


def somewhere(fact: bool) -> bool:
    """Whether it is true of a part."""
    reduction = _current.get()
    return fact if reduction is None else bool(reduction.gather(np.array([float(fact)])).any())


def extent(length: int) -> tuple[int, int]:
    """Return where this part of a vector begins, and the length of the whole vector."""
    reduction = _current.get()
    if reduction is None:
        return 0, length
    ends = np.cumsum(reduction.gather(np.array([float(length)])))
    return int(ends[reduction.rank]) - length, int(ends[-1])


def own_part(draw: Callable[[int], Any], length: int) -> Any:
    """Return this part of a random vector: the numbers that the whole vector would have, without making it."""
    start, total = extent(length)
    _skip(draw, start)
    own = draw(length)
    _skip(draw, total - start - length)
    return own


def _skip(draw: Callable[[int], Any], count: int) -> None:
    for start in range(0, count, _AT_ONCE):
        draw(min(_AT_ONCE, count - start))
