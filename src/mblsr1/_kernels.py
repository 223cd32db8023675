"""Inner products and linear combinations of long NumPy vectors, near the limit that memory sets.

Everything that is handled at once stays in a core's L2 cache; sums of float32 numbers leave float32 after a short run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

HostArray = NDArray[np.float64]

#: Up to this size everything is in the cache, and is multiplied at once in float64.
_SMALL_BYTES = 1 << 17
#: Columns handled at once: four vectors of this length stay in a core's L2 cache.
_BLOCK = 1 << 14
#: OpenBLAS multiplies matrices up to 1e6 multiplications as they lie, larger ones after copying them:
#: so many rows and columns at once.
_SMALL_PRODUCT, _TILE = 1_000_000, 8
#: Longest run of float32 products summed in float32: error 4.5e-8 of |a||b|, 3e-6 where all entries are equal.
FLOAT32_RUN = 1024


def quiet() -> np.errstate:
    """Let overflow make inf or nan without a NumPy warning: what matters is tested for being finite."""
    return np.errstate(all="ignore")


def caller_settings() -> dict[str, Any]:
    """Return NumPy's present treatment of floating-point errors, to give back with `np.errstate(**settings)`."""
    return dict(np.geterr())


def with_settings(settings: dict[str, Any]) -> np.errstate:
    """Return the context in which NumPy treats floating-point errors as in `settings`."""
    return np.errstate(**settings)


def products(rows: NDArray[Any], vectors: Sequence[NDArray[Any]]) -> HostArray:
    """Block by block: a block of the vectors meets all rows, and itself, while it is in the cache."""
    (count, length), k = rows.shape, len(vectors)
    if rows.nbytes <= _SMALL_BYTES and length <= _BLOCK:
        V = np.array(vectors, dtype=np.float64)
        small: HostArray = np.concatenate([rows.astype(np.float64, copy=False) @ V.T, V @ V.T])
        return small
    width = k if k <= 2 else -(-k // 4) * 4  # four columns cost BLAS less than three
    run = _run(width, rows.dtype)
    total, V = np.zeros((count + k, width)), np.zeros((width, _BLOCK), dtype=rows.dtype)
    for start in range(0, length, _BLOCK):
        end = min(start + _BLOCK, length)
        block = V[:, : end - start]
        for i, v in enumerate(vectors):
            block[i] = v[start:end]
        total[:count] += by_runs(rows[:, start:end], block, run)
        for part in _own_parts(k, width):
            total[count:][part] += by_runs(block[part], block, run)
    return total[:, :k]


def _own_parts(k: int, width: int) -> list[slice]:
    """Rows of V for V V': never all of them, which would be taken for a symmetric product, and that is slow."""
    return [slice(0, k)] if k < width else [slice(0, 1), slice(1, k)]


def by_runs(A: NDArray[Any], V: NDArray[Any], run: int) -> HostArray:
    """A V', the sum over runs of columns; each run in the arrays' precision, their sum in float64."""
    (count, length), k = A.shape, V.shape[0]
    if length <= run and count <= _TILE and A.dtype == np.float64:
        product: HostArray = A @ V.T
        return product
    tile = math.gcd(count, 1 << (_SMALL_PRODUCT // (run * max(4, k))).bit_length() - 1) or 1
    total, whole = np.zeros((count, k)), length // run * run
    if whole and count:
        of_A = A[:, :whole].reshape(-1, tile, whole // run, run).transpose(2, 0, 1, 3)
        of_V = V[:, :whole].reshape(k, 1, whole // run, run).transpose(2, 1, 3, 0)
        total += np.matmul(of_A, of_V).sum(axis=0, dtype=np.float64).reshape(count, k)
    if whole < length:
        total += A[:, whole:].astype(np.float64) @ V[:, whole:].T
    return total


@lru_cache(maxsize=64)
def _run(width: int, dtype: Any) -> int:
    """Columns that are multiplied at once: a power of 2 that keeps each product a small one."""
    if dtype.itemsize < 8:
        return FLOAT32_RUN
    return min(_BLOCK, 1 << (_SMALL_PRODUCT // (_TILE * max(1, width))).bit_length() - 1)


def combine(coefficients: HostArray, rows: NDArray[Any], scale: float, base: NDArray[Any] | None) -> NDArray[Any]:
    c = coefficients.astype(rows.dtype, copy=False)
    if c.size > 1 and not c[1::2].any():  # a model on S alone: half of the rows need not be read
        rows, c = rows[::2], c[::2]
    if base is None:
        alone: NDArray[Any] = c @ rows
        return alone
    out = np.empty(rows.shape[1], dtype=rows.dtype)
    for start in range(0, out.size, 2 * _BLOCK):
        block = slice(start, start + 2 * _BLOCK)
        np.matmul(c, rows[:, block], out=out[block])
        out[block] += scale * base[block]
    return out


def linear(coefficients: Sequence[float], vectors: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return the sum of the vectors times their coefficients, without long temporaries."""
    out = np.empty_like(vectors[0])
    for start in range(0, out.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        np.multiply(vectors[0][block], coefficients[0], out=out[block])
        for c, v in zip(coefficients[1:], vectors[1:], strict=True):
            out[block] += v[block] if c == 1.0 else c * v[block]
    return out
