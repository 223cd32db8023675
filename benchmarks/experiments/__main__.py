"""Command line: ``python -m benchmarks.experiments PART|report [options]``, or ``nox -s experiments -- ...``.

Finished runs are kept and skipped, so an interrupted command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from typing import Any

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # read when the libraries are loaded

from benchmarks.experiments import PARTS, SCALES  # noqa: E402
from benchmarks.store import run_all  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing, or write the page; return the exit code."""
    args = _parser().parse_args(arguments)
    if args.part == "report":
        from benchmarks.experiments import report

        print(report.write())
        return 0
    return run(importlib.import_module(f"benchmarks.experiments.{args.part}"), args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.experiments", description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=[*PARTS, "report"])
    parser.add_argument(
        "--scale", choices=SCALES, default="small", help="budgets of a small machine (default), or full"
    )
    parser.add_argument("--only", type=_names, help="these data sets, by name")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="runs at a time, one thread each")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no run after this many minutes")
    return parser


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def run(module: Any, args: argparse.Namespace) -> int:
    """Make the runs that `module` asks for until it asks for none; 1 where one failed."""
    end = time.monotonic() + 60.0 * args.minutes
    while (jobs := module.jobs(args.scale, args.only)) and time.monotonic() < end:
        minutes = (end - time.monotonic()) / 60.0
        failed = run_all(module.work, jobs, processes=args.processes, minutes=minutes, title=args.part)
        if failed:
            print(*failed, sep="\n", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
