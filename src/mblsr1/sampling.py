"""Where batches come from. A sampler is any object with `n_samples` and `draw`.

``n_samples`` is the size N of the whole set, or None where it is unknown; ``draw(size, rng)``
returns an opaque batch of `size` samples that goes to the user's functions as it is;
``chunks(size)``, where there is a whole set, yields (batch, count) over all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mblsr1 import _array

__all__ = [
    "ArraySampler",
    "IndexSampler",
    "LoaderSampler",
    "Sampler",
    "StreamSampler",
    "checked_sampler",
    "row_count",
    "row_slice",
    "with_rows",
]

#: What a loader may yield; and that it is exhausted.
_LOADED, _END = "a loader's batch must be an array, or a tuple, list or dict of arrays", object()


@runtime_checkable
class Sampler(Protocol):
    """What the driver needs of a source of batches."""

    n_samples: int | None

    def draw(self, size: int, rng: np.random.Generator) -> Any:
        """Return a batch of `size` samples."""


class IndexSampler:
    """Batches are NumPy index arrays into a set of n samples, without repetition, in no order.

    Parameters
    ----------
    n : int
        Size of the whole set, >= 1. The batch of size n is ``arange(n)``.

    Raises
    ------
    ValueError
        Where n is not such an int.
    """

    def __init__(self, n: int) -> None:
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
            raise ValueError(f"sampler: the number of samples must be an int >= 1, got {n!r}")
        self.n_samples: int | None = int(n)
        self._n = int(n)

    def draw(self, size: int, rng: np.random.Generator) -> Any:
        """Return `size` different indices, drawn uniformly."""
        if size >= self._n:
            return np.arange(self._n)
        return rng.choice(self._n, size, replace=False, shuffle=False)

    def chunks(self, size: int) -> Iterator[tuple[Any, int]]:
        """Yield (indices, count) over the whole set."""
        for start in range(0, self._n, size):
            stop = min(start + size, self._n)
            yield np.arange(start, stop), stop - start


class ArraySampler:
    """Batches are tuples of rows, the same rows of each array, without repetition.

    Parameters
    ----------
    *arrays : array (n, ...)
        Of any array library, or anything with a length that takes an index array (a SciPy
        sparse matrix, a memory-mapped array). Lists, data frames and series become NumPy arrays: rows
        are counted by position, never by label.

    Raises
    ------
    ValueError
        Where there is no array, or their numbers of rows differ.
    TypeError
        Where an array has no rows that an index array takes.

    Examples
    --------
    >>> import numpy as np, mblsr1
    >>> sampler = mblsr1.ArraySampler(np.arange(10.0), np.arange(10))
    >>> X, y = sampler.draw(3, np.random.default_rng(0))
    >>> X.shape, y.shape
    ((3,), (3,))
    """

    def __init__(self, *arrays: Any) -> None:
        if not arrays:
            raise ValueError("sampler: ArraySampler needs at least one array, got none")
        arrays = tuple(with_rows(a, "ArraySampler") for a in arrays)
        lengths = [row_count(a, "ArraySampler needs arrays") for a in arrays]
        if len(set(lengths)) > 1:
            raise ValueError(f"sampler: all arrays must have the same number of rows, got {lengths}")
        self.arrays = arrays
        self._indices = IndexSampler(lengths[0])
        self.n_samples: int | None = lengths[0]

    def draw(self, size: int, rng: np.random.Generator) -> Any:
        """Return `size` different rows of every array; the arrays themselves for the whole set."""
        if self.n_samples is not None and size >= self.n_samples:
            return self.arrays
        indices = self._indices.draw(size, rng)
        return tuple(_array.take(a, indices) for a in self.arrays)

    def chunks(self, size: int) -> Iterator[tuple[Any, int]]:
        """Yield (rows, count) over the whole set, in order."""
        assert self.n_samples is not None
        for start in range(0, self.n_samples, size):
            stop = min(start + size, self.n_samples)
            yield tuple(row_slice(a, start, stop) for a in self.arrays), stop - start


class StreamSampler:
    """Batches come from a function; the size of the whole set is unknown.

    Parameters
    ----------
    draw : callable
        ``draw(size, rng) -> batch``, independent samples at each call.

    Raises
    ------
    TypeError
        Where `draw` is no function.
    """

    n_samples: int | None = None

    def __init__(self, draw: Callable[[int, np.random.Generator], Any]) -> None:
        if not callable(draw):
            raise TypeError(f"sampler: StreamSampler needs a callable draw(size, rng), got {type(draw).__name__}")
        self.draw = draw


class LoaderSampler:
    """Batches are put together from a loader, such as a torch DataLoader.

    Parameters
    ----------
    make_loader : callable
        Returns a fresh iterable of batches, a pass over the data; called again when it is
        exhausted. A batch is an array, or a tuple, list or dict of arrays, rows first, all of
        the same form.

    Raises
    ------
    TypeError
        Where `make_loader` is no function.
    ValueError, TypeError
        While batches are drawn: where a loader is empty, or its batches are not arrays of equally many rows.

    Notes
    -----
    Batches of the loader are joined and split to the size asked for, so the loader's own batch
    size does not matter, and copied, so it may use its arrays again. The order is the loader's:
    `rng` is not used. The place in the loader belongs to the sampler and is not saved: another run
    on the same sampler goes on there, and a run that is continued with a new one starts the loader
    anew. Runs that have to be equal each need a sampler of their own.
    """

    n_samples: int | None = None

    def __init__(self, make_loader: Callable[[], Iterable[Any]]) -> None:
        if not callable(make_loader):
            raise TypeError(f"sampler: LoaderSampler needs a callable, got {type(make_loader).__name__}")
        self._make_loader = make_loader
        self._source: Iterator[Any] = iter(())
        self._rest: tuple[Any, ...] | None = None
        self._form: _Form | None = None

    def draw(self, size: int, rng: np.random.Generator) -> Any:
        """Return the next `size` samples of the loader."""
        parts, missing = [], size
        while missing > 0:
            rows = self._rest if self._rest is not None else self._next()
            count = row_count(rows[0], _LOADED)
            taken = min(count, missing)
            parts.append(tuple(_array.owned(row_slice(r, 0, taken)) for r in rows))
            self._rest = tuple(row_slice(r, taken, count) for r in rows) if taken < count else None
            missing -= taken
        joined = (
            parts[0] if len(parts) == 1 else tuple(_array.concatenate(column) for column in zip(*parts, strict=True))
        )
        assert self._form is not None
        return self._form.closed(joined)

    def _next(self) -> tuple[Any, ...]:
        batch = next(self._source, _END)
        if batch is _END:
            self._source = self._started()
            batch = next(self._source, _END)
            if batch is _END:
                raise ValueError(
                    "sampler: make_loader() must return a fresh iterable at each call, with one batch at least; "
                    "got one that is empty"
                )
        form = _Form.of(batch)
        if self._form not in (None, form):
            raise ValueError(f"sampler: all batches of a loader must have the same form, got {self._form}, then {form}")
        self._form = form
        rows = tuple(_loaded(a) for a in form.opened(batch))
        counts = [row_count(r, _LOADED) for r in rows]
        if len(set(counts)) != 1 or counts[0] < 1:
            raise ValueError(
                f"sampler: the arrays of a loader's batch must have the same number of rows, >= 1, got {counts}"
            )
        return rows

    def _started(self) -> Iterator[Any]:
        loader = self._make_loader()
        try:
            return iter(loader)
        except TypeError:
            raise TypeError(
                f"sampler: make_loader() must return an iterable of batches, got {type(loader).__name__}"
            ) from None


class _Form(NamedTuple):
    """How the arrays of a loader's batch are put together."""

    kind: str
    names: tuple[Any, ...]

    @classmethod
    def of(cls, batch: Any) -> _Form:
        if isinstance(batch, Mapping):
            return cls("dict", tuple(batch))
        if isinstance(batch, (tuple, list)):
            return cls("tuple", tuple(range(len(batch))))
        return cls("array", ())

    def opened(self, batch: Any) -> list[Any]:
        return [batch] if self.kind == "array" else [batch[name] for name in self.names]

    def closed(self, columns: tuple[Any, ...]) -> Any:
        if self.kind == "dict":
            return dict(zip(self.names, columns, strict=True))
        return columns if self.kind == "tuple" else columns[0]


