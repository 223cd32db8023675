"""Loss and gradient of a batch computed by many ranks, to the same bits by any number of them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mblsr1 import _array
from mblsr1._array import Array
from mblsr1.distributed.blocks import BLOCKS, checked_blocks, owned, subtrees, tree_sum
from mblsr1.distributed.communicator import Communicator, communicator, raise_everywhere
from mblsr1.distributed.sampler import ShardedBatch
from mblsr1.problem import Counts, Problem
from mblsr1.sampling import row_count, row_slice

__all__ = ["data_parallel"]

Numbers = NDArray[np.float64]
#: Entries of the iterate by which ranks see that they have the same one.
_SEEN = 1024
#: So many numbers in all are gathered in one exchange; more are summed slice by slice, which moves less.
_AT_ONCE = 1 << 14


def data_parallel(
    fun: Callable[..., Any], grad: Callable[..., Any] | bool, comm: Any, *, blocks: int = BLOCKS
) -> tuple[Callable[..., Any], Callable[..., Any] | bool]:
    """Return loss and gradient functions whose batches are shared out among the ranks of a communicator.

    Every rank runs the whole program with the same seed, ``minimize(*data_parallel(fun, grad, comm), w0, sampler,
    rng=0)``, and takes the same steps.

    Parameters
    ----------
    fun : callable
        ``fun(w, part) -> scalar``, the mean loss over a part of a batch.
    grad : callable or True
        ``grad(w, part) -> array like w``; or True where `fun` returns ``(value, gradient)``.
    comm : mpi4py.MPI.Comm or torch.distributed.ProcessGroup
    blocks : int
        Parts of a batch, a power of two, the same whatever the number of ranks; more ranks have nothing to compute.

    Returns
    -------
    fun, grad : callable
        For `minimize`. Batches are index arrays or tuples of rows, as `IndexSampler` and `ArraySampler` draw them on
        every rank, or those of a `ShardedSampler`. The second is True where `grad` was.

    Raises
    ------
    ValueError, TypeError
        Where `comm` or `blocks` is unusable; when called, on all ranks, where the ranks have different iterates or
        batches, which is what different seeds give.
    RankError
        When called, where another rank's function raised an exception; that rank raises its own.

    Notes
    -----
    The blocks' sums are formed in float64 along a fixed binary tree and no library adds anything, so that 1, 2 and
    more ranks give the same bits, provided that their processors and libraries compute a block's loss alike.
    A gradient costs each rank two exchanges, with 2 (P - 1) d / P numbers of float64 to send on P = 2^k ranks,
    what an allreduce costs; a loss costs one exchange of a few numbers.

    Examples
    --------
    On one rank, and the same under ``mpiexec -n 4 python -m mpi4py script.py``:

    >>> import numpy as np, mblsr1
    >>> from mblsr1.distributed import data_parallel
    >>> x = np.arange(100.0)
    >>> class Alone:
    ...     rank, size = 0, 1
    ...     def all_gather(self, send):
    ...         return send[None, :]
    ...     def all_to_all(self, send, counts):
    ...         return list(send)
    >>> fun, grad = data_parallel(lambda w, i: np.mean((w - x[i]) ** 2), lambda w, i: 2 * (w - x[i].mean()), Alone())
    >>> result = mblsr1.minimize(fun, grad, np.zeros(1), 100, batch_size=100)
    >>> round(float(result.x[0]), 6)
    49.5
    """
    for name, value in (("fun", fun), ("grad", grad)):
        if not (callable(value) or (name == "grad" and value is True)):
            raise TypeError(f"{name}: must be a callable{' or True' * (name == 'grad')}, got {value!r:.60}")
    oracle = _Oracle(fun, None if grad is True else grad, communicator(comm), checked_blocks(blocks))
    if grad is True:
        return oracle.value_and_gradient, True
    return oracle.loss, oracle.gradient


class _Oracle:
    """The functions of one rank, and the exchange with the others."""

    def __init__(self, fun: Any, grad: Any, ranks: Communicator, blocks: int) -> None:
        self.fun, self.grad, self.ranks, self.blocks = fun, grad, ranks, blocks
        self.nodes = [subtrees(owned(rank, ranks.size, blocks)) for rank in range(ranks.size)]

    def loss(self, w: Array, *batch: Any) -> float:
        """Mean loss of the batch."""
        problem = Problem(self.fun, self.grad, None, w, True, Counts())

        def of(rows: Any) -> Numbers:
            return np.array([_array.to_float(problem.checked_loss(self.fun(w, rows)))])

        return float(self._mean(w, batch, of, 1)[0])

    def gradient(self, w: Array, *batch: Any) -> Array:
        """Mean gradient of the batch."""
        problem = Problem(self.fun, self.grad, None, w, True, Counts())

        def of(rows: Any) -> Numbers:
            return _array.host(_array.flatten(problem.checked_gradient(self.grad(w, rows), "grad")))

        return self._like(self._mean(w, batch, of, math.prod(w.shape)), w)

    def value_and_gradient(self, w: Array, *batch: Any) -> tuple[float, Array]:
        """Mean loss and mean gradient of the batch, from one exchange."""
        problem = Problem(self.fun, None, None, w, True, Counts())

        def of(rows: Any) -> Numbers:
            loss, g = problem.checked_both(self.fun(w, rows))
            return np.concatenate([[_array.to_float(loss)], _array.host(_array.flatten(g))])

        both = self._mean(w, batch, of, 1 + math.prod(w.shape))
        return float(both[0]), self._like(both[1:], w)

    def _like(self, mean: Numbers, w: Array) -> Array:
        return _array.from_host(mean.reshape(w.shape), w)

    def _mean(self, w: Array, batch: tuple[Any, ...], of: Callable[[Any], Numbers], n: int) -> Numbers:
        """Mean over the batch of what `of` returns for the rows of a block, n numbers that are means themselves."""
        own, seen, size = self.nodes[self.ranks.rank], 0, 1
        error: BaseException | None = None
        sums = np.zeros((len(own), n))
        try:
            counts, rows, seen = _cut(_only(batch), self.blocks)
            seen, size = zlib.crc32(_seen_of(w), seen), _at_least_one(sum(counts))
            for row, node in zip(sums, own, strict=True):
                row[:] = tree_sum(node, lambda b: of(rows(b)) * float(counts[b]) if counts[b] else 0.0)
        except BaseException as raised:  # whatever it is, the others wait for this rank
            error = raised
        head = np.array([float(error is not None), float(seen)])
        few = n * sum(map(len, self.nodes)) <= _AT_ONCE
        total = self._gathered(head, sums, error) if few else self._scattered(head, sums, error)
        return total / size

    def _gathered(self, head: Numbers, sums: Numbers, error: BaseException | None) -> Numbers:
        """The sum over all blocks where every rank receives everything: one exchange."""
        most, n = max(map(len, self.nodes)), sums.shape[1]
        sent = self.ranks.all_gather(np.concatenate([head, sums.ravel(), np.zeros((most - len(sums)) * n)]))
        self._check(sent[:, 0], sent[:, 1], error)
        return self._root([row[head.size :].reshape(most, n) for row in sent])

    def _scattered(self, head: Numbers, sums: Numbers, error: BaseException | None) -> Numbers:
        """The same where every rank sums a slice of the numbers, and the slices are gathered: two exchanges."""
        n, ranks = sums.shape[1], self.ranks
        cuts = [n * r // ranks.size for r in range(ranks.size + 1)]
        slices = [sums[:, a:b] for a, b in pairwise(cuts)]
        width = slices[ranks.rank].shape[1]
        send = [np.concatenate([head, part.ravel()]) for part in slices]
        came = ranks.all_to_all(send, [head.size + len(nodes) * width for nodes in self.nodes])
        self._check([part[0] for part in came], [part[1] for part in came], error)
        mine = self._root([part[head.size :].reshape(-1, width) for part in came])
        longest = max(b - a for a, b in pairwise(cuts))
        whole = ranks.all_gather(np.concatenate([mine, np.zeros(longest - width)]))
        return np.concatenate([row[: b - a] for row, (a, b) in zip(whole, pairwise(cuts), strict=True)])

    def _check(self, failed: Iterable[float], seen: Iterable[float], error: BaseException | None) -> None:
        """Raise on all ranks what one of them raised, and where they are not at the same place."""
        raise_everywhere(self.ranks, error, [bool(flag) for flag in failed])
        if len(set(seen)) > 1:
            raise ValueError(
                "comm: the ranks have different iterates or batches; give all of them the same w0, options and seed "
                "(rng=0, say), the same data, and the same state or file of checkpoint"
            )

    def _root(self, sums: Sequence[Numbers]) -> Numbers:
        """The sum over all blocks from what the ranks know of their subtrees."""
        pairs = zip(self.nodes, sums, strict=True)
        known = {node: row for nodes, rows in pairs for node, row in zip(nodes, rows, strict=False)}
        return np.asarray(tree_sum((0, self.blocks), _no_leaf, known))


def _no_leaf(block: int) -> float:
    raise AssertionError(f"block {block} belongs to no rank")


def _only(batch: tuple[Any, ...]) -> Any:
    if not batch:
        raise ValueError(
            "sampler: data_parallel shares out batches, and this call has none; give minimize a sampler, such as the "
            "number of samples"
        )
    return batch[0]


def _at_least_one(count: int) -> int:
    if count < 1:
        raise ValueError(f"batch: must have at least one row, got {count}")
    return count


def _cut(batch: Any, blocks: int) -> tuple[list[int], Callable[[int], Any], int]:
    """Counts and rows of the batch's blocks, and a number by which ranks see that they have the same batch."""
    if isinstance(batch, ShardedBatch):
        if batch.blocks != blocks:
            raise ValueError(f"blocks: the sampler was made with blocks={batch.blocks}, the functions with {blocks}")
        counts = [batch.count(b) for b in range(blocks)]
        return counts, batch.part, zlib.crc32(np.array(batch.ends()).tobytes())
    arrays = tuple(batch) if isinstance(batch, tuple | list) else (batch,)
    if not arrays or not all(_array.is_array(a) or hasattr(a, "shape") for a in arrays):
        raise TypeError(
            "batch: data_parallel cuts index arrays, tuples of arrays with rows, and the batches of a ShardedSampler; "
            f"got {batch!r:.60}"
        )
    lengths = [row_count(a, "a batch must be an array or a tuple of arrays") for a in arrays]
    if len(set(lengths)) > 1:
        raise ValueError(f"batch: all arrays must have the same number of rows, got {lengths}")
    n = lengths[0]
    edges = [n * b // blocks for b in range(blocks + 1)]

    def rows(b: int) -> Any:
        part = tuple(row_slice(a, edges[b], edges[b + 1]) for a in arrays)
        return part if isinstance(batch, tuple | list) else part[0]

    return [stop - start for start, stop in pairwise(edges)], rows, zlib.crc32(_first_rows(arrays[0], n), n)


def _first_rows(a: Any, n: int) -> bytes:
    """Some of a batch's first array: enough that two draws differ. A sparse matrix is told by its size alone."""
    return _array.host(row_slice(a, 0, min(n, 8))).tobytes() if _array.is_array(a) else b""


def _seen_of(w: Array) -> bytes:
    """Entries of the iterate, all over it."""
    flat = _array.flatten(w)
    return _array.host(flat[:: max(1, flat.shape[0] // _SEEN)]).tobytes()
