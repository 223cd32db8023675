"""Metrics: a positive definite M = C C' in B0 = gamma M and ||p||_M = ||C'p||.

The solver works in the coordinates x = C'p, where M is the identity: gradients enter as C^-1 g, steps leave as
p = C^-T x, and a pair is stored as C's and C^-1 y. So the subproblem stays exact, and all of its optimality tests
hold in the metric (Conn, Gould, Toint 2000, section 6.7).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from mblsr1 import _array
from mblsr1._array import Array
from mblsr1.linalg.pairs import PairMemory

__all__ = ["IDENTITY", "Fixed", "Kronecker", "KroneckerSettings", "Metric", "checked_metric"]

Shape = tuple[int, ...]


class Metric(Protocol):
    """What a step needs of a metric; any object of this shape serves.

    Its own state, where it has one, is saved and continued through `to_saved` and `restore`.
    """

    def of_gradient(self, g: Array) -> Array:
        """C^-1 g: a gradient (d,) in the coordinates where M is the identity."""

    def to_step(self, x: Array) -> Array:
        """C^-T x: the step (d,) with the coordinates x."""

    def observe(self, g: Array, pairs: PairMemory) -> None:
        """Learn from a batch gradient; where M changes, the coordinates of `pairs` must be changed too."""

    def to_saved(self) -> dict[str, Any]:
        """Everything that `restore` needs: a tree of arrays and numbers."""

    def restore(self, saved: dict[str, Any]) -> Metric:
        """Go on from `to_saved`."""


def checked_metric(metric: Any) -> Metric:
    """Return what a rule made, where it is a metric."""
    for name in ("of_gradient", "to_step", "observe", "to_saved", "restore"):
        if not callable(getattr(metric, name, None)):
            raise TypeError(f"metric: must be a rule that returns a metric, with a method {name}, got {metric!r:.80}")
    checked: Metric = metric
    return checked


class Fixed:
    """A metric that never changes.

    Parameters
    ----------
    of_gradient, to_step : callable
        v -> C^-1 v and v -> C^-T v on vectors (d,) of the caller's library.
    """

    def __init__(self, of_gradient: Callable[[Array], Array], to_step: Callable[[Array], Array]) -> None:
        self.of_gradient, self.to_step = of_gradient, to_step

    def observe(self, g: Array, pairs: PairMemory) -> None:
        """Nothing to learn."""

    def to_saved(self) -> dict[str, Any]:
        """Say that there is nothing to save."""
        return {"fixed": True}

    def restore(self, saved: dict[str, Any]) -> Fixed:
        """Nothing to go on from."""
        return self


#: M = I: the same vectors, at no cost.
IDENTITY = Fixed(lambda g: g, lambda x: x)


class KroneckerSettings(NamedTuple):
    """How a metric learns.

    Attributes
    ----------
    exponent : float
        C is the mean square to this power: 1/4 makes M the root of the mean squares, as in Adam; 0 makes it I.
    memory : float
        Weight of the past in the running means.
    every : int
        Gradients between two changes of M; at first the gaps double up to it.
    floor : float
        Added to the mean squares, as a share of their mean over the block.
    largest_side : int
        A side of a matrix longer than this keeps its own basis.
    stride : int
        After the first gradients one in `stride` enters the running means, in the place of as many.
    """

    exponent: float = 0.25
    memory: float = 0.95
    every: int = 20
    floor: float = 1e-2
    largest_side: int = 1024
    stride: int = 4


class Kronecker:
    """C is diagonal in a Kronecker-factored basis of each block: a basis for its rows, one for its columns.

    For a matrix whose gradients are G the bases are the eigenvectors of the running means of GG' and G'G, and the
    diagonal is a power of the running mean of the squares of G in those bases (the statistics of SOAP: Vyas et al.
    2024); a vector keeps its own basis. M is scaled to a mean diagonal of 1.

    Parameters
    ----------
    like : array (d,)
        Gives the length.
    shapes : sequence of tuples
        Shapes of the blocks that make up the vector, in order. (a, b, c, ...) is a matrix of a rows.
    settings : KroneckerSettings
    """

    def __init__(self, like: Array, shapes: Sequence[Shape], settings: KroneckerSettings) -> None:
        self.like, self.settings = like, settings
        self.blocks = [_Block(shape, settings.largest_side) for shape in shapes]
        self.ends = [sum(b.size for b in self.blocks[: i + 1]) for i in range(len(self.blocks))]
        if _array.length(like) != like.shape[0]:
            raise ValueError("metric: diagonal and kronecker need vectors that lie whole on this rank, not in parts")
        if not self.ends or self.ends[-1] != like.shape[0]:
            raise ValueError(
                f"blocks: the shapes must have {like.shape[0]} entries in all, as w0 has, "
                f"got {self.ends[-1] if self.ends else 0}"
            )
        self.count = 0

    def of_gradient(self, g: Array) -> Array:
        """C^-1 g: one rotation."""
        return self._each(g, lambda block, G: block.rotated(G) * block.inverse)

    def to_step(self, x: Array) -> Array:
        """C^-T x: one rotation back."""
        return self._each(x, lambda block, X: block.rotated_back(X * block.inverse))

    def observe(self, g: Array, pairs: PairMemory) -> None:
        """Add a gradient to the running means; now and then let M follow, and the pairs with it."""
        every, stride = self.settings.every, 1 if self.count < _FIRST else self.settings.stride
        if self.count % stride == 0:
            for block, G in self._split(g):
                block.observe(G, self.settings.memory**stride)
        self.count += 1
        if self.count % every == 0 or (self.count < every and self.count & (self.count - 1) == 0):
            self._follow(pairs)

    def _follow(self, pairs: PairMemory) -> None:
        """Take the bases and the diagonal of the running means; cost: two rotations a pair, one Gram matrix."""
        moves = [block.follow() for block in self.blocks]
        share = sum(_array.to_float(b.mean_of_power(self.settings)) * b.size for b in self.blocks) / self.ends[-1]
        scale = 1.0 / math.sqrt(share) if share > 0.0 else 1.0
        before = [block.inverse for block in self.blocks]
        for block in self.blocks:
            block.scale_to(self.settings, scale)
        if self.count > 1:
            changes = list(zip(moves, before, strict=True))
            pairs.transform(lambda s: self._moved(s, changes, True), lambda y: self._moved(y, changes, False))

    def _moved(self, x: Array, changes: list[tuple[_Move, Array]], is_step: bool) -> Array:
        """New coordinates of a step or of a gradient difference from the old ones."""
        pieces = []
        for (block, X), (move, before) in zip(self._split(x), changes, strict=True):
            turned = move.applied(X * before if is_step else X / before)
            pieces.append(_array.flatten(turned / block.inverse if is_step else turned * block.inverse))
        return _array.concatenate(pieces)

    def _split(self, x: Array) -> list[tuple[_Block, Array]]:
        """The blocks with their part of x, as a matrix."""
        starts = [0, *self.ends[:-1]]
        return [
            (block, _array.reshape(x[start:end], block.matrix))
            for block, start, end in zip(self.blocks, starts, self.ends, strict=True)
        ]

    def _each(self, x: Array, function: Callable[[_Block, Array], Array]) -> Array:
        return _array.concatenate([_array.flatten(function(block, X)) for block, X in self._split(x)])

    def to_saved(self) -> dict[str, Any]:
        """Return running means, bases and diagonals."""
        return {"count": self.count, **{str(i): block.to_saved() for i, block in enumerate(self.blocks)}}

    def restore(self, saved: dict[str, Any]) -> Kronecker:
        """Go on from `to_saved`."""
        self.count = int(saved["count"])
        for i, block in enumerate(self.blocks):
            block.restore(saved[str(i)], self.like)
        return self


class _Move(NamedTuple):
    """A change of a block's bases: new coordinates are left X right; None is the identity."""

    left: Array | None
    right: Array | None

    def applied(self, X: Array) -> Array:
        X = X if self.left is None else _array.matmul(self.left, X)
        return X if self.right is None else _array.matmul(X, self.right)