def _loaded(a: Any) -> Any:
    """A part of a loader's batch as an array that can be joined with others."""
    a = as_rows(a, _LOADED)
    if not _array.is_array(a):
        raise TypeError(f"sampler: {_LOADED} with rows, got {type(a).__name__}")
    return a


def as_rows(a: Any, wanted: str) -> Any:
    """Return `a` with data frames and lists as NumPy arrays; a TypeError says what is wanted where it has no rows."""
    if hasattr(a, "iloc") and hasattr(a, "to_numpy"):  # pandas looks indices up as labels
        a = a.to_numpy()
    if isinstance(a, (list, tuple)):
        try:
            a = _array.as_array(a)
        except (RuntimeError, TypeError, ValueError):
            raise TypeError(f"sampler: {wanted} with rows, got a list of unequal parts") from None
    row_count(a, wanted)
    return a


def with_rows(a: Any, who: str, in_order: bool = False) -> Any:
    """Return `a` as something whose rows an index array takes by position; a TypeError says so where it is none.

    `in_order` is for one whose indices are always sorted.
    """
    a = as_rows(a, f"{who} needs arrays")
    count = row_count(a, "")
    if count and not (_array.is_array(a) or _takes(a, np.array([0] if in_order or count == 1 else [count - 1, 0]))):
        raise TypeError(
            f"sampler: {who} needs arrays with rows, which an index array takes{'' if in_order else ' in any order'}; "
            f"got {type(a).__name__}"
        )
    return a


def _takes(a: Any, indices: NDArray[np.int64]) -> bool:
    """Whether it has rows with these indices."""
    try:
        return row_count(_array.take(a, indices), "") == len(indices)
    except Exception:  # whatever a foreign object makes of indices
        return False


def row_slice(a: Any, start: int, stop: int) -> Any:
    """Return rows of `a`. The array API wants every axis named; a sparse matrix may know no ellipsis."""
    return a[start:stop, ...] if _array.is_array(a) else a[start:stop]


def row_count(a: Any, wanted: str) -> int:
    """Number of rows of `a`; a TypeError says what is wanted where it has none."""
    try:
        return int(a.shape[0] if hasattr(a, "shape") else len(a))
    except (IndexError, TypeError):
        raise TypeError(f"sampler: {wanted} with rows, got {a!r:.60}") from None


def checked_sampler(sampler: Any) -> Sampler | None:
    """Return the sampler, an IndexSampler for an int, or None."""
    if sampler is None:
        return None
    if isinstance(sampler, (int, np.integer)):
        return IndexSampler(sampler)  # type: ignore[arg-type]
    if not callable(getattr(sampler, "draw", None)) or not hasattr(sampler, "n_samples"):
        raise TypeError(
            "sampler: must be None, an int N or an object with n_samples and draw(size, rng), such as "
            f"mblsr1.ArraySampler(X, y); got {type(sampler).__name__}"
        )
    n = sampler.n_samples
    if n is not None and (isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1):
        raise ValueError(f"sampler: n_samples must be None or an int >= 1, got {n!r}")
    return sampler  # type: ignore[no-any-return]
