"""The only file that knows array libraries.

Vectors of length d stay in the caller's library and on its device; whatever
leaves the device passes through :func:`host` and becomes NumPy float64.
Elsewhere vectors meet only ``+ - *`` with Python floats and the functions below.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple

import array_api_compat as compat
import numpy as np
from numpy.typing import NDArray

from mblsr1 import _kernels, _reduction, checks
from mblsr1._kernels import FLOAT32_RUN

Array = Any
HostArray = NDArray[np.float64]

_DOUBLE = float(np.finfo(np.float64).eps)
#: torch's precision is one for all threads: what each thread found that changes it now.
_TORCH, _PRECISIONS = Lock(), list[str]()

quiet, caller_settings, with_settings = _kernels.quiet, _kernels.caller_settings, _kernels.with_settings


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
        x = x.to_device(namespace(x).__array_namespace_info__().default_device())
    return np.asarray(x)


def to_float(x: Array) -> float:
    """Return a real scalar, an array of one element or a number as a Python float."""
    return checks.as_float(detached(x))


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
    return namespace(x).astype(x, namespace(x).asarray(0.0).dtype)


def eps(x: Array) -> float:
    """Return the machine epsilon of the array's dtype."""
    return _eps(np if isinstance(x, np.ndarray) else namespace(x), x.dtype)


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
        return "numpy", str(x.dtype), "cpu"
    where = device(x)
    text = str(where) if not hasattr(where, "mesh") else ", ".join(sorted(map(str, where.device_set)))
    return namespace(x).__name__.removeprefix("array_api_compat."), str(x.dtype), text


def device(x: Array) -> Any:
    """Return the device that the array lives on."""
    return compat.device(x)


def length(x: Array) -> int:
    """Return the length of a vector, of all its parts together where it lies in parts on several ranks."""
    return _reduction.extent(int(x.shape[0]))[1]


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
    return x if isinstance(x, np.ndarray) or not compat.is_torch_array(x) else x.detach()


def owned(x: Array) -> Array:
    """Return `x` in memory that its maker cannot write to: a copy but in JAX, without history."""
    return x if compat.is_jax_array(x) else copy(x)


def shown(x: Array) -> Array:
    """Return `x` on the same memory, without history; of NumPy a view that cannot be written to."""
    if isinstance(x, np.ndarray):
        x = x.view()
        x.flags.writeable = False
    return detached(x)


def from_host(values: NDArray[Any], like: Array) -> Array:
    """Return host numbers as an array of the library and device of `like`, in its dtype unless they are integers."""
    dtype = None if values.dtype.kind in "biu" else like.dtype
    if isinstance(like, np.ndarray):
        return np.asarray(values, dtype=dtype)
    return namespace(like).asarray(values, dtype=dtype, device=device(like))


def adopt(x: Array, like: Array) -> Array:
    """Return a copy of `x`, maybe a host array, in library and device of `like`, in its dtype unless an integer's."""
    return copy(x) if same_kind(x, like) else copy(from_host(to_numpy(x), like))


def normal(rng: np.random.Generator, like: Array) -> Array:
    """Draw a standard normal vector: the same numbers for a seed in every library."""
    return from_host(_reduction.own_part(rng.standard_normal, int(like.shape[0])), like)


def take(x: Array, indices: NDArray[np.int64]) -> Array:
    """Return the rows of `x` with these indices."""
    if isinstance(x, np.ndarray) or not is_array(x):
        return x[indices]
    xp = namespace(x)
    place = {} if compat.is_jax_array(x) else {"device": device(x)}  # in JAX an array put nowhere goes with any other
    return xp.take(x, xp.asarray(indices, **place), axis=0)


def sqrt(x: Array) -> Array:
    """Return the square roots of the entries."""
    return namespace(x).sqrt(x)


def matmul(a: Array, b: Array) -> Array:
    """Return the matrix product, in full precision whatever the user allows in the rest of the program."""
    if compat.is_jax_array(a):
        return _jax().matmul(a, b)
    with _full_precision(a):
        return namespace(a).matmul(a, b)


def transposed(a: Array) -> Array:
    """Return the transposed matrix."""
    return namespace(a).matrix_transpose(a)


