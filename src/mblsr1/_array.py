"""The only file that knows array libraries.

Vectors of length d stay in the caller's library and on its device; whatever
leaves the device passes through :func:`host` and becomes NumPy float64.
Elsewhere vectors meet only ``+ - *`` with Python floats and the functions below.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import array_api_compat as compat
import numpy as np
from numpy.typing import NDArray

Array = Any
HostArray = NDArray[np.float64]

_DOUBLE = float(np.finfo(np.float64).eps)
#: Bytes of the pair buffer handled at once: a block stays in a core's L2 cache.
_BLOCK_BYTES = 1 << 19
#: Longest run of float32 products summed in float32: error 4.5e-8 of |a||b|, 3e-6 where all entries are equal.
_FLOAT32_RUN = 1024


def namespace(*arrays: Array) -> Any:
    """Return the array-API namespace that the arrays belong to."""
    return compat.array_namespace(*arrays)


def is_array(x: object) -> bool:
    """Whether `x` is an array of a library that this project supports."""
    return bool(compat.is_array_api_obj(x))


def as_array(x: object) -> Array:
    """`x` itself if it is an array, else a NumPy array made from it."""
    return x if is_array(x) and not np.isscalar(x) else np.asarray(x)


def host(x: Array) -> HostArray:
    """Bring device numbers to the host as float64: the one crossing."""
    return np.asarray(to_numpy(x), dtype=np.float64)


def to_numpy(x: Array) -> NDArray[Any]:
    """Bring an array to the host in its own dtype: for `host` and for files."""
    if isinstance(x, np.ndarray):
        return x
    if compat.is_torch_array(x):
        x = x.detach().cpu()
    elif compat.is_cupy_array(x):
        x = x.get()
    elif hasattr(x, "to_device") and not compat.is_jax_array(x):
        x = _to_default_device(x)
    return np.asarray(x)


def _to_default_device(x: Array) -> Array:
    xp = namespace(x)
    return x.to_device(xp.__array_namespace_info__().default_device())


def to_float(x: Array) -> float:
    """Return a real scalar, an array of one element or a number as a Python float."""
    return float(detached(x))


def is_real_floating(x: Array) -> bool:
    """Whether the dtype is a real floating one."""
    return bool(namespace(x).isdtype(x.dtype, "real floating"))


def is_real_scalar(x: object) -> bool:
    """Whether `x` is a real number or an array of shape () of real numbers."""
    if isinstance(x, numbers.Real):
        return True
    return is_array(x) and getattr(x, "shape", None) == () and (is_real_floating(x) or is_integer(x))


def is_integer(x: Array) -> bool:
    """Whether the dtype is an integer or boolean one."""
    return bool(namespace(x).isdtype(x.dtype, ("integral", "bool")))


def to_default_float(x: Array) -> Array:
    """Return `x` in its library's default floating dtype."""
    xp = namespace(x)
    return xp.astype(x, xp.asarray(0.0).dtype)


def eps(x: Array) -> float:
    """Return the machine epsilon of the array's dtype."""
    if isinstance(x, np.ndarray):
        return _eps(np, x.dtype)
    return _eps(namespace(x), x.dtype)


def loss_eps(x: Array) -> float:
    """Return the precision of a loss at `x`: a Python float, so float64's at best."""
    return max(_DOUBLE, eps(x))


def is_single(x: Array) -> bool:
    """Whether the dtype has less precision than float64."""
    return eps(x) > 1e-10


@lru_cache(maxsize=32)
def _eps(xp: Any, dtype: Any) -> float:
    return float(xp.finfo(dtype).eps)


def spec(x: Array) -> tuple[str, str, str]:
    """Return (library, dtype, device) as text: to compare, and to name in messages."""
    if isinstance(x, np.ndarray):
        return "numpy", x.dtype.name, "cpu"
    return namespace(x).__name__.removeprefix("array_api_compat."), str(x.dtype), str(device(x))


def device(x: Array) -> Any:
    """Return the device that the array lives on."""
    return compat.device(x)


