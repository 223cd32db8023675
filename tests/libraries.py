"""The array libraries that every numerical test runs in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest


@dataclass(frozen=True)
class ArrayLibrary:
    """One array library, dtype and device: makes arrays from NumPy arrays and brings them back."""

    name: str
    eps: float
    asarray: Callable[[Any], Any]
    to_numpy: Callable[[Any], np.ndarray]
    is_kind: Callable[[Any], bool]

    def __call__(self, values: Any) -> Any:
        return self.asarray(values)


def _numpy(dtype: str, writeable: bool = True) -> ArrayLibrary:
    def make(values: Any) -> np.ndarray:
        array = np.array(values, dtype=dtype)
        array.flags.writeable = writeable
        return array

    name = f"numpy-{dtype}" if writeable else f"numpy-{dtype}-read-only"
    return ArrayLibrary(
        name,
        float(np.finfo(dtype).eps),
        make,
        np.asarray,
        lambda x: isinstance(x, np.ndarray) and x.dtype == dtype,
    )


def _strict(dtype: str, device: str | None = None) -> ArrayLibrary:
    strict = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    where = strict.Device(device) if device is not None else strict.Device("CPU_DEVICE")
    kind = getattr(strict, dtype)

    def back(x: Any) -> np.ndarray:
        return np.asarray(x.to_device(strict.Device("CPU_DEVICE")))

    return ArrayLibrary(
        f"array-api-strict-{dtype}-{where}",
        float(np.finfo(dtype).eps),
        lambda values: strict.asarray(np.array(values, dtype=dtype), dtype=kind, device=where),
        back,
        lambda x: isinstance(x, type(strict.zeros(1))) and x.dtype == kind and x.device == where,
    )


LIBRARIES: dict[str, Callable[[], ArrayLibrary]] = {
    "numpy-float64": lambda: _numpy("float64"),
    "numpy-float32": lambda: _numpy("float32"),
    "numpy-float64-read-only": lambda: _numpy("float64", writeable=False),
    "strict-float64": lambda: _strict("float64"),
    "strict-float32": lambda: _strict("float32"),
    "strict-float64-device1": lambda: _strict("float64", "device1"),
}
