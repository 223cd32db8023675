"""Measured rows, one JSON file a part: benchmarks/results/micro."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.machine import processor, versions
from benchmarks.store import code_version

import mblsr1

RESULTS = Path(__file__).parents[1] / "results" / "micro"
PACKAGES = ("numpy", "scipy", "torch")

Row = dict[str, Any]


def blas() -> str:
    """Return NumPy's BLAS and the kernel that it chose."""
    import numpy as np
    from threadpoolctl import threadpool_info

    folders = ("numpy.libs", str(Path(np.__file__).parent))
    for found in threadpool_info():
        if found["user_api"] == "blas" and any(f in found["filepath"] for f in folders):
            return f"{found['internal_api']} {found['version']}, {found.get('architecture', 'unknown')} kernels"
    return "unknown"


def heading(seed: int) -> dict[str, Any]:
    """Return what a measurement was made on."""
    code = code_version(Path(mblsr1.__file__).parent, mblsr1.__version__)
    made_with = [*versions(PACKAGES), f"mblsr1 {code}"]
    return {"machine": processor(), "versions": made_with, "blas": blas(), "threads": 1, "seed": seed}


def load(part: str, folder: Path | None = None) -> dict[str, Any]:
    """Return heading and rows of a part; no rows where it was not measured."""
    path = (folder or RESULTS) / f"{part}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"heading": {}, "rows": []}


def save(part: str, rows: list[Row], seed: int, folder: Path | None = None) -> None:
    """Write the rows in place of those of the same cases; rows of another machine or version go."""
    kept, now = load(part, folder), heading(seed)
    new = [row["case"] for row in rows]
    old = [row for row in kept["rows"] if row["case"] not in new] if kept["heading"] == now else []
    path = (folder or RESULTS) / f"{part}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row) for row in sorted([*old, *rows], key=_order))
    path.write_text(f'{{"heading": {json.dumps(now)},\n"rows": [\n{lines}\n]}}\n', encoding="utf-8")


def _order(row: Row) -> list[tuple[str, float]]:
    """Cases by their names, numbers by size."""
    return [("", v) if isinstance(v, int | float) else (v, 0.0) for v in row["case"].values()]


def rounded(found: dict[str, float]) -> dict[str, float]:
    """Four digits are more than a timing has."""
    return {name: float(f"{value:.4g}") for name, value in found.items()}
