"""A small problem and every way to solve it, for the tests of faults."""

import numpy as np

import mblsr1

N, D = 12, 4
_DATA = np.random.default_rng(8)
A = _DATA.standard_normal((N, D))
B = A @ _DATA.standard_normal(D) + 0.1 * _DATA.standard_normal(N)
START = np.linspace(-1.0, 1.0, D)

Options = mblsr1.Options
WAYS = {
    "default": {"options": Options()},
    "paper": {"options": Options.paper(initial_radius=0.1)},
    "l_ssr1_tr": {"options": Options.l_ssr1_tr(initial_radius=0.1)},
    "warm start": {"options": Options.paper(restart_memory=2, restart_tolerance=0.5, memory=4)},
    "trust region": {"options": Options(overlap=0.0, growth="progress")},
    "blocks": {"options": Options(metric=mblsr1.metric.kronecker([(2, 2)], every=2))},
    "sgd": {"method": mblsr1.sgd(0.01, 0.9)},
    "adam": {"method": mblsr1.adam(0.05)},
    "rmsprop": {"method": mblsr1.rmsprop(0.01)},
    "svrg": {"method": mblsr1.svrg(0.01, 0.5)},
    "s_lsr1": {"method": mblsr1.s_lsr1(3)},
}


def fun(w, batch=slice(None)):
    r = A[batch] @ w - B[batch]
    return float(r @ r) / len(r)


def grad(w, batch=slice(None)):
    r = A[batch] @ w - B[batch]
    return (2.0 / len(r)) * (A[batch].T @ r)


class Watched:
    """fun and grad that fail as told at chosen calls, and keep account of what they are asked for.

    `faults` maps the number of a call to a function of the honest answer; it may raise.
    """

    def __init__(self, fun, grad, faults=None):
        self._fun, self._grad, self.faults = fun, grad, faults or {}
        self.calls = self.thirds = 0
        self.bad = 0  # answers that are not finite, or whose square is not

    def _answer(self, function, w, batch, thirds):
        assert np.isfinite(w).all(), "asked at a point that is not finite"
        number, self.calls = self.calls, self.calls + 1
        self.thirds += thirds * (1 if isinstance(batch, slice) else len(batch))
        with np.errstate(all="ignore"):  # the user's own overflow, far out
            answer = function(w, batch)
            if number in self.faults:
                answer = self.faults[number](answer)
            self.bad += not np.isfinite(np.sum(np.square(answer)))
        return answer

    def fun(self, w, batch=slice(None)):
        return self._answer(self._fun, w, batch, 1)

    def grad(self, w, batch=slice(None)):
        return self._answer(self._grad, w, batch, 3)

    def both(self, w, batch=slice(None)):
        thirds = self.thirds
        answer = self.fun(w, batch), self.grad(w, batch)
        self.thirds -= (self.thirds - thirds) // 4  # fused, the loss is free
        return answer

    def arguments(self, fused):
        return (self.both, True) if fused else (self.fun, self.grad)