class _Block:
    """One block: running means, bases (None is the block's own) and the diagonal of C^-1."""

    def __init__(self, shape: Shape, largest_side: int) -> None:
        self.size = math.prod(shape)
        self.matrix = (shape[0], self.size // max(1, shape[0])) if len(shape) > 1 else (1, self.size)
        self.turns = [len(shape) > 1 and 1 < side <= largest_side for side in self.matrix]
        #: Running means: of GG', of G'G, and of the squares in the bases.
        self.of_rows: Array | None = None
        self.of_columns: Array | None = None
        self.squares: Array | None = None
        self.left: Array | None = None
        self.right: Array | None = None
        self.inverse: Array | None = None

    def rotated(self, G: Array) -> Array:
        return _Move(_transposed(self.left), self.right).applied(G)

    def rotated_back(self, X: Array) -> Array:
        return _Move(self.left, _transposed(self.right)).applied(X)

    def observe(self, G: Array, memory: float) -> None:
        """Add to the running means; a gradient whose square overflows counts as zero."""
        G = _array.where(_array.mean(G * G) * (4.0 * self.size) < math.inf, G, 0.0)
        if self.turns[0]:
            self.of_rows = _mean(self.of_rows, _array.matmul(G, _array.transposed(G)), memory)
        if self.turns[1]:
            self.of_columns = _mean(self.of_columns, _array.matmul(_array.transposed(G), G), memory)
        H = self.rotated(G)
        self.squares = _mean(self.squares, H * H, memory)

    def follow(self) -> _Move:
        """Take the eigenvectors as bases; the mean squares go along as variances of uncorrelated entries do."""
        left = None if self.of_rows is None else _array.eigenvectors(self.of_rows)
        right = None if self.of_columns is None else _array.eigenvectors(self.of_columns)
        move = _Move(
            left if left is None else _array.transposed(left) if self.left is None
            else _array.matmul(_array.transposed(left), self.left),
            right if right is None or self.right is None else _array.matmul(_array.transposed(self.right), right),
        )  # fmt: skip
        squared = _Move(*(None if x is None else x * x for x in move))
        self.left, self.right, self.squares = left, right, squared.applied(self.squares)
        return move

    def _floored(self, floor: float) -> Array:
        return self.squares + floor * _array.mean(self.squares)

    def mean_of_power(self, settings: KroneckerSettings) -> Array:
        """Mean diagonal of M before it is scaled."""
        return _array.mean(self._floored(settings.floor) ** (2.0 * settings.exponent))

    def scale_to(self, settings: KroneckerSettings, scale: float) -> None:
        """Make the diagonal of C^-1; where no gradient has been anything but zero it is 1."""
        floored = self._floored(settings.floor)
        flat = floored <= 0.0
        self.inverse = _array.where(flat, 1.0, (1.0 / scale) / _array.where(flat, 1.0, floored) ** settings.exponent)

    def to_saved(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _STATE}

    def restore(self, saved: dict[str, Any], like: Array) -> None:
        for name in _STATE:
            value = saved[name]
            setattr(self, name, None if value is None else _array.adopt(value, like))


def _transposed(basis: Array | None) -> Array | None:
    return None if basis is None else _array.transposed(basis)


#: The first gradients all enter the running means.
_FIRST = 8
_STATE = ("of_rows", "of_columns", "squares", "left", "right", "inverse")


def _mean(old: Array | None, new: Array, memory: float) -> Array:
    """Running mean without a bias towards zero in its shape: it starts at the first value."""
    return new if old is None else memory * old + (1.0 - memory) * new
