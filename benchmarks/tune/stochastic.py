"""Training runs at equal cost, from the same start and on the same seeds, on the tasks of `tasks`.

Cost is counted in sample-gradients. SGD and Adam run in mblsr1's own driver; the torch optimizers
in `torch_methods`. SOAP, Muon and mblsr1 with blocks see which weights form a matrix; all others see one flat vector.
"""

from __future__ import annotations

import functools
import importlib.metadata
import itertools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.data import Split
from benchmarks.store import Settings, Store, code_version, key
from benchmarks.tune import RESULTS, kfac, torch_methods
from benchmarks.tune.networks import Network
from benchmarks.tune.tasks import TASKS, setting

import mblsr1

#: mblsr1's settings by name: changes to Options().
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "no overlap": {"overlap": 0.0},
    "overlap 1/4": {"overlap": 0.25},
    "no running mean": {"gradient_memory": 0.0},
    "signed eigenvalues": {"absolute": False},
    "raw SR1": {"sample_matrix": "sr1"},
    "raw L-BFGS": {"sample_matrix": "l-bfgs"},
    "no reset": {"ratio_reset": False},
    "running mean .9": {"gradient_memory": 0.9},
    "first radius .1": {"initial_radius": 0.1},
    "thresholds .1 and .5": {"poor_ratio": 0.1, "good_ratio": 0.5},
    "batch fixed": {"largest_share": 1e-9},
    "batch by Algorithm 6": {"growth": "progress"},
    "no annealing": {"anneal": False},
    "16 pairs": {"memory": 16},
    "averaged": {"averaging": 0.9},
    "averaged and no annealing": {"averaging": 0.9, "anneal": False},
    "paper": {"preset": "paper"},
    "L-SSR1-TR": {"preset": "l_ssr1_tr", "initial_radius": 1.0},
}

#: mblsr1's settings that see matrices: "blocks" True stands for the shapes of the network; "metric" for the settings of
#: a Kronecker-factored one, or a metric by its name.
METRICS: dict[str, dict[str, Any]] = {
    "blocks": {"blocks": True},
    "blocks: diagonal": {"metric": "diagonal"},
    "blocks: floor .1": {"metric": {"floor": 0.1}},
    "blocks: floor .0001": {"metric": {"floor": 1e-4}},
    "blocks: exponent .2": {"metric": {"exponent": 0.2}},
    "blocks: every 5": {"metric": {"every": 5}},
    "blocks: every 50": {"metric": {"every": 50}},
    "blocks: every gradient": {"metric": {"stride": 1}},
    "blocks: memory .9": {"metric": {"memory": 0.9}},
    "blocks: memory .98": {"metric": {"memory": 0.98}},
    "blocks: 16 pairs": {"blocks": True, "memory": 16},
    "blocks: batch fixed": {"blocks": True, "largest_share": 1e-9},
}

FIRST_ORDER = ("SGD", "Adam", "AdamW cosine", "schedule-free AdamW")
STRUCTURED = ("SOAP", "Muon", "K-FAC", "mblsr1 blocks")
SGD_RATES, ADAM_RATES = (0.01, 0.03, 0.1, 0.3, 1.0), (0.001, 0.003, 0.01, 0.03)
LARGER_RATES, MUON_RATES = (0.003, 0.01, 0.03, 0.1, 0.3), (0.01, 0.03, 0.1)
KFAC_RATES, DAMPINGS = (0.03, 0.1, 0.3), (0.001, 0.003, 0.01, 0.03)
#: A grid that is run on seed 0 alone on every task, and the best of it on the other seeds.
THRIFTY = ("Muon", "K-FAC")
#: Run only where they are asked for by name: they need an environment of their own (`python -m nox -s kfac`).
APART = ("K-FAC",)
POINTS, WATCHED = 20, 2_000
STORE = Store("stochastic", RESULTS)


