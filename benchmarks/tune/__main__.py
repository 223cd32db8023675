"""Command line: ``python -m benchmarks.tune deterministic|stochastic|report [options]``, or ``nox -s tune -- ...``.

Finished runs are kept and skipped, so an interrupted command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from benchmarks.store import run_all
from benchmarks.tune import deterministic, report, report_deterministic, stochastic
from benchmarks.tune.problems import NAMES
from benchmarks.tune.tasks import TASKS


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing, or write the report; return the exit code."""
    args = _parser().parse_args(arguments)
    return {"deterministic": _deterministic, "stochastic": _stochastic, "report": _report}[args.part](args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.tune", description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["deterministic", "stochastic", "report"])
    parser.add_argument(
        "--only", type=_names, help="these tasks or problems, or all of a role: selection, reporting, own batch"
    )
    parser.add_argument("--methods", type=_names, help="these methods, by their names in the tables")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 .. SEEDS-1 (default 3)")
    parser.add_argument("--epochs", type=float, help="passes over the data instead of each task's own, for a try")
    parser.add_argument("--again", action="store_true", help="only once more what is chosen: new times and curves")
    parser.add_argument("--processes", type=int, default=2, help="runs at a time, one thread each (default 2)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no run after this many minutes")
    return parser


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _chosen(known: list[str], only: list[str] | None) -> list[str]:
    """Names asked for, in the order of `known`."""
    wanted = set(only or known)
    roles = {task.role for task in TASKS.values()}
    for role in roles & wanted:
        wanted |= {name for name in known if name in TASKS and TASKS[name].role == role}
    unknown = wanted - set(known) - roles
    if unknown:
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    return [name for name in known if name in wanted]


def _check_methods(chosen: list[str] | None, known: Any) -> None:
    unknown = set(chosen or ()) - set(known)
    if unknown:
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")


def _run(work: Any, jobs: list[Any], args: argparse.Namespace) -> int:
    failed = run_all(work, jobs, processes=args.processes, minutes=args.minutes, title=args.part)
    for line in failed:
        print(line, file=sys.stderr)
    return int(bool(failed))


def _deterministic(args: argparse.Namespace) -> int:
    _check_methods(args.methods, deterministic.methods())
    code = _run(deterministic.work, deterministic.jobs(_chosen(list(NAMES), args.only), args.methods), args)
    found = report_deterministic.results()
    print(report_deterministic.details(found), "\n", report_deterministic.table(found), sep="\n")
    return code


def _stochastic(args: argparse.Namespace) -> int:
    _check_methods(args.methods, stochastic.grids())
    tasks = _chosen(list(TASKS), args.only)
    if args.again:
        return _run(stochastic.work, _again(tasks, args.methods, args.seeds), args)
    end = time.monotonic() + 60.0 * args.minutes
    for _ in range(2):  # seed 0 of a thrifty task says what the others run
        args.minutes = (end - time.monotonic()) / 60.0
        if _run(stochastic.work, stochastic.jobs(tasks, args.seeds, args.methods, args.epochs), args):
            return 1
    print(report.losses(tasks, args.methods or stochastic.grids(), args.seeds))
    return 0


def _again(tasks: list[str], methods: list[str] | None, seeds: int) -> list[Any]:
    """Return the runs of the chosen settings."""
    found = report.collect(seeds)
    return [
        stochastic.settings(task, family, best.options, seed)
        for task in tasks
        for family, best in found.get(task, {}).items()
        if methods is None or family in methods
        for seed in range(seeds)
    ]


def _report(args: argparse.Namespace) -> int:
    print(report.write(args.seeds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
