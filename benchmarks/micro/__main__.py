"""``python -m benchmarks.micro [quick] [PART ...] [NAME=VALUE ...]``: measure, print, keep, and write the page.

Parts: kernels, subproblem, steps, torch_lbfgs, torch_adapter, accuracy, overhead, memory, memory_mapped. NAME=VALUE
picks cases, as in ``d=1000000``. quick measures few small cases and keeps nothing. ``report`` writes
docs/performance.md from what is kept.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # read when the libraries are loaded

PARTS = (
    "kernels",
    "subproblem",
    "steps",
    "torch_lbfgs",
    "torch_adapter",
    "accuracy",
    "overhead",
    "memory",
    "memory_mapped",
)


def main(arguments: list[str]) -> None:
    """Do what the arguments say."""
    quick, only = "quick" in arguments, dict(a.split("=") for a in arguments if "=" in a)
    names = [a for a in arguments if a != "quick" and "=" not in a]
    unknown = set(names) - {*PARTS, "report"}
    if unknown:
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}, report")
    _one_torch_thread()
    for part in names or PARTS:
        if part != "report":
            _measure(part, quick, only)
    if not quick:
        from benchmarks.micro import report

        print(report.write())


def _one_torch_thread() -> None:
    try:
        import torch
    except ModuleNotFoundError:
        return
    torch.set_num_threads(1)


def _measure(part: str, quick: bool, only: dict[str, str]) -> None:
    """Measure the cases of a part, print its table, keep its rows."""
    from benchmarks.micro import report, store

    module = importlib.import_module(f"benchmarks.micro.{part}")
    cases = [case for case in module.cases() if all(str(case.get(k)) == v for k, v in only.items())]
    if quick:
        cases = _unique([{**case, **module.QUICK} for case in cases])
    rows = []
    for case in cases:
        found = store.rounded(module.measure(**case))
        rows.append({"case": case, "found": found})
        print(f"{part}: {case}", {k: float(f"{v:.3g}") for k, v in found.items()}, flush=True)
        if not quick:
            store.save(part, rows, getattr(module, "SEED", 0))
    print(f"\n{report.described(store.heading(0))}\n\n{report.TABLES[part](rows)}\n", flush=True)


def _unique(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [case for i, case in enumerate(cases) if case not in cases[:i]]


if __name__ == "__main__":
    main(sys.argv[1:])