def grids() -> dict[str, list[dict[str, Any]]]:
    """Settings tried, by family."""
    larger = [{"rate": r} for r in LARGER_RATES]
    return {
        "SGD": [{"rate": r, "momentum": 0.9} for r in SGD_RATES],
        "Adam": [{"rate": r} for r in ADAM_RATES],
        "AdamW cosine": [{"rate": r, "decay": d} for r, d in itertools.product(ADAM_RATES, (0.0, 0.01))],
        "schedule-free AdamW": larger,
        "SOAP": larger,
        "Muon": [{"rate": r, "momentum": m} for r, m in itertools.product(MUON_RATES, (0.8, 0.9))],
        "K-FAC": [{"rate": r, "damping": d} for r, d in itertools.product(KFAC_RATES, DAMPINGS)],
        **{f"mblsr1 {name}": [options] for name, options in {**VARIANTS, **METRICS}.items()},
    }


@functools.cache
def version_of(family: str) -> str:
    """Which code a family runs; mblsr1's SGD and Adam are what they are by definition."""
    if family.startswith("mblsr1"):
        return code_version(Path(mblsr1.__file__).parent, mblsr1.__version__)
    if family in ("SGD", "Adam"):
        return mblsr1.__version__
    package = {"AdamW cosine": "torch", "K-FAC": "kfac-jax"}.get(family, "pytorch-optimizer")
    try:
        return importlib.metadata.version(package).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return "not installed"  # a report does not ask for the version


def settings(task: str, family: str, options: dict[str, Any], seed: int, epochs: float | None = None) -> Settings:
    """Everything that makes the run what it is."""
    t = TASKS[task]
    method = family.split(maxsplit=1)[0] if family.startswith("mblsr1") else family
    return {
        "data": t.data, "batch": t.batch, "epochs": epochs or t.epochs, "method": method, "options": options,
        "seed": seed, "version": version_of(family),
    }  # fmt: skip


def jobs(
    tasks: list[str], seeds: int, families: list[str] | None = None, epochs: float | None = None
) -> list[Settings]:
    """Runs that are missing, task by task, one seed after the other; of a thrifty task those that can be told."""
    have, newest = STORE.finished(), STORE.newest()
    chosen = {f: g for f, g in grids().items() if (f not in APART if families is None else f in families)}
    runs = [
        settings(task, family, options, seed, epochs)
        for task in tasks
        for seed in range(seeds)
        for family, grid in chosen.items()
        if TASKS[task].families is None or family in TASKS[task].families
        for options in (_thrifty(newest, task, family, epochs) if seed and is_thrifty(task, family) else grid)
    ]
    return list({key(r): r for r in runs if key(r) not in have}.values())


def is_thrifty(task: str, family: str) -> bool:
    """Whether other seeds than 0 run only the best of the grid."""
    return TASKS[task].thrifty or family in THRIFTY


def _thrifty(newest: dict[str, Any], task: str, family: str, epochs: float | None) -> list[dict[str, Any]]:
    """The setting with the smallest loss on seed 0, once all of the grid has run there."""
    grid = grids()[family]
    keys = [key(settings(task, family, options, 0, epochs), versioned=False) for options in grid]
    if not all(k in newest for k in keys):
        return []
    losses = [newest[k]["result"]["loss"] for k in keys]
    return [min(zip(losses, grid, strict=True), key=lambda pair: math.inf if pair[0] is None else pair[0])[1]]


