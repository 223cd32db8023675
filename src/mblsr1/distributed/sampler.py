"""Data that no machine holds in whole: every rank has its rows, and all of them draw the same samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mblsr1 import _array
from mblsr1.distributed.blocks import BLOCKS, checked_blocks, owned
from mblsr1.distributed.communicator import communicator, raise_everywhere
from mblsr1.sampling import IndexSampler, row_count, row_slice, with_rows

__all__ = ["ShardedBatch", "ShardedSampler", "rows_of_rank"]

Rows = tuple[Any, ...]


def rows_of_rank(comm: Any, n: int, blocks: int = BLOCKS) -> slice:
    """Return which rows of a set of n this rank has to hold, so that results do not depend on the number of ranks.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm or torch.distributed.ProcessGroup
    n : int
        Size of the whole set.
    blocks : int
        As in `data_parallel`.

    Returns
    -------
    slice

    Raises
    ------
    ValueError, TypeError
        Where an argument is outside its range.
    """
    ranks, count = communicator(comm), checked_blocks(blocks)
    edges = _even_edges(IndexSampler(n).n_samples or 0, count)
    mine = owned(ranks.rank, ranks.size, count)
    return slice(edges[mine.start], edges[mine.stop])


class ShardedSampler:
    """Batches of rows that are spread over the ranks of a communicator, without repetition.

    All ranks make the sampler at once and draw the same samples from the same seed. ``n_samples`` is the size of
    the whole set, and a batch goes to functions that `data_parallel` made: they see the rows as from `ArraySampler`.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm or torch.distributed.ProcessGroup
    *arrays : array (n of this rank, ...)
        This rank's rows, as in `ArraySampler`; the whole set is that of rank 0, then of rank 1, and so on.
    blocks : int
        As in `data_parallel`.

    Raises
    ------
    ValueError, TypeError
        On all ranks, where the arrays of one have different numbers of rows, or the whole set is empty.

    Notes
    -----
    Where each rank holds the rows that `rows_of_rank` names, results do not depend on the number of ranks, to the bit.
    Other parts may have any sizes; the batch is then cut along them, and another cut is another order of summation.
    """

    def __init__(self, comm: Any, *arrays: Any, blocks: int = BLOCKS) -> None:
        self.blocks, ranks = checked_blocks(blocks), communicator(comm)
        self.arrays, counts = _counted(ranks, arrays)
        self.n_samples = sum(counts)
        if self.n_samples < 1:
            raise ValueError("sampler: the ranks together must have at least one row, got 0")
        self.edges = _edges(counts, self.blocks)
        self.offset = sum(counts[: ranks.rank])
        self._indices = IndexSampler(self.n_samples)

    def draw(self, size: int, rng: np.random.Generator) -> ShardedBatch:
        """Return `size` different samples of the whole set."""
        if size >= self.n_samples:
            return self._stretch(0, 1)
        chosen = np.sort(self._indices.draw(size, rng))
        cuts = np.searchsorted(chosen, self.edges)
        return ShardedBatch(self, [chosen[a:b] for a, b in pairwise(cuts)])

    def chunks(self, size: int) -> Iterator[tuple[ShardedBatch, int]]:
        """Yield (samples, count) over the whole set; each chunk has rows of every rank."""
        number = -(-self.n_samples // size)
        for k in range(number):
            batch = self._stretch(k, number)
            if batch.size:
                yield batch, batch.size

    def _stretch(self, k: int, number: int) -> ShardedBatch:
        """Part k of `number` of every block."""
        lengths = np.diff(self.edges)
        starts, stops = self.edges[:-1] + lengths * k // number, self.edges[:-1] + lengths * (k + 1) // number
        return ShardedBatch(self, [range(int(a), int(b)) for a, b in zip(starts, stops, strict=True)])


class ShardedBatch:
    """Samples of the whole set, block by block; a rank can read the rows of its own blocks.

    Attributes
    ----------
    size : int
        Number of samples on all ranks together.
    """

    def __init__(self, sampler: ShardedSampler, samples: list[Any]) -> None:
        self._sampler, self._samples = sampler, samples
        self._rows: dict[int, Rows] = {}
        self.size = sum(map(len, samples))

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self._samples)

    def count(self, block: int) -> int:
        """Number of samples in a block."""
        return len(self._samples[block])

    def part(self, block: int) -> Rows:
        """Rows of a block of this rank, read once."""
        if block not in self._rows:
            samples, offset = self._samples[block], self._sampler.offset
            read: Callable[[Any], Any]
            if isinstance(samples, range):
                read = lambda a: row_slice(a, samples.start - offset, samples.stop - offset)  # noqa: E731
            else:
                read = lambda a: _array.take(a, samples - offset)  # noqa: E731
            self._rows[block] = tuple(read(a) for a in self._sampler.arrays)
        return self._rows[block]

    def ends(self) -> list[int]:
        """First and last sample of each block: what tells two batches apart."""
        return [int(samples[i]) for samples in self._samples if len(samples) for i in (0, -1)]


def _counted(ranks: Any, arrays: Rows) -> tuple[Rows, list[int]]:
    """The arrays, and the rows of every rank; an exception on all ranks where one has none to count."""
    error: Exception | None = None
    try:
        arrays = tuple(with_rows(a, "ShardedSampler", in_order=True) for a in arrays)
        own = _common_count(arrays)
    except (TypeError, ValueError) as raised:
        own, error = -1, raised
    counts = [int(count) for count in ranks.all_gather(np.array([float(own)]))[:, 0]]
    raise_everywhere(ranks, error, [count < 0 for count in counts])
    return arrays, counts


def _common_count(arrays: Rows) -> int:
    if not arrays:
        raise ValueError("sampler: ShardedSampler needs at least one array, got none")
    counts = [row_count(a, "ShardedSampler needs arrays") for a in arrays]
    if len(set(counts)) > 1:
        raise ValueError(f"sampler: all arrays must have the same number of rows, got {counts}")
    return counts[0]


def _even_edges(n: int, blocks: int) -> NDArray[np.int64]:
    """Where the blocks of n rows begin and end."""
    return np.array([n * b // blocks for b in range(blocks + 1)], dtype=np.int64)


def _edges(counts: list[int], blocks: int) -> NDArray[np.int64]:
    """Edges of the blocks: the even ones where the ranks hold those rows, else each rank's rows cut evenly."""
    runs = [owned(rank, len(counts), blocks) for rank in range(len(counts))]
    even = _even_edges(sum(counts), blocks)
    if all(even[run.stop] - even[run.start] == count for run, count in zip(runs, counts, strict=True)):
        return even
    if len(counts) > blocks:
        raise ValueError(f"blocks: must be at least the number of ranks, {len(counts)}, got {blocks}")
    offsets = np.concatenate([[0], np.cumsum(counts)])
    parts = [offsets[r] + _even_edges(counts[r], len(run))[:-1] for r, run in enumerate(runs)]
    return np.concatenate([*parts, offsets[-1:]]).astype(np.int64)
