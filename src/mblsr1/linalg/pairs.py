"""The stored pairs (s_i, y_i) and their inner products, kept up to date pair by pair."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mblsr1 import _array
from mblsr1._array import Array, HostArray

__all__ = ["GramBlocks", "NewPair", "PairMemory"]


#: A pair is refused where (||y||/||s||)^2 is above the one, as gamma^2, and sums of k such terms, must not overflow;
#: or under the other but not 0, as products with y have lost their digits to underflow.
_LARGEST_CURVATURE_SQUARE, _SMALLEST_CURVATURE_SQUARE = 1e300, 1e-290
TINY = float(np.finfo(np.float64).tiny)
#: Columns of the Gram matrix that are made in one pass.
_AT_ONCE = 16


class GramBlocks(NamedTuple):
    """Inner products of the stored pairs, oldest first, each pair divided by its ||s||.

    The SR1 matrix does not change when a pair is scaled, and unit s make every
    threshold relative.
    """

    SS: HostArray  #: (k, k), s_i's_j
    SY: HostArray  #: (k, k), s_i'y_j
    YY: HostArray  #: (k, k), y_i'y_j

    @property
    def k(self) -> int:
        """Number of pairs."""
        return int(self.SS.shape[0])


class NewPair(NamedTuple):
    """A pair that asks for a place: its products with the buffer and with itself."""

    rows_s: HostArray  #: (2m,), buffer times s
    rows_y: HostArray  #: (2m,), buffer times y
    ss: float
    sy: float
    yy: float

    def relative(self, square: float) -> float:
        """||y - Bs|| / ||y|| from its numerator's square, which rounding may have made negative; 0 where y is 0."""
        return math.sqrt(max(square, 0.0) / self.yy) if self.yy > 0.0 else 0.0


