"""docs/scaling.md and its picture, from the measured times and the model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.scaling.model import NETWORKS, Node, Work, exchange_time, simulate, simulate_parts
from benchmarks.scaling.text import PAGE

import mblsr1
from mblsr1.distributed import vectors_in_parts

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "scaling" / "scaling.json"
PICTURE = ROOT / "docs" / "_static" / "scaling.png"
#: Extrapolated cases: a network of 1e7 weights, whose gradient costs a sample about as much as reading 1e7 numbers
#: twice, and a wide linear model.
CASES = (Work(10_000_000, 4096, 3, 1024), Work(1_000_000, 65_536, 3, 1024))
NODES = tuple(2**k for k in range(11))

Found = dict[str, Any]


def save(found: Found) -> None:
    """Keep the measured times."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def node_of(found: Found) -> Node:
    """Processor times of one rank: of a number of the data, and of the solver by a line through two lengths."""
    one = found["runs"][0]["steps"]
    number = float(np.mean([s["inside"] / (s["batch"] * s["d"]) for s in one]))
    (d_0, t_0), (d_1, t_1) = [(s["d"], s["processor"] - s["inside"]) for s in one]
    entry = (t_1 - t_0) / (d_1 - d_0)
    return Node(number, max(t_0 - entry * d_0, 0.0), entry, float(found["cores"]))


def measured_exchange(run: Found, alone: Found) -> Callable[[int, int], float]:
    """(ranks, d) -> seconds more than on one rank, between the measured lengths in proportion."""
    lengths = [e["d"] for e in run["exchanges"]]
    both = zip(run["exchanges"], alone["exchanges"], strict=True)
    times = [max(0.0, e["wall, median"] - one["wall, median"]) for e, one in both]
    return lambda ranks, d: float(np.interp(d, lengths, times))


def slowdown(found: Found) -> list[float]:
    """Wall time over processor time of one rank's step, for each problem: what other work on the machine costs."""
    return [s["wall, median"] / s["processor, median"] for s in found["runs"][0]["steps"]]


def compared(found: Found) -> list[tuple[int, int, int, float, float]]:
    """(ranks, d, batch, measured, simulated) seconds of a step, both medians on the machine as busy as it was."""
    node, rows = node_of(found), []
    for run in found["runs"]:
        for step, slow in zip(run["steps"], slowdown(found), strict=True):
            work = Work(step["d"], step["batch"], step["gradients"])
            busy = Node(node.number * slow, node.fixed * slow, node.entry * slow, node.cores)
            simulated = simulate(work, busy, run["ranks"], measured_exchange(run, found["runs"][0]))
            rows.append((run["ranks"], step["d"], step["batch"], step["wall, median"], simulated))
    return rows


def gathers_per_step() -> float:
    """Exchanges that the solver makes in a step with vectors in parts, counted."""

    class Counting:
        rank, size, count = 0, 1, 0

        def all_gather(self, send: np.ndarray) -> np.ndarray:
            self.count += 1
            return send[None, :]

        def all_to_all(self, send: Any, counts: Any) -> Any:
            return list(send)

    comm, X = Counting(), np.random.default_rng(0).standard_normal((400, 50))

    def fun(w: np.ndarray, i: np.ndarray) -> tuple[float, np.ndarray]:
        e = X[i] @ w - np.sin(X[i, 0])
        return float(e @ e) / len(i), 2.0 * X[i].T @ e / len(i)

    with vectors_in_parts(comm):
        result = mblsr1.minimize(fun, True, np.zeros(50), 400, batch_size=60, rng=0, max_steps=40, gtol=0.0)
    return comm.count / result.nit


def picture(node: Node, gathers: float) -> None:
    """Step time against nodes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(CASES), figsize=(9, 3.6), layout="constrained")
    for axis, work in zip(axes, CASES, strict=True):
        for network, colour in zip(NETWORKS, ("tab:blue", "tab:orange"), strict=True):
            data, parts = extrapolated(work, node, network, gathers)
            axis.loglog(NODES, data, color=colour, label=f"batch shared out, {network.name}")
            axis.loglog(NODES, parts, color=colour, linestyle="--", label=f"vectors in parts, {network.name}")
        axis.set(title=f"d = {work.d:.0e}, batch {work.batch:,}", xlabel="nodes", ylabel="seconds a step")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    figure.savefig(PICTURE, dpi=110)
    plt.close(figure)


def extrapolated(work: Work, node: Node, network: Any, gathers: float) -> tuple[list[float], list[float]]:
    """Seconds of a step over NODES, each with a core as the measured one: batch shared out, vectors in parts."""
    alone = node._replace(cores=float("inf"))
    data = [simulate(work, alone, p, lambda ranks, d: exchange_time(network, ranks, d)) for p in NODES]
    return data, [simulate_parts(work, alone, p, network, gathers) for p in NODES]


def write() -> Path:
    """Write the page and the picture."""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    node, rows, gathers = node_of(found), compared(found), gathers_per_step()
    lengths = range(len(found["runs"][0]["exchanges"]))
    picture(node, gathers)
    page = ROOT / "docs" / "scaling.md"
    errors = [100.0 * abs(simulated / measured - 1.0) for *_, measured, simulated in rows]
    text = PAGE.format(
        machine=found["machine"], cores=found["cores"], seed=found["seed"],
        load=", ".join(f"{run['load before']}" for run in found["runs"]),
        measured="\n".join(_row(*row) for row in rows), worst=max(errors), median=float(np.median(errors)),
        exchanges="\n".join(_exchange_row(found, i) for i in lengths),
        number=1e9 * node.number, fixed=1e3 * node.fixed, entry=1e9 * node.entry, gathers=gathers,
        far="\n".join(_far_row(work, node, network, gathers) for work in CASES for network in NETWORKS),
    )  # fmt: skip
    page.write_text(text, encoding="utf-8")
    return page


def _row(ranks: int, d: int, batch: int, measured: float, simulated: float) -> str:
    error = 100.0 * (simulated / measured - 1.0)
    return f"| {ranks} | {d:,} | {batch} | {1e3 * measured:.1f} | {1e3 * simulated:.1f} | {error:+.0f} % |"


def _exchange_row(found: Found, i: int) -> str:
    each = [run["exchanges"][i] for run in found["runs"]]
    times = " | ".join(f"{1e3 * e['wall']:.2f} / {1e3 * e['wall, median']:.2f}" for e in each)
    return f"| {each[0]['d']:,} | {times} |"


def _far_row(work: Work, node: Node, network: Any, gathers: float) -> str:
    data, parts = extrapolated(work, node, network, gathers)
    best = NODES[int(np.argmin(data))]
    return (
        f"| {work.d:.0e} | {work.batch:,} | {network.name} | {data[0]:.3g} | {min(data):.3g} | {best} | "
        f"{parts[NODES.index(best)]:.3g} |"
    )
