"""A step of `mblsr1.torch.MBLSR1` beside one of `mblsr1.iterate` on the same network, loss and gradients included.

The other side is the leanest way to write the network as a function of a vector: leaves that are views of it, and one
vector of the gradients. Both make the same steps on the same batches; they take turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import mblsr1
import mblsr1.torch

SEED, WIDTHS, SAMPLES, STEPS, WARM = 0, (512, 776, 776), 256, 30, 4
QUICK = {"m": 4}


def cases() -> Iterator[dict[str, Any]]:
    """Dtype and m of every row."""
    for dtype in ("float32", "float64"):
        yield {"dtype": dtype, "m": 16}


class Data:
    """A data set whose batches are given in an order, the first one twice: the driver's first batch has two parts."""

    n_samples = 10**6

    def __init__(self, dtype: Any) -> None:
        import torch

        generator = torch.Generator().manual_seed(SEED)
        self.X = torch.randn(20 * SAMPLES, WIDTHS[0], generator=generator, dtype=dtype)
        self.labels = torch.randint(10, (20 * SAMPLES,), generator=generator)
        self.drawn = -1

    def batch(self, number: int) -> tuple[Any, Any]:
        """Batch number so and so."""
        start = number % 20 * SAMPLES
        return self.X[start : start + SAMPLES], self.labels[start : start + SAMPLES]

    def draw(self, size: int, rng: np.random.Generator) -> tuple[Any, Any]:
        """The next batch."""
        self.drawn += 1
        return self.batch(max(self.drawn - 1, 0))


def network(dtype: Any) -> Any:
    import torch

    torch.manual_seed(SEED)
    a, b, c = WIDTHS
    layers = [torch.nn.Linear(a, b), torch.nn.Tanh(), torch.nn.Linear(b, c), torch.nn.Tanh(), torch.nn.Linear(c, 10)]
    return torch.nn.Sequential(*layers).to(dtype)


def of_vector(shapes: list[tuple[int, ...]]) -> Callable[..., tuple[Any, Any]]:
    """(w, batch) -> loss and gradient of the network."""
    import torch
    from torch.nn import functional

    sizes = [int(np.prod(shape)) for shape in shapes]

    def fun(w: Any, batch: tuple[Any, Any]) -> tuple[Any, Any]:
        parts = [p.view(s).detach().requires_grad_() for p, s in zip(w.split(sizes), shapes, strict=True)]
        x = batch[0]
        for i in (0, 2):
            x = functional.linear(x, parts[i], parts[i + 1]).tanh()
        loss = functional.cross_entropy(functional.linear(x, parts[4], parts[5]), batch[1])
        return loss, torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, parts)])

    return fun


def seconds(function: Callable[[], Any]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def core(data: Data, model: Any, m: int) -> Iterator[Any]:
    """The core's steps, from the parameters of the model."""
    fun = of_vector([tuple(p.shape) for p in model.parameters()])
    given = {"max_steps": 10**9, "gtol": 0.0, "memory": m}
    sampled = {"overlap": 0.5, "anneal": False, "batch_size": 2 * SAMPLES, "largest_share": 1e-9}
    return mblsr1.iterate(fun, True, flat(model), data, **given, **sampled)


def flat(model: Any) -> Any:
    import torch

    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


class Loop:
    """A training loop with the optimizer."""

    def __init__(self, data: Data, model: Any, m: int) -> None:
        self.data, self.model, self.made = data, model, 0
        self.optimizer = mblsr1.torch.MBLSR1(model.parameters(), batch_size=SAMPLES, memory=m)

    def step(self) -> None:
        """Make a step on the next batch."""
        from torch.nn import functional

        X, labels = self.data.batch(self.made)
        self.made += 1

        def closure() -> Any:
            self.optimizer.zero_grad()
            loss = functional.cross_entropy(self.model(X), labels)
            loss.backward()
            return loss

        self.optimizer.step(closure)


def measure(dtype: str, m: int) -> dict[str, float]:
    """Return d, the median milliseconds of a step of each, and the ratio of steps of one turn with its quartiles."""
    import torch

    data, model = Data(getattr(torch, dtype)), network(getattr(torch, dtype))
    steps, loop, latest, times = core(data, model, m), Loop(data, model, m), [flat(model)], []

    def of_core() -> None:
        latest[0] = next(steps).x

    for step in range(m + WARM + STEPS):
        order = (of_core, loop.step) if step % 2 else (loop.step, of_core)
        pair = {function: seconds(function) for function in order}
        if step >= m + WARM:
            times.append((pair[of_core], pair[loop.step]))
        if not torch.equal(latest[0], flat(model)):
            raise AssertionError(f"step {step}: the iterates differ")
    low, middle, high = statistics.quantiles([b / a for a, b in times], n=4)
    medians = [1e3 * statistics.median(column) for column in zip(*times, strict=True)]
    return {
        "d": float(latest[0].numel()), "core_ms": medians[0], "optimizer_ms": medians[1], "ratio": middle,
        "quartile 1": low, "quartile 3": high,
    }  # fmt: skip