def eigenvectors(a: Array) -> Array:
    """Return the orthonormal eigenvectors of a symmetric matrix, as columns."""
    return namespace(a).linalg.eigh(a)[1]


def where(condition: Array, a: Array | float, b: Array | float) -> Array:
    """Return a where the condition holds, else b; one of them may be a number."""
    xp = namespace(condition)
    like: Array = b if is_array(b) else a
    a, b = (x if is_array(x) else xp.full(like.shape, x, dtype=like.dtype, device=device(like)) for x in (a, b))
    return xp.where(condition, a, b)


def mean(a: Array) -> Array:
    """Return the mean of all entries."""
    return namespace(a).mean(a)


def concatenate(parts: Sequence[Array]) -> Array:
    """Join arrays along their first axis."""
    return namespace(parts[0]).concat(list(parts), axis=0)


def all_finite(x: Array) -> bool:
    """Whether every entry is finite."""
    return _reduction.everywhere(_all_finite(x))


def _all_finite(x: Array) -> bool:
    """A finite sum proves it without a temporary."""
    with quiet():
        view = _as_numpy(x)
        if view is not None:
            return math.isfinite(float(view.sum())) or bool(np.isfinite(view).all())
        xp = namespace(x)
        return math.isfinite(float(xp.sum(x))) or bool(xp.all(xp.isfinite(x)))


def row_buffer(like: Array, rows: int) -> Array:
    """Return a (rows, d) buffer of zeros in the library, dtype and device of `like`."""
    xp = namespace(like)
    return xp.zeros((rows, like.shape[0]), dtype=like.dtype, device=_along(like, 2))


def zero_row(rows: Array) -> Array:
    """Return a vector of zeros as long as the rows, of which there may be none."""
    return namespace(rows).zeros(rows.shape[1], dtype=rows.dtype, device=_along(rows, 1))


def _along(like: Array, axes: int) -> Any:
    """The device for an array of so many axes; where JAX spreads `like`, the last axis lies as that of `like`."""
    where = device(like)
    if not hasattr(where, "mesh"):
        return where
    last = where.spec[like.ndim - 1] if len(where.spec) == like.ndim else None
    return type(where)(where.mesh, type(where.spec)(*[None] * (axes - 1), last))


def leading_rows(rows: Array, count: int) -> Array:
    """The first `count` rows as a view; all of them in JAX, where a part would be a copy."""
    if count in (0, rows.shape[0]) or not compat.is_jax_array(rows):
        return rows[:count, :] if count < rows.shape[0] else rows
    return rows


def set_row(rows: Array, i: int, x: Array) -> Array:
    """Write one row, in place where the library allows; use the returned buffer."""
    if compat.is_jax_array(rows):
        return _jax().set_row(rows, i, x)
    rows[i, ...] = detached(x)
    return rows


def dot(a: Array, b: Array) -> float:
    """Return a'b, accumulated in float64."""
    return inner_with(a, [b])[0]


def _dot(x: NDArray[Any], y: NDArray[Any]) -> float:
    if x.dtype == np.float64:
        return float(np.dot(x, y))
    return float(_kernels.by_runs(x[None, :], y[None, :], FLOAT32_RUN)[0, 0])


def norm(a: Array, square: float | None = None) -> float:
    """Return the Euclidean norm without overflow or underflow; `square` is a'a where it is known."""
    if square is None:
        with quiet():
            square = dot(a, a)
    if 1e-30 < square < math.inf or (1e-290 < square < math.inf and not is_single(a)):
        return math.sqrt(square)
    largest = _reduction.largest(to_float(namespace(a).max(namespace(a).abs(a))))
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    up, small = (1e30, 1e-37) if is_single(a) else (1e300, 1e-300)
    scaled = a * (1.0 / largest) if largest > small else (a * up) * (1.0 / up / largest)
    return largest * math.sqrt(dot(scaled, scaled))