def same_kind(x: Array, like: Array) -> bool:
    """Whether library, dtype and device are the same."""
    if isinstance(x, np.ndarray) and isinstance(like, np.ndarray):
        return bool(x.dtype == like.dtype)
    return spec(x) == spec(like)


def flatten(x: Array) -> Array:
    """Return `x` as a vector; a view where the library has views."""
    return x if x.ndim == 1 else namespace(x).reshape(x, (-1,))


def reshape(x: Array, shape: tuple[int, ...]) -> Array:
    """Return `x` with another shape; a view where the library has views."""
    return x if x.shape == shape else namespace(x).reshape(x, shape)


def copy(x: Array) -> Array:
    """Return a copy of `x` on the same device, without history."""
    if isinstance(x, np.ndarray):
        return x.copy()
    if compat.is_torch_array(x):
        return x.detach().clone()
    return namespace(x).asarray(x, copy=True)


def detached(x: Array) -> Array:
    """Return `x` without the history that torch keeps of it: the same memory."""
    return x.detach() if compat.is_torch_array(x) else x


def from_host(values: NDArray[Any], like: Array) -> Array:
    """Return host numbers as an array of the library, dtype and device of `like`."""
    if isinstance(like, np.ndarray):
        return np.asarray(values, dtype=like.dtype)
    return namespace(like).asarray(values, dtype=like.dtype, device=device(like))


def adopt(x: Array, like: Array) -> Array:
    """Return a copy of `x`, maybe a host array, in the library, dtype and device of `like`."""
    return copy(x) if same_kind(x, like) else copy(from_host(host(x), like))


def normal(rng: np.random.Generator, like: Array) -> Array:
    """Draw a standard normal vector: the same numbers for a seed in every library."""
    return from_host(rng.standard_normal(like.shape[0]), like)


def take(x: Array, indices: NDArray[np.int64]) -> Array:
    """Return the rows of `x` with these indices."""
    if isinstance(x, np.ndarray) or not is_array(x):
        return x[indices]
    xp = namespace(x)
    return xp.take(x, xp.asarray(indices, device=device(x)), axis=0)


def sqrt(x: Array) -> Array:
    """Return the square roots of the entries."""
    return namespace(x).sqrt(x)


def concatenate(parts: Sequence[Array]) -> Array:
    """Join arrays along their first axis."""
    return namespace(parts[0]).concat(list(parts), axis=0)


def all_finite(x: Array) -> bool:
    """Whether every entry is finite. A finite sum proves it without a temporary."""
    with quiet():
        if isinstance(x, np.ndarray):
            return math.isfinite(float(x.sum())) or bool(np.isfinite(x).all())
        xp = namespace(x)
        return math.isfinite(float(xp.sum(x))) or bool(xp.all(xp.isfinite(x)))


def row_buffer(like: Array, rows: int) -> Array:
    """Return a (rows, d) buffer of zeros in the library, dtype and device of `like`."""
    xp = namespace(like)
    return xp.zeros((rows, like.shape[0]), dtype=like.dtype, device=device(like))


def zero_row(rows: Array) -> Array:
    """Return a vector of zeros as long as the rows, of which there may be none."""
    return namespace(rows).zeros(rows.shape[1], dtype=rows.dtype, device=device(rows))


def set_row(rows: Array, i: int, x: Array) -> Array:
    """Write one row, in place where the library allows; use the returned buffer."""
    if compat.is_jax_array(rows):
        return rows.at[i].set(x)
    rows[i, ...] = detached(x)
    return rows


def quiet() -> np.errstate:
    """Let overflow make inf or nan without a NumPy warning: what matters is tested for being finite."""
    return np.errstate(all="ignore")


def caller_settings() -> dict[str, Any]:
    """Return NumPy's present treatment of floating-point errors, to give back with `np.errstate(**settings)`."""
    return dict(np.geterr())


def with_settings(settings: dict[str, Any]) -> np.errstate:
    """Return the context in which NumPy treats floating-point errors as in `settings`."""
    return np.errstate(**settings)


