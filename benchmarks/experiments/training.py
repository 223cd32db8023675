"""Training runs of figures 2 and 3: one method with one setting, at a budget of sample-gradients."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from benchmarks.experiments import RESULTS
from benchmarks.experiments.common import made_on, version
from benchmarks.experiments.nets import Case, Images, Trainee, case
from benchmarks.store import Settings, Store

import mblsr1

STORE = Store("networks", RESULTS)
#: Training and test images that a point of a curve is measured on, and training images that the end is measured on.
WATCHED, MEASURED = (500, 1_000), 2_000
FIRST_ORDER = {"SGD": mblsr1.sgd, "Adam": mblsr1.adam, "SVRG": mblsr1.svrg, "RMSprop": mblsr1.rmsprop}
#: Their line search and checks need losses alone, at a third of the cost.
PRESETS = {"L-SSR1-TR": mblsr1.Options.l_ssr1_tr, "MB-LSR1": mblsr1.Options.paper}
#: The recommended method takes the loss with the gradient.
RECOMMENDED = ("default", "blocks")


def method_of(row: str) -> str:
    """Return the method of a row of Table 2."""
    return row.removesuffix(" (large batch)")


def version_of(row: str) -> str:
    """Which code a row runs; first-order methods are what they are by definition."""
    return mblsr1.__version__ if method_of(row) in FIRST_ORDER else version()


def arguments(run: Settings, trainee: Trainee) -> tuple[Any, Any, dict[str, Any]]:
    """Return loss, gradient and keyword arguments of `minimize`; no run ends before its budget does."""
    method, options = method_of(run["row"]), dict(run["options"])
    if "batch" in options:
        options["batch_size"] = max(1, options.pop("batch") // run["divisor"])
    if method in FIRST_ORDER:
        batch = mblsr1.Options(batch_size=options.pop("batch_size"), gtol=0.0)
        rate = options.pop("rate")
        return trainee.loss, trainee.gradient, {"method": FIRST_ORDER[method](rate, **options), "options": batch}
    if method in PRESETS:
        return trainee.loss, trainee.gradient, {"options": PRESETS[method](gtol=0.0, **options)}
    blocks = {"blocks": trainee.network.shapes} if method == "blocks" else {}
    return trainee.loss_and_gradient, True, {"options": mblsr1.Options(gtol=0.0, **options, **blocks)}


def work(run: Settings) -> None:
    """Make one run and store it."""
    import torch

    torch.set_num_threads(1)
    found = case(run["data"], run["n_train"], run["n_held_out"], run["side"], run["device"])
    STORE.save(run, {**trained(run, found), "machine": _device(run["device"])})


def trained(run: Settings, found: Case) -> dict[str, Any]:
    """Return what the run ends with, and its curve."""
    trainee = found.trainee
    budget = run["epochs"] * run["n_train"]
    w0 = trainee.start(run["seed"])
    fun, grad, rest = arguments(run, trainee)
    trainee.loss_and_gradient(w0, np.arange(min(256, run["n_train"])))  # no run is charged for a library's first call
    watch = Watch(found, budget / run["points"] if run["points"] else math.inf, run["device"])
    watch(0.0, w0)
    with np.errstate(all="ignore"):
        result = mblsr1.minimize(
            fun, grad, w0, run["n_train"], rng=run["seed"], max_samples=budget,
            callback=lambda step: watch(step.n_samples, step.x), **rest,
        )  # fmt: skip
    seconds = watch.elapsed()
    end = ends(found, result.x, with_test=run["points"] > 0)
    return {
        **end, "finite": result.status != mblsr1.Status.NON_FINITE and math.isfinite(end["loss"] or math.nan),
        "status": int(result.status), "steps": result.nit, "cost": round(float(result.n_samples)),
        "batch": int(result.batch_size), "cpu_seconds": round(seconds, 3), "curve": watch.curve,
    }  # fmt: skip


def ends(found: Case, w: Any, with_test: bool) -> dict[str, Any]:
    """Return loss and accuracy on the training images, accuracy on those held out and on the test set."""
    sets = {"train": first(found.trainee.images, MEASURED), "held_out": found.held_out, "test": found.test}
    used = {name: s for name, s in sets.items() if len(s.y) and (with_test or name != "test")}
    measured = dict(zip(used, found.trainee.measured(w, *used.values()), strict=True))
    accuracies = {f"{name}_accuracy": round(accuracy, 5) for name, (_loss, accuracy) in measured.items()}
    return {"loss": _rounded(measured["train"][0]), **accuracies}


def first(images: Images, count: int) -> Images:
    """The first images; their order is random."""
    return Images(images.X[:count], images.y[:count])


def _rounded(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _device(name: str) -> str:
    import torch

    return made_on() if name == "cpu" else f"{torch.cuda.get_device_name()}; {made_on()}"


class Watch:
    """Cost, seconds, training loss, training and test accuracy along a run; its own time is no part of the run.

    Parameters
    ----------
    found : Case
    every : float
        Sample-gradients between two points; inf: nothing is watched.
    device : str
        Seconds are CPU time on "cpu", else wall time.
    """

    def __init__(self, found: Case, every: float, device: str) -> None:
        self._trainee, self._every, self._next = found.trainee, every, 0.0 if every < math.inf else every
        self._sets = [first(images, n) for images, n in zip((found.trainee.images, found.test), WATCHED, strict=True)]
        self._clock = time.process_time if device == "cpu" else time.perf_counter
        self.curve: list[list[float | None]] = []
        self._began, self._own = self._clock(), 0.0

    def elapsed(self) -> float:
        """Seconds of the run alone."""
        return self._clock() - self._began - self._own

    def __call__(self, cost: float, w: Any) -> None:
        """Look, where it is time to."""
        if cost < self._next:
            return
        at, seconds = self._clock(), self.elapsed()
        (loss, accuracy), (_, test) = self._trainee.measured(w, *self._sets)
        self.curve.append([round(cost), round(seconds, 3), _rounded(loss), round(accuracy, 5), round(test, 5)])
        self._next = cost + self._every
        self._own += self._clock() - at