def scalars(f: Array | float, g: Array, p: Array | None = None) -> list[float]:
    """Return a loss, g'g and g'p (where p is given) as floats: one crossing where all of them are on a device."""
    with quiet():
        if not is_array(f) or _as_numpy(g) is not None or compat.is_jax_array(g):
            return [to_float(f), *inner_with(g, [g] if p is None else [g, p])]
        xp = namespace(g)
        with _full_precision(g):
            inner = _portable_products(g[None, :], _two(g, p))[0, :]
        both = xp.concat([xp.reshape(xp.astype(f, inner.dtype), (1,)), inner])
        loss, *products = (float(x) for x in host(both)[: 2 if p is None else 3])
        return [loss, *_reduction.summed_numbers(products)]


def inner_with(a: Array, vectors: Sequence[Array]) -> list[float]:
    """Return a'v for each of the vectors, accumulated in float64: one crossing."""
    x = _as_numpy(a)
    if x is not None:
        return _reduction.summed_numbers([_dot(x, _numpy_of(v)) for v in vectors])
    pair = vectors if len(vectors) > 1 else _two(vectors[0], None)
    return [float(x) for x in products(a[None, :], pair)[0, : len(vectors)]]


def _two(a: Array, b: Array | None) -> list[Array]:
    """Never one vector alone: a library adds up in another order there, and runs are continued bit for bit."""
    return [a, a if b is None else b]


def products(rows: Array, vectors: Sequence[Array]) -> HostArray:
    """Return the (r, k) inner products of r rows and k vectors, accumulated in float64: one pass over `rows`."""
    return inner_products(rows, vectors)[: rows.shape[0]]


def inner_products(rows: Array, vectors: Sequence[Array]) -> HostArray:
    """Return the (r + k, k) float64 inner products of r rows and k vectors with the vectors: one pass, one crossing."""
    return _reduction.summed(_inner_products(rows, vectors))


def _inner_products(rows: Array, vectors: Sequence[Array]) -> HostArray:
    host_rows = _as_numpy(rows)
    if host_rows is not None:
        return _kernels.products(host_rows, [_numpy_of(v) for v in vectors])
    if compat.is_jax_array(rows):
        runs = _jax().products(rows, tuple(vectors))
        return np.asarray(runs, dtype=np.float64).sum(axis=0)  # type: ignore[no-any-return]
    with _full_precision(rows):
        return host(_portable_products(rows, vectors))


def _portable_products(rows: Array, vectors: Sequence[Array]) -> Array:
    xp = namespace(rows)
    columns = xp.stack(list(vectors), axis=1)
    wide = xp.zeros(1, dtype=xp.float64).dtype
    if rows.dtype == wide:
        return xp.concat([xp.matmul(rows, columns), xp.matmul(xp.matrix_transpose(columns), columns)], axis=0)
    both = rows, xp.matrix_transpose(columns)
    return xp.concat([_portable_by_runs(xp, A, columns, wide) for A in both], axis=0)