def dot(a: Array, b: Array) -> float:
    """Return a'b, accumulated in float64."""
    if isinstance(a, np.ndarray) and a.dtype == np.float64:
        return float(np.dot(a, b))
    return float(products(a[None, :], [b])[0, 0])


def norm(a: Array) -> float:
    """Return the Euclidean norm without overflow or underflow."""
    with quiet():
        square = dot(a, a)
    if 1e-30 < square < math.inf or (1e-290 < square < math.inf and not is_single(a)):
        return math.sqrt(square)
    largest = float(namespace(a).max(namespace(a).abs(a)))
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    up, small = (1e30, 1e-37) if is_single(a) else (1e300, 1e-300)
    scaled = a * (1.0 / largest) if largest > small else (a * up) * (1.0 / up / largest)
    return largest * math.sqrt(dot(scaled, scaled))


def products(rows: Array, vectors: Sequence[Array]) -> HostArray:
    """Return the (r, k) inner products of r rows and k vectors, accumulated in float64.

    One pass over `rows`: block by block, each block meets all vectors while it
    is in the cache.
    """
    if isinstance(rows, np.ndarray):
        return _numpy_products(rows, vectors)
    return host(_portable_products(rows, vectors))


def _numpy_products(rows: NDArray[Any], vectors: Sequence[NDArray[Any]]) -> HostArray:
    if rows.nbytes <= _BLOCK_BYTES and rows.dtype == np.float64:
        small: HostArray = rows @ (vectors[0][:, None] if len(vectors) == 1 else np.array(vectors).T)
        return small
    total = np.zeros((rows.shape[0], len(vectors)))
    for block in _blocks(rows):
        part = rows[:, block]
        if len(vectors) == 1:
            total[:, 0] += part @ vectors[0][block]
        else:
            total += part @ np.stack([v[block] for v in vectors], axis=1)
    return total


def _portable_products(rows: Array, vectors: Sequence[Array]) -> Array:
    xp = namespace(rows)
    columns = xp.stack(list(vectors), axis=1)
    wide = _widest(xp)
    if rows.dtype == wide:
        return xp.matmul(rows, columns)
    total = None
    for block in _blocks(rows):
        part = xp.matmul(xp.astype(rows[:, block], wide), xp.astype(columns[block, :], wide))
        total = part if total is None else total + part
    return total


def _widest(xp: Any) -> Any:
    return xp.zeros(1, dtype=xp.float64).dtype


def _blocks(rows: Array) -> Iterator[slice]:
    count, length = rows.shape
    single = is_single(rows)
    width = max(64, _BLOCK_BYTES // ((4 if single else 8) * max(1, count)))
    if single:
        width = min(width, _FLOAT32_RUN)
    for start in range(0, length, width):
        yield slice(start, min(start + width, length))


def linear(coefficients: Sequence[float], vectors: Sequence[Array]) -> Array:
    """Return the sum of the vectors times their coefficients, without a temporary where NumPy allows."""
    if not isinstance(vectors[0], np.ndarray) or vectors[0].size <= _FLOAT32_RUN:
        terms = [c * v for c, v in zip(coefficients, vectors, strict=True)]
        return sum(terms[1:], start=terms[0])
    out = np.empty_like(vectors[0])
    step = _BLOCK_BYTES // out.itemsize
    for start in range(0, out.size, step):
        block = slice(start, start + step)
        np.multiply(vectors[0][block], coefficients[0], out=out[block])
        for c, v in zip(coefficients[1:], vectors[1:], strict=True):
            out[block] += c * v[block]
    return out


def combine(coefficients: HostArray, rows: Array, scale: float = 0.0, base: Array | None = None) -> Array:
    """Return ``coefficients @ rows + scale * base`` as a vector of the rows' dtype."""
    if isinstance(rows, np.ndarray):
        result = coefficients.astype(rows.dtype, copy=False) @ rows
    else:
        result = namespace(rows).matmul(from_host(coefficients, rows), rows)
    return result if base is None else linear([1.0, scale], [result, base])
