"""Table 2 of the paper: the settings that are tried, by method."""

from __future__ import annotations

import itertools
from typing import Any

RATES = (0.3, 0.1, 0.01, 0.001, 0.0001)
SMALL, LARGE = (16, 64, 128, 256), (4048, 8192)
SGD = {"rate": (0.01, 0.001, 0.0001), "momentum": (0.9, 0.95, 0.99)}
SR1 = {"memory": (16, 32, 64), "batch": (128, 256, 1024), "initial_radius": (1e-4, 1e-5)}

#: A row of the table each; of a row all combinations are tried.
TABLE: dict[str, dict[str, tuple[float, ...]]] = {
    "SGD": {**SGD, "batch": (64, 128, 256)},
    "SGD (large batch)": {**SGD, "batch": LARGE},
    **{
        f"{method}{size}": {"rate": RATES, "batch": batches}
        for method in ("Adam", "SVRG", "RMSprop")
        for size, batches in (("", SMALL), (" (large batch)", LARGE))
    },
    "L-SSR1-TR": SR1,
    "MB-LSR1": SR1,
}


def grid(row: str) -> list[dict[str, Any]]:
    """Return all settings of a row."""
    values = TABLE[row]
    return [dict(zip(values, combination, strict=True)) for combination in itertools.product(*values.values())]
