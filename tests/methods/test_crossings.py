"""How often a step crosses between host and device.

Down: one block of inner products for each subproblem solved, and one crossing for each evaluation, which brings the
loss, or the gradient's square (and so whether it is finite), or both where they come together. Up: one vector
of coefficients for each subproblem solved.
"""

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
STEPS = 18
DEVICE = LIBRARIES["strict-float64-device1"]()
sampled_or_not = pytest.mark.parametrize("sampled", [False, True], ids=["whole", "sampled"])


class OnDevice:
    """A sampler that draws nothing, so that only the method and the driver can cross: halves of the rows in turn."""

    def __init__(self, *arrays):
        self.arrays, self.n_samples, self.turn = arrays, None, 0

    def draw(self, size, rng):
        self.turn += size
        start = self.turn % (self.arrays[0].shape[0] - size)
        return tuple(a[start : start + size, ...] for a in self.arrays)


def counted(name, sampled, monkeypatch, drop=2, fused=False):
    """Crossings, evaluations and subproblems solved, of the steps after the first."""
    problem, how = RUNS[name]
    arguments = problem.problem(DEVICE, sampled)
    if fused:
        arguments |= {"fun": (lambda w, *batch, loss=arguments["fun"], slope=arguments["grad"]:
                              (loss(w, *batch), slope(w, *batch))), "grad": True}  # fmt: skip
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
    evaluations = made[-1].nfev - first.nfev + (0 if fused else made[-1].njev - first.njev)
    return Counter(counts), evaluations, solved


@pytest.mark.parametrize("fused", [False, True], ids=["apart", "fused"])
@pytest.mark.parametrize("name", ["recommended", "re-solving"])
@sampled_or_not
def test_a_step_crosses_no_more_than_it_must(name, sampled, fused, monkeypatch):
    counts, evaluations, solved = counted(name, sampled, monkeypatch, fused=fused)
    steps = STEPS - 2
    # on overlapping batches also the square of the mean of the parts' gradients, and g'p of the samples that are shared
    more = 2 * steps if sampled and name == "recommended" else 0
    more += steps // 8  # norms of p that are made from p itself, where too many digits cancel in the inner products
    assert counts["blocks"] + counts["scalars"] <= solved + evaluations + more
    assert counts["uploads"] <= solved


def test_a_metric_crosses_only_where_it_changes(monkeypatch):
    """Every 5 steps: a mean for each of two blocks, and one block of products of the pairs (4: 8 rows)."""
    counts, evaluations, solved = counted("kronecker", True, monkeypatch)
    steps, changes = STEPS - 2, len([4, 5, 10, 15])
    assert counts["blocks"] + counts["scalars"] <= solved + evaluations + 2 * steps + steps // 8 + 3 * changes
    assert counts["uploads"] <= solved


@pytest.mark.parametrize(("name", "most"), [("paper", 9), ("l_ssr1_tr", 9), ("sgd", 2), ("adam", 2), ("rmsprop", 2)])
@sampled_or_not
def test_other_methods_cross_a_few_times_more(name, most, sampled, monkeypatch):
    """Norms and slopes of momentum, of the mixed direction and of the step; `most` a step beyond evaluations."""
    counts, evaluations, _ = counted(name, sampled, monkeypatch)
    assert counts["blocks"] + counts["scalars"] <= evaluations + most * (STEPS - 2)


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
