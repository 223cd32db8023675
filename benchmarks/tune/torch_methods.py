"""Optimizers of torch and pytorch-optimizer on a NumPy network: the weights are shared memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from benchmarks.tune.networks import Network


def _adamw_cosine(parameters: Any, steps: int, rate: float, decay: float) -> tuple[Any, Any]:
    import torch

    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)


def _soap(parameters: Any, steps: int, rate: float) -> tuple[Any, Any]:
    from pytorch_optimizer import SOAP

    return SOAP(parameters, lr=rate, weight_decay=0.0), None


def _muon(parameters: Any, steps: int, rate: float, momentum: float) -> tuple[Any, Any]:
    """Muon for hidden matrices and kernels, AdamW for the output's and the rest; updates are scaled to one rate."""
    import torch
    from pytorch_optimizer import Muon

    *hidden, output = [p for p in parameters if p.ndim > 1]
    rest = [output, *(p for p in parameters if p.ndim == 1)]
    own = {"params": hidden, "lr": rate, "momentum": momentum, "use_muon": True, "use_adjusted_lr": True}
    optimizer = Muon([own, {"params": rest, "lr": rate, "use_muon": False}])
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)


def _schedule_free(parameters: Any, steps: int, rate: float) -> tuple[Any, Any]:
    from pytorch_optimizer import ScheduleFreeAdamW

    return ScheduleFreeAdamW(parameters, lr=rate), None


MAKERS: dict[str, Callable[..., tuple[Any, Any]]] = {
    "AdamW cosine": _adamw_cosine,
    "schedule-free AdamW": _schedule_free,
    "SOAP": _soap,
    "Muon": _muon,
}


def warm_up(name: str) -> None:
    """Make one step on one number, so that no run is charged for imports."""
    import torch

    torch.set_num_threads(1)
    parameter = torch.nn.Parameter(torch.ones(1, 1))
    parameter.grad = torch.ones(1, 1)
    rest = {"AdamW cosine": {"decay": 0.0}, "Muon": {"momentum": 0.9}}.get(name, {})
    optimizer, _schedule = MAKERS[name]([parameter], 1, rate=0.01, **rest)  # the schedule must outlive the step
    optimizer.step()


def train(
    name: str, setting: dict[str, float], network: Network, w0: Any, sampler: Any, batch: int, budget: float,
    seed: int, watch: Callable[[float, Any], None],
) -> tuple[Any, int, bool]:  # fmt: skip
    """Spend the budget, one gradient a step; return the weights, the steps and whether the loss stayed finite.

    ``watch(cost, weights)`` is called after each step, with the weights that a user would take then.
    """
    w, steps, made = w0.copy(), int(budget // batch), 0
    for made, _ in enumerate(iterate(name, setting, network, w, sampler, batch, steps, seed), 1):
        watch(made * batch, w)
    return w, made, made == steps


def iterate(
    name: str, setting: dict[str, float], network: Network, w: Any, sampler: Any, batch: int, steps: int, seed: int
) -> Iterator[None]:
    """Make one step at a time in place, with `w` what a user would take then; end early where it is not finite."""
    import torch

    rng = np.random.default_rng(seed)
    parameters = [torch.nn.Parameter(p) for p in network.unpack(torch.from_numpy(w))]
    optimizer, schedule = MAKERS[name](parameters, steps, **setting)
    averages = hasattr(optimizer, "eval")
    for step in range(1, steps + 1):
        loss, g = network.loss_and_gradient(w, sampler.draw(batch, rng))
        if not (np.isfinite(loss) and np.isfinite(g).all()):
            return
        for p, part in zip(parameters, network.unpack(torch.from_numpy(g)), strict=True):
            p.grad = part
        optimizer.step()
        if schedule is not None:
            schedule.step()
        if averages:
            optimizer.eval()
        yield
        if averages and step < steps:
            optimizer.train()
