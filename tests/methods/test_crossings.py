"""How often a step crosses between host and device: at most one block down, one vector up, and the losses."""

from collections import Counter

import numpy as np
import pytest
from crossings import crossings
from libraries import LIBRARIES
from portable import RUNS

import mblsr1
from mblsr1 import _array

strict = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
pytestmark = pytest.mark.strict
STEPS = 12
DEVICE = LIBRARIES["strict-float64-device1"]()
every_run = pytest.mark.parametrize("name", RUNS)
sampled_or_not = pytest.mark.parametrize("sampled", [False, True], ids=["whole", "sampled"])


class OnDevice:
    """A sampler that draws nothing, so that only the method and the driver can cross: halves of the rows in turn."""

    def __init__(self, *arrays):
        self.arrays, self.n_samples, self.turn = arrays, None, 0

    def draw(self, size, rng):
        self.turn += size
        start = self.turn % (self.arrays[0].shape[0] - size)
        return tuple(a[start : start + size, ...] for a in self.arrays)


def counted(name, sampled, monkeypatch, drop=2):
    """Crossings, losses and re-solved subproblems of the steps after the first ones."""
    problem, how = RUNS[name]
    arguments = problem.problem(DEVICE, sampled)
    if sampled:
        arguments |= {"sampler": OnDevice(*(DEVICE(a) for a in problem.data)), "batch_size": 64}
        if "method" not in how and how["options"].check_size == "all":
            how = how | {"options": how["options"].replace(check_size=64)}
    w0 = DEVICE(np.full(problem.d, 0.5))
    steps = mblsr1.iterate(**arguments, w0=w0, rng=0, max_steps=STEPS, gtol=0.0, **how)
    first = [next(steps) for _ in range(drop)][-1]
    with crossings(monkeypatch) as counts:
        made = list(steps)
    assert len(made) == STEPS - drop
    solved = sum(1 + int(step.scalars.get("rejections", 0)) for step in made)
    return Counter(counts), made[-1].nfev - first.nfev, solved


@pytest.mark.xfail(strict=True, reason="norms, slopes and tests for finite numbers still cross one by one")
@every_run
@sampled_or_not
def test_a_step_crosses_no_more_than_it_must(name, sampled, monkeypatch):
    """A block of inner products and a coefficient vector for each subproblem solved, a number for each loss."""
    counts, losses, solved = counted(name, sampled, monkeypatch)
    assert counts["blocks"] <= solved
    assert counts["uploads"] <= solved
    assert counts["scalars"] <= losses


def test_crossings_are_counted(monkeypatch):
    """The counter sees a block, a number, a truth value, an upload; and no plain algebra on the device."""
    x = DEVICE(np.ones(3))
    with crossings(monkeypatch) as counts:
        y = 2.0 * x - strict.matmul(x, x)
        assert counts == {}
        assert _array.host(y).shape == (3,)
        assert _array.to_float(strict.sum(x)) == 3.0
        assert bool(strict.all(x > 0.0))
        assert _array.from_host(np.ones(2), x).shape == (2,)
    assert counts == {"blocks": 1, "scalars": 2, "uploads": 1}
    _array.host(x)
    assert counts["blocks"] == 1


def test_numpy_cannot_read_the_device():
    """What makes a hidden crossing raise in all runs on this device."""
    with pytest.raises(RuntimeError, match="device"):
        np.asarray(DEVICE(np.ones(3)))
