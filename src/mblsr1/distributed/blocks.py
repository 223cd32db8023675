"""Fixed blocks of a batch and a fixed tree of sums: a sum's bits do not depend on the number of ranks.

A batch is cut into `blocks` blocks, a power of two; each rank computes a run of them. Sums are formed along the binary
tree over the blocks: a rank sums the subtrees that are all its own, the others are summed after the exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mblsr1.checks import integer

__all__ = ["BLOCKS", "checked_blocks", "owned", "subtrees", "tree_sum"]

#: Blocks of a batch, and so the most ranks that compute at once.
BLOCKS = 16

Subtree = tuple[int, int]  #: first block and number of blocks
Sum = NDArray[np.float64] | float


def checked_blocks(blocks: Any) -> int:
    """Return `blocks` where it is a power of two."""
    count = integer("blocks", blocks, 1)
    if count & (count - 1):
        raise ValueError(f"blocks: must be a power of two, got {blocks!r}")
    return count


def owned(rank: int, size: int, blocks: int) -> range:
    """Blocks of a rank: equal shares; some ranks have none where there are more ranks than blocks."""
    return range(rank * blocks // size, (rank + 1) * blocks // size)


def subtrees(blocks: range) -> list[Subtree]:
    """The largest subtrees that make up a run of blocks, in order."""
    found, start = [], blocks.start
    while start < blocks.stop:
        length = start & -start or 1 << (blocks.stop - 1).bit_length()
        while start + length > blocks.stop:
            length //= 2
        found.append((start, length))
        start += length
    return found


def tree_sum(node: Subtree, leaf: Callable[[int], Sum], known: Mapping[Subtree, Sum] | None = None) -> Sum:
    """Sum of the leaves of a subtree, pairwise; of subtrees that are `known` the sum is taken.

    Parameters
    ----------
    node : (int, int)
    leaf : callable
        block -> its array or number; it is asked from the first to the last, and its array is overwritten.
    known : mapping, optional
    """
    if known is not None and node in known:
        return known[node]
    start, length = node
    if length == 1:
        return leaf(start)
    half = length // 2
    left, right = tree_sum((start, half), leaf, known), tree_sum((start + half, half), leaf, known)
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        left += right
        return left
    return left + right