def work(run: Settings) -> None:
    """Make one run and store it."""
    network, data = setting(run["data"])
    batch = run["batch"] or max(1, len(data.y) // 8)
    w0 = network.start(np.random.default_rng(1_000 + run["seed"]))
    watch = Watch(network, data, run["epochs"] * len(data.y))
    watch(0.0, w0)
    if run["method"] in torch_methods.MAKERS:
        torch_methods.warm_up(run["method"])
    if run["method"] == "K-FAC":
        kfac.prepare()
    network.loss_and_gradient(w0, (data.X[:batch], data.y[:batch]))
    watch.seconds, began = 0.0, time.process_time()
    with np.errstate(all="ignore"):
        w, steps, cost, finite = _train(run, network, data, w0, batch, watch)
    seconds = time.process_time() - began - watch.seconds
    watch.next = 0.0
    watch(cost, w)
    loss = network.loss(w, data.X, data.y)
    finite = finite and bool(np.isfinite(loss))
    STORE.save(run, {
        "loss": loss if finite else None, "accuracy": network.accuracy(w, data.X_test, data.y_test) if finite else None,
        "steps": steps, "cost": cost, "n_samples": len(data.y), "batch": batch, "cpu_seconds": round(seconds, 4),
        "curve": watch.curve,
    })  # fmt: skip


def _train(
    run: Settings, network: Network, data: Split, w0: Any, batch: int, watch: Watch
) -> tuple[Any, int, float, bool]:
    """Weights, steps, cost and whether all stayed finite."""
    budget, sampler, seed = run["epochs"] * len(data.y), mblsr1.ArraySampler(data.X, data.y), run["seed"]
    method, options = run["method"], run["options"]
    if method in torch_methods.MAKERS:
        w, steps, finite = torch_methods.train(method, options, network, w0, sampler, batch, budget, seed, watch)
        return w, steps, float(steps * batch), finite
    if method == "K-FAC":
        w, steps, finite = kfac.train(options, network, w0, sampler, batch, budget, seed, watch)
        return w, steps, float(steps * batch), finite
    result = mblsr1.minimize(
        network.loss_and_gradient, True, w0, sampler, rng=seed, max_samples=budget,
        callback=lambda step: watch(step.n_samples, step.x), **_arguments(method, options, batch, network.shapes),
    )  # fmt: skip
    x = result.get("x_average", result.x)  # where the variant asks for it
    return x, result.nit, float(result.n_samples), result.status != mblsr1.Status.NON_FINITE


def _arguments(method: str, options: dict[str, Any], batch: int, shapes: list[tuple[int, ...]]) -> dict[str, Any]:
    """Arguments of `minimize`; no run ends before its budget does."""
    if method == "mblsr1":
        changes = {name: value for name, value in options.items() if name not in ("preset", "blocks", "metric")}
        start = getattr(mblsr1.Options, options["preset"])() if "preset" in options else mblsr1.Options()
        return {"options": start.replace(batch_size=batch, gtol=0.0, **changes, **structure(options, shapes))}
    makers: dict[str, Callable[..., Any]] = {"SGD": mblsr1.sgd, "Adam": mblsr1.adam}
    rest = {"momentum": options["momentum"]} if "momentum" in options else {}
    chosen = mblsr1.Options(batch_size=batch, gtol=0.0)
    return {"method": makers[method](options["rate"], **rest), "options": chosen}


def structure(options: dict[str, Any], shapes: list[tuple[int, ...]]) -> dict[str, Any]:
    """What `options` say of blocks and metric, as `Options` takes it."""
    if options.get("blocks"):
        return {"blocks": shapes}
    metric = options.get("metric")
    if metric is None:
        return {}
    return {"metric": mblsr1.metric.diagonal() if metric == "diagonal" else mblsr1.metric.kronecker(shapes, **metric)}


class Watch:
    """Training loss and test accuracy on some of the samples, at about 20 costs.

    Its own time in `seconds` is no part of the run.
    """

    def __init__(self, network: Network, data: Split, budget: float) -> None:
        rows = np.random.default_rng(0).permutation(len(data.y))[:WATCHED]
        self.network, self.X, self.y = network, data.X[rows], data.y[rows]
        rows = np.random.default_rng(0).permutation(len(data.y_test))[:WATCHED]
        self.X_test, self.y_test = data.X_test[rows], data.y_test[rows]
        self.every, self.next, self.seconds = budget / POINTS, 0.0, 0.0
        self.curve: list[list[float | None]] = []  # cost, loss and accuracy; runs of earlier code lack the last

    def __call__(self, cost: float, w: Any) -> None:
        """Look, where it is time to."""
        if cost < self.next:
            return
        began = time.process_time()
        loss = self.network.loss(w, self.X, self.y)
        accuracy = self.network.accuracy(w, self.X_test, self.y_test)
        self.curve.append([round(cost), float(f"{loss:.4g}") if np.isfinite(loss) else None, accuracy])
        self.next = cost + self.every
        self.seconds += time.process_time() - began
