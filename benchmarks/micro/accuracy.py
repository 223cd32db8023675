"""Error of float32 inner products at d = 5e6, as the largest |error| / (|a||b|)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from benchmarks.micro.timing import in_library
from numpy.typing import NDArray

from mblsr1 import _array

SEED, ROWS = 0, 16
QUICK = {"d": 1_000_000}
Matrix = NDArray[np.float32]


def cases() -> Iterator[dict[str, Any]]:
    """The data of every row."""
    for data in ("normal", "near-parallel rows", "equal entries"):
        yield {"data": data, "d": 5_000_000}


def measure(data: str, d: int) -> dict[str, float]:
    """Return the errors of our products and of plain ones, in both libraries."""
    rows, vectors = _arrays(data, d)
    exact = np.array([[np.dot(r.astype(float), v.astype(float)) for v in vectors] for r in rows])
    scale = np.outer(*(np.linalg.norm(x.astype(float), axis=1) for x in (rows, vectors)))
    found = {}
    for library in ("numpy", "torch"):
        own, others = in_library(rows, library), [in_library(v, library) for v in vectors]
        plain = np.asarray(own @ _array.namespace(own).stack(others, axis=1))
        for name, product in (("ours", _array.products(own, others)), ("matmul", plain)):
            found[f"{library}, {name}"] = float((np.abs(product - exact) / scale).max())
    return found


def _arrays(data: str, d: int) -> tuple[Matrix, Matrix]:
    """Sixteen rows, and three of their kind to multiply them with."""
    rng = np.random.default_rng(SEED)
    count = ROWS + 3
    if data == "equal entries":
        values = np.ones((count, d), dtype=np.float32) * rng.uniform(1.0, 2.0, (count, 1)).astype(np.float32)
    else:
        values = rng.standard_normal((count, d), dtype=np.float32)
        if data != "normal":
            values = values[:1] + np.float32(1e-3) * values
    return values[:ROWS], values[ROWS:]
