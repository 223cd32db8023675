"""Command line: ``python -m mblsr1 demo``."""

from __future__ import annotations

import argparse
import sys


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m mblsr1", description="Stochastic quasi-Newton optimization.")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="train a small classifier with four methods, at the same cost")
    demo.add_argument("--output", default="mblsr1-demo.png", help="where the picture goes (%(default)s)")
    demo.add_argument("--epochs", type=float, default=40.0, help="cost in passes over the data (%(default)s)")
    demo.add_argument("--seed", type=int, default=0, help="seed of start and batches (%(default)s)")
    chosen = parser.parse_args(arguments)
    from mblsr1.demo import run  # noqa: PLC0415  (scikit-learn and matplotlib only where asked for)

    return run(chosen.output, chosen.epochs, chosen.seed)


if __name__ == "__main__":
    sys.exit(main())
