"""The array libraries that every numerical test runs in."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest


@dataclass(frozen=True)
class ArrayLibrary:
    """One array library, dtype and device: makes arrays from NumPy arrays and brings them back.

    `context` is what must be in force while its arrays live; the fixture `xp` enters it.
    """

    name: str
    dtype: str
    asarray: Callable[[Any], Any]
    to_numpy: Callable[[Any], np.ndarray]
    is_kind: Callable[[Any], bool]
    context: Callable[[], AbstractContextManager[Any]] = field(default=nullcontext)
    mutable: bool = True

    def __call__(self, values: Any) -> Any:
        return self.asarray(values)

    @property
    def eps(self) -> float:
        return float(np.finfo(self.dtype).eps)

    @property
    def single(self) -> bool:
        return self.dtype == "float32"


def _numpy(dtype: str, writeable: bool = True) -> ArrayLibrary:
    def make(values: Any) -> np.ndarray:
        array = np.array(values, dtype=dtype)
        array.flags.writeable = writeable
        return array

    name = f"numpy-{dtype}" if writeable else f"numpy-{dtype}-read-only"
    return ArrayLibrary(name, dtype, make, np.asarray, lambda x: isinstance(x, np.ndarray) and x.dtype == dtype)


def _strict(dtype: str, device: str = "CPU_DEVICE") -> ArrayLibrary:
    strict = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    where, kind = strict.Device(device), getattr(strict, dtype)

    def back(x: Any) -> np.ndarray:
        return np.asarray(x.to_device(strict.Device("CPU_DEVICE")))

    return ArrayLibrary(
        f"array-api-strict-{dtype}-{device}",
        dtype,
        lambda values: strict.asarray(np.array(values, dtype=dtype), dtype=kind, device=where),
        back,
        lambda x: isinstance(x, type(strict.zeros(1))) and x.dtype == kind and x.device == where,
    )


def _torch(dtype: str, device: str = "cpu", requires_grad: bool = False) -> ArrayLibrary:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    kind = getattr(torch, dtype)
    return ArrayLibrary(
        f"torch-{dtype}-{device}" + ("-requires-grad" if requires_grad else ""),
        dtype,
        lambda values: torch.tensor(np.array(values), dtype=kind, device=device, requires_grad=requires_grad),
        lambda x: x.detach().cpu().numpy(),
        lambda x: isinstance(x, torch.Tensor) and x.dtype == kind and x.device.type == device,
    )


def _jax(dtype: str, x64: bool = True) -> ArrayLibrary:
    """JAX decides for the whole process whether float64 exists; the context decides for one thread and its end."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    kind = np.dtype(dtype)

    def context() -> AbstractContextManager[Any]:
        enable_x64 = getattr(jax, "enable_x64", None)  # since 0.8; the experimental name is gone since 0.9
        if enable_x64 is None:
            from jax.experimental import enable_x64
        return enable_x64(x64)

    return ArrayLibrary(
        f"jax-{dtype}" + ("" if x64 else "-x64-off"),
        dtype,
        lambda values: jax.numpy.asarray(np.array(values, dtype=kind)),
        np.asarray,
        lambda x: isinstance(x, jax.Array) and x.dtype == kind,
        context,
        mutable=False,
    )


def _cupy(dtype: str) -> ArrayLibrary:
    cupy = pytest.importorskip("cupy", reason="cupy is not installed")
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(f"cupy finds no CUDA device: {error}")
    return ArrayLibrary(
        f"cupy-{dtype}",
        dtype,
        lambda values: cupy.asarray(np.array(values, dtype=dtype)),
        cupy.asnumpy,
        lambda x: isinstance(x, cupy.ndarray) and x.dtype == dtype,
    )


#: By name, whose first word is the marker that selects the library: ``pytest -m torch``.
LIBRARIES: dict[str, Callable[[], ArrayLibrary]] = {
    "numpy-float64": lambda: _numpy("float64"),
    "numpy-float32": lambda: _numpy("float32"),
    "numpy-float64-read-only": lambda: _numpy("float64", writeable=False),
    "strict-float64": lambda: _strict("float64"),
    "strict-float32": lambda: _strict("float32"),
    "strict-float64-device1": lambda: _strict("float64", "device1"),
    "torch-float64": lambda: _torch("float64"),
    "torch-float32": lambda: _torch("float32"),
    "torch-float64-requires-grad": lambda: _torch("float64", requires_grad=True),
    "torch-float64-cuda": lambda: _torch("float64", "cuda"),
    "torch-float32-cuda": lambda: _torch("float32", "cuda"),
    "jax-float64": lambda: _jax("float64"),
    "jax-float32": lambda: _jax("float32"),
    "jax-float32-x64-off": lambda: _jax("float32", x64=False),
    "cupy-float64": lambda: _cupy("float64"),
    "cupy-float32": lambda: _cupy("float32"),
}


def parameters(*names: str) -> list[Any]:
    """Names of libraries, all by default, as test parameters with their markers."""
    return [pytest.param(name, marks=getattr(pytest.mark, name.split("-")[0])) for name in names or sorted(LIBRARIES)]
