"""``python -m benchmarks.scaling [measure] [report]``: run 1, 2 and 4 ranks; write docs/scaling.md from the times."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.machine import machine
from benchmarks.scaling import report
from benchmarks.scaling.work import SEED

RANKS = (1, 2, 4)


def run(ranks: int) -> dict[str, Any]:
    """Times of a run under mpiexec, the smallest and the median of each kind."""
    beside = Path(sys.executable).with_name("mpiexec")
    launcher = str(beside) if beside.is_file() else shutil.which("mpiexec")
    if launcher is None:
        raise SystemExit("there is no mpiexec; pip install mpich mpi4py")
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "times.json")
        program = [sys.executable, "-m", "mpi4py", "-m", "benchmarks.scaling.work", str(file)]
        subprocess.run([launcher, "-n", str(ranks), *program], check=True, env={**os.environ, **threads})
        return {**summary(json.loads(file.read_text(encoding="utf-8"))), "load before": round(before, 2)}


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """The smallest and the median time; steps with the usual number of gradients alone."""
    steps = []
    for each in found["steps"]:
        usual = int(np.median(each["gradients"]))
        kept = np.array(each["gradients"]) == usual
        times = {name: np.array(each[name])[kept] for name in ("wall", "processor", "inside")}
        what = {"d": each["d"], "batch": each["batch"], "gradients": usual}
        steps.append(what | {k: v for name, found in times.items() for k, v in _two(name, found).items()})
    exchanges = [{"d": int(d), **_two("wall", np.array(times))} for d, times in found["exchanges"].items()]
    return {"ranks": found["ranks"], "steps": steps, "exchanges": exchanges}


def _two(name: str, seconds: np.ndarray) -> dict[str, float]:
    return {name: float(f"{seconds.min():.4g}"), f"{name}, median": float(f"{np.median(seconds):.4g}")}


def main(arguments: list[str]) -> None:
    """Do what the arguments say; everything without any."""
    unknown = set(arguments) - {"measure", "report"}
    if unknown:
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; the parts are measure and report")
    if "measure" in arguments or not arguments:
        heading = {"machine": machine(("numpy", "mpi4py", "mpich", "mblsr1")), "cores": os.cpu_count(), "seed": SEED}
        report.save({**heading, "runs": [run(ranks) for ranks in RANKS]})
    print(report.write())


if __name__ == "__main__":
    main(sys.argv[1:])