def _portable_by_runs(xp: Any, A: Array, columns: Array, wide: Any) -> Array:
    """A times columns as in `_kernels.by_runs`."""
    (count, length), k = A.shape, columns.shape[1]
    whole = length // FLOAT32_RUN * FLOAT32_RUN
    rest = xp.matmul(xp.astype(A[:, whole:], wide), xp.astype(columns[whole:, :], wide))
    if not whole:
        return rest
    of_A = xp.permute_dims(xp.reshape(A[:, :whole], (count, whole // FLOAT32_RUN, FLOAT32_RUN)), (1, 0, 2))
    of_V = xp.reshape(columns[:whole, :], (-1, FLOAT32_RUN, k))
    return xp.sum(xp.matmul(of_A, of_V), axis=0, dtype=wide) + rest


@contextmanager
def _full_precision(x: Array) -> Iterator[None]:
    """Let torch multiply float32 as float32, whatever the user allows in the rest of the program."""
    if not compat.is_torch_array(x):
        yield
        return
    import torch  # noqa: PLC0415

    with _TORCH:
        _PRECISIONS.append(torch.get_float32_matmul_precision())
        torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        with _TORCH:
            before = _PRECISIONS.pop()
            if not _PRECISIONS:  # the last thread: what comes out is what the first one found
                torch.set_float32_matmul_precision(before)


def linear(coefficients: Sequence[float], vectors: Sequence[Array]) -> Array:
    """Return the sum of the vectors times their coefficients, without a temporary where NumPy allows."""
    first = _as_numpy(vectors[0])
    if first is None or first.size <= FLOAT32_RUN:
        terms = [v if c == 1.0 and len(vectors) > 1 else c * v for c, v in zip(coefficients, vectors, strict=True)]
        return sum(terms[1:], start=terms[0])
    return _like(_kernels.linear(coefficients, [_numpy_of(v) for v in vectors]), vectors[0])


def combine(coefficients: HostArray, rows: Array, scale: float = 0.0, base: Array | None = None) -> Array:
    """Return ``coefficients @ rows + scale * base`` as a vector of the rows' dtype: one pass over the rows."""
    host_rows = _as_numpy(rows)
    if host_rows is not None:
        return _like(_kernels.combine(coefficients, host_rows, scale, None if base is None else _numpy_of(base)), rows)
    if compat.is_jax_array(rows):
        result = _jax().combine(namespace(rows).asarray(coefficients, dtype=rows.dtype), rows)
    else:
        with _full_precision(rows):
            result = namespace(rows).matmul(from_host(coefficients, rows), rows)
    return result if base is None else linear([1.0, scale], [result, base])


def _as_numpy(x: Array) -> NDArray[Any] | None:
    """`x` as a NumPy array on the same memory: itself, or a torch tensor of the CPU; None elsewhere."""
    if isinstance(x, np.ndarray):
        return x
    if compat.is_torch_array(x) and x.device.type == "cpu" and x.dtype in _torch_dtypes():
        return x.detach().numpy()  # type: ignore[no-any-return]
    return None


def _numpy_of(x: Array) -> NDArray[Any]:
    view = _as_numpy(x)
    assert view is not None
    return view


def _like(x: NDArray[Any], like: Array) -> Array:
    """A new NumPy array in the library of `like`, on the same memory."""
    return x if isinstance(like, np.ndarray) else namespace(like).asarray(x)


@lru_cache(maxsize=1)
def _torch_dtypes() -> frozenset[Any]:
    import torch  # noqa: PLC0415

    return frozenset([torch.float64, torch.float32])


class _JaxKernels(NamedTuple):
    products: Callable[..., Any]
    combine: Callable[..., Any]
    set_row: Callable[..., Any]
    matmul: Callable[..., Any]


@lru_cache(maxsize=1)
def _jax() -> _JaxKernels:
    """Compiled functions for JAX: float32 products in full precision; a row written without copying the rest."""
    import jax  # noqa: PLC0415
    import jax.numpy as jnp  # noqa: PLC0415

    full = jax.lax.Precision.HIGHEST

    def products(rows: Any, vectors: Any) -> Any:
        V = jnp.stack(vectors)
        return jnp.concatenate([_jax_by_runs(jnp, full, A, V) for A in (rows, V)], axis=1)

    def combine(coefficients: Any, rows: Any) -> Any:
        return jnp.matmul(coefficients, rows, precision=full)

    def set_row(rows: Any, i: Any, x: Any) -> Any:
        return rows.at[i].set(x)

    def matmul(a: Any, b: Any) -> Any:
        return jnp.matmul(a, b, precision=full)

    return _JaxKernels(jax.jit(products), jax.jit(combine), jax.jit(set_row, donate_argnums=0), jax.jit(matmul))


def _jax_by_runs(jnp: Any, precision: Any, A: Any, V: Any) -> Any:
    """A V' as (runs, r, k) terms, to be summed on the host in float64; one run in float64."""
    if A.dtype == np.float64 or A.shape[1] <= FLOAT32_RUN:
        return jnp.matmul(A, V.T, precision=precision)[None]
    whole = A.shape[1] // FLOAT32_RUN * FLOAT32_RUN
    of_A = A[:, :whole].reshape(A.shape[0], whole // FLOAT32_RUN, FLOAT32_RUN).transpose(1, 0, 2)
    of_V = V[:, :whole].reshape(V.shape[0], whole // FLOAT32_RUN, FLOAT32_RUN).transpose(1, 2, 0)
    rest = jnp.matmul(A[:, whole:], V[:, whole:].T, precision=precision)
    return jnp.concatenate([jnp.matmul(of_A, of_V, precision=precision), rest[None]])