class PairMemory:
    """A ring of at most `capacity` pairs in one (2 capacity, d) buffer of the caller's library.

    Pair number j of the ring has s in row 2j and y in row 2j + 1, so the used part
    of the buffer is contiguous while it fills. `push` only hands a pair over; its
    inner products are made by the next `project`, in the same pass over the buffer
    that projects the next gradient.

    Parameters
    ----------
    like : array (d,)
        Gives library, dtype, device and length.
    capacity : int
        The paper's m.
    """

    def __init__(self, like: Array, capacity: int) -> None:
        self.capacity = self.limit = capacity
        self.length = _array.length(like)  # the dimension d
        try:
            self.rows = _array.row_buffer(like, 2 * capacity)
            self.gram = np.zeros((2 * capacity, 2 * capacity))
        except (MemoryError, ValueError, OverflowError) as error:  # NumPy's, where a size is beyond all memory
            raise MemoryError(f"memory: {capacity} pairs of {self.length} numbers do not fit into memory") from error
        self.order: list[int] = []
        self.pending: tuple[Array, Array] | None = None
        self.n_refused = 0
        self.scores = np.zeros(2)  # running log error of the models that compete (steps/model.py)
        self.matrix: Any = None  # what was last built from the pairs; gone when they change
        self._view: Array | None = None
        self._blocks: GramBlocks | None = None
        self._rows_s = np.zeros(0, dtype=np.intp)

    def __len__(self) -> int:
        return len(self.order)

    @property
    def columns(self) -> int:
        """Entries of a vector here: d, or those of this rank where vectors lie in parts on several."""
        return int(self.rows.shape[1])

    @property
    def active(self) -> Array:
        """The used rows of the buffer, (2 k, d): a view that is made once."""
        if self._view is None:
            self._view = _array.leading_rows(self.rows, self._used)
        return self._view

    @property
    def _used(self) -> int:
        """Rows up to the last one in use."""
        return 2 * (max(self.order) + 1) if self.order else 0

    def clear(self) -> None:
        """Forget all pairs."""
        self.order, self.pending = [], None
        self._changed()

    def keep_newest(self, count: int) -> None:
        """Forget all but the newest `count` pairs, now and from now on."""
        self.limit = min(count, self.capacity)
        if len(self.order) > self.limit:
            self.order = self.order[len(self.order) - self.limit :]
            self._changed()

    def transform(self, of_step: Callable[[Array], Array], of_difference: Callable[[Array], Array]) -> None:
        """Change the coordinates of all pairs, the pending one included, and make their inner products anew."""
        if self.pending is not None:
            self.pending = of_step(self.pending[0]), of_difference(self.pending[1])
        for slot in self.order:
            s, y = self.rows[2 * slot, :], self.rows[2 * slot + 1, :]
            self._write(slot, of_step(s), of_difference(y))
        self._changed()
        used = self._used
        for start in range(0, used, _AT_ONCE):
            some = range(start, min(start + _AT_ONCE, used))
            products = _array.products(self.active, [self.rows[row, :] for row in some])
            self.gram[:used, some] = products[:used]

    def push(self, s: Array, y: Array) -> None:
        """Hand over a pair; it is judged and stored by the next `project`."""
        if self.pending is not None:
            self.project([])
        if self.limit > 0:
            self.pending = (s, y)

    def project(self, vectors: Sequence[Array], accept: Callable[[NewPair], bool] | None = None) -> HostArray:
        """Store the pending pair if `accept` says so, and return rows times vectors.

        Returns
        -------
        array (2 capacity, len(vectors)), float64 on the host
            Zero in the unused rows.
        """
        return self.project_all(vectors, accept)[0]

    def project_all(
        self, vectors: Sequence[Array], accept: Callable[[NewPair], bool] | None = None
    ) -> tuple[HostArray, HostArray]:
        """Return what `project` returns, and the vectors' products with each other: one pass, one crossing."""
        pending, self.pending = self.pending, None
        everything = [*vectors] if pending is None else [*pending, *vectors]
        out = np.zeros((2 * self.capacity, len(everything)))
        if not everything:
            return out, np.zeros((0, 0))
        used = self.active.shape[0]
        block = _array.inner_products(self.active, everything)
        out[:used], own = block[:used], block[used:]
        if pending is None:
            return out, own
        self._judge(*pending, out, own, accept)
        return out[:, 2:], own[2:, 2:]

    def _judge(
        self, s: Array, y: Array, out: HostArray, own: HostArray, accept: Callable[[NewPair], bool] | None
    ) -> None:
        """Store the pair, whose products with everything are the first two columns, or count it as refused."""
        pair = NewPair(out[:, 0], out[:, 1], own[0, 0], own[0, 1], own[1, 1])
        if not _sound(pair) or (accept is not None and not accept(pair)):
            self.n_refused += 1
            return
        slot = self._claim_slot()
        self._write(slot, s, y)
        out[2 * slot], out[2 * slot + 1] = own[0], own[1]
        for row in (2 * slot, 2 * slot + 1):
            self.gram[row, :] = self.gram[:, row] = out[:, row % 2]
        self._changed()

    def _write(self, slot: int, s: Array, y: Array) -> None:
        self.rows = _array.set_row(self.rows, 2 * slot, s)
        self.rows = _array.set_row(self.rows, 2 * slot + 1, y)

    def _claim_slot(self) -> int:
        full = len(self.order) >= self.limit
        slot = self.order.pop(0) if full else min(set(range(self.capacity)) - set(self.order))
        self.order.append(slot)
        return slot

    def _changed(self) -> None:
        self.matrix = self._view = self._blocks = None
        self._rows_s = 2 * np.asarray(self.order, dtype=np.intp)

    def blocks(self) -> GramBlocks:
        """Return the inner products of the pairs in time order, s of unit length."""
        if self._blocks is not None:
            return self._blocks
        k = len(self.order)
        rows = np.concatenate([self._rows_s, self._rows_s + 1])
        gram = self.gram[rows[:, None], rows]
        scale = 1.0 / np.sqrt(gram.diagonal()[:k])
        outer = scale[:, None] * scale
        self._blocks = GramBlocks(gram[:k, :k] * outer, gram[:k, k:] * outer, gram[k:, k:] * outer)
        return self._blocks

    def over_rows(self, of_s: HostArray, of_y: HostArray | None = None, used: NDArray[Any] | None = None) -> HostArray:
        """Turn (k, j) coefficients over unit pairs, oldest first, into (2m, j) ones over the rows.

        Parameters
        ----------
        of_s, of_y : array (k, j)
            Coefficients of s / ||s|| and y / ||s||.
        used : array of int, optional
            Which of the stored pairs these are; all by default.
        """
        rows, scale = self.unit_rows(used)
        out = np.zeros((2 * self.capacity, of_s.shape[1]))
        out[rows] = of_s * scale[:, None]
        if of_y is not None:
            out[rows + 1] = of_y * scale[:, None]
        return out

    def unit_rows(self, used: Any = None) -> tuple[NDArray[np.intp], HostArray]:
        """Rows of the s of the stored pairs, or of the `used` ones, oldest first, and 1 / ||s||; y is the row after."""
        rows = self._rows_s if used is None else self._rows_s[used]
        return rows, 1.0 / np.sqrt(self.gram[rows, rows])

    def of_unit_pairs(self, z: HostArray, used: NDArray[Any] | None = None) -> tuple[HostArray, HostArray]:
        """Turn products z of the rows with a vector into those of s / ||s|| and y / ||s||, oldest first."""
        rows, scale = self.unit_rows(used)
        return z[rows] * scale, z[rows + 1] * scale

    def combine(self, coefficients: HostArray, scale: float, base: Array) -> Array:
        """Return ``coefficients @ rows + scale * base``: one pass over the used rows."""
        rows, scale = self.active, float(scale)  # a NumPy scalar would widen float32
        if rows.shape[0] == 0:
            return base * scale
        return _array.combine(coefficients[: rows.shape[0]], rows, scale, base)

    def to_saved(self) -> dict[str, Any]:
        """Return everything that a later `restore` needs, as arrays and numbers; the buffer itself, not a copy."""
        return {
            "rows": self.rows,
            "gram": self.gram.copy(),
            "scores": self.scores.copy(),
            "order": np.asarray(self.order, dtype=np.int64),
            "n_refused": self.n_refused,
            "pending": None if self.pending is None else {"s": self.pending[0], "y": self.pending[1]},
        }

    def restore(self, saved: dict[str, Any]) -> PairMemory:
        """Fill this memory from what `to_saved` gave, which stays intact."""
        if tuple(saved["rows"].shape) != tuple(self.rows.shape):
            raise ValueError(
                f"state: holds a pair buffer of shape {tuple(saved['rows'].shape)}, but memory={self.capacity} and "
                f"w0 need {tuple(self.rows.shape)}; continue with the options of the first run"
            )
        self.rows = _array.adopt(saved["rows"], self.rows)
        self.gram = np.array(saved["gram"])
        self.scores = np.array(saved["scores"])
        self.order = [int(slot) for slot in saved["order"]]
        self.n_refused = int(saved["n_refused"])
        pending = saved["pending"]
        self.pending = (
            None if pending is None else (_array.adopt(pending["s"], self.rows), _array.adopt(pending["y"], self.rows))
        )
        self._changed()
        return self


def _sound(pair: NewPair) -> bool:
    """Whether a pair is finite, its s is not zero (nor lost to underflow) and its curvature is 0 or has a square."""
    finite = np.isfinite(pair.rows_s).all() and np.isfinite(pair.rows_y).all()
    if not (finite and np.isfinite([pair.ss, pair.sy, pair.yy]).all() and pair.ss > TINY):
        return False
    if pair.yy <= TINY:
        return bool(pair.yy == pair.sy == 0.0)
    return _SMALLEST_CURVATURE_SQUARE < float(pair.yy) / float(pair.ss) < _LARGEST_CURVATURE_SQUARE
