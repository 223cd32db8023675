"""Many steps on a small stream: memory stays flat, and the kept inner products stay those of the pairs.

``python -m benchmarks.soak [--steps 1000000]`` writes results/soak.json and the table in docs/reliability.md. The
default makes that many steps, the other ways a tenth of them. ``--print`` writes nothing, ``--report`` the table alone.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.machine import machine
from benchmarks.store import RESULTS, code_version
from tqdm.auto import tqdm

import mblsr1

KEPT = RESULTS / "soak.json"
PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
D, BATCH, SEED, LOOKS = 10, 16, 0, 100
#: Steps are compared over this last share of a run: what is loaded and cached at first is no growth.
SETTLED = 0.5

WAYS = {
    "default": mblsr1.Options(memory=8),
    "paper": mblsr1.Options.paper(initial_radius=1.0),
    "blocks": mblsr1.Options(memory=8, blocks=[(3, 3), 1]),
}


class Drifting:
    """Linear regression whose solution wanders, so that a run never ends; the size of the set is unknown."""

    n_samples: int | None = None

    def __init__(self) -> None:
        self.solution = np.ones(D)

    def draw(self, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return inputs and outputs of so many samples; the solution has moved since the last ones."""
        self.solution += 1e-3 * rng.standard_normal(D)
        X = rng.standard_normal((size, D))
        return X, X @ self.solution


def loss_and_gradient(w: np.ndarray, batch: tuple[np.ndarray, np.ndarray]) -> tuple[float, np.ndarray]:
    """Mean squared error of the batch."""
    X, y = batch
    r = X @ w - y
    return 0.5 * float(r @ r) / len(r), X.T @ r / len(r)


def resident() -> int:
    """Memory of this process in the machine's RAM, in KiB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def drift(memory: dict[str, Any]) -> float:
    """Largest error of a kept inner product of two rows, relative to their norms; recomputed in extended precision."""
    slots = 2 * memory["order"]
    used = np.concatenate([slots, slots + 1])
    rows = memory["rows"][used].astype(np.longdouble)
    exact = rows @ rows.T
    norms = np.sqrt(exact.diagonal())
    error = np.abs(memory["gram"][np.ix_(used, used)] - exact)
    return float((error / np.outer(norms, norms)).max(initial=0.0))


def looks(options: mblsr1.Options, steps: int) -> Iterator[dict[str, float]]:
    """Run so many steps; measure at LOOKS equal intervals."""
    # the batch is fixed: a growing one would be a growing memory
    options = options.replace(batch_size=BATCH, gtol=0.0, noise_limit=1.0, check_every=10**9)
    arguments = {"options": options, "rng": SEED, "max_steps": steps}
    every = max(steps // LOOKS, 1)
    start = time.perf_counter()
    for step in mblsr1.iterate(loss_and_gradient, True, np.zeros(D), Drifting(), **arguments):
        if step.step % every == 0:
            inner = step.state.tree["inner"]
            yield {
                "step": step.step, "seconds": time.perf_counter() - start, "resident_kib": resident(),
                "drift": drift(inner["memory"]), "loss": step.loss, "radius": step.radius,
                "batch_size": step.batch_size,
            }  # fmt: skip


def soaked(options: mblsr1.Options, steps: int) -> dict[str, float]:
    """Return what a run of so many steps shows."""
    seen = list(tqdm(looks(options, steps), total=min(LOOKS, steps), desc=f"{steps:,} steps", unit=" looks"))
    late = seen[int(SETTLED * len(seen)) :]
    slope = np.polyfit([s["step"] for s in late], [s["resident_kib"] for s in late], 1)[0] if len(late) > 1 else 0.0
    return {
        "steps": seen[-1]["step"], "seconds": seen[-1]["seconds"],
        "first_kib": seen[0]["resident_kib"], "settled_kib": late[0]["resident_kib"],
        "last_kib": seen[-1]["resident_kib"], "bytes_per_step": 1024.0 * float(slope),
        "largest_drift": max(s["drift"] for s in seen), "late_drift": max(s["drift"] for s in late),
        "largest_loss": max(s["loss"] for s in late), "batch_size": max(s["batch_size"] for s in seen),
    }  # fmt: skip


def table(record: dict[str, Any]) -> str:
    """Return the part of the page between its marks."""
    lines = [
        "| method | steps | memory at 1 %, 50 %, 100 % of them (MiB) | slope over the second half (bytes a step) | "
        "largest error of a kept inner product |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, run in record["runs"].items():
        memory = ", ".join(f"{run[key] / 1024:.1f}" for key in ("first_kib", "settled_kib", "last_kib"))
        lines.append(
            f"| {name} | {run['steps']:,} | {memory} | {run['bytes_per_step']:.2f} | {run['largest_drift']:.1e} |"
        )
    return "\n".join([*lines, "", f"{record['machine']}; mblsr1 {record['version']}, seed {record['seed']}."])


def report(record: dict[str, Any]) -> None:
    """Put the record's table into the page."""
    text = PAGE.read_text(encoding="utf-8")
    marked = f"<!-- soak -->\n{table(record)}\n<!-- /soak -->"
    PAGE.write_text(re.sub("<!-- soak -->.*<!-- /soak -->", lambda _: marked, text, flags=re.S), encoding="utf-8")


def main() -> None:
    """Run all ways and say what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--print", action="store_true", help="write no file")
    parser.add_argument("--report", action="store_true", help="write the page from the kept figures alone")
    arguments = parser.parse_args()
    if arguments.report:
        report(json.loads(KEPT.read_text(encoding="utf-8")))
        return
    steps = {name: arguments.steps if name == "default" else max(arguments.steps // 10, 1) for name in WAYS}
    record = {
        "machine": machine(("numpy",)), "seed": SEED,
        "version": code_version(Path(mblsr1.__file__).parent, mblsr1.__version__),
        "runs": {name: soaked(options, steps[name]) for name, options in WAYS.items()},
    }  # fmt: skip
    print(table(record))
    if not arguments.print:
        KEPT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        report(record)


if __name__ == "__main__":
    main()
