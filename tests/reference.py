"""Algorithms 1-6 of the paper written out literally and slowly: dense matrices, nothing cached, nothing reused.

Nothing of the package is imported. Names are the paper's symbols, statements stand in the paper's order, and
"reading n" is row n of docs/deviations.md. Random numbers are drawn in the order of the algorithms: the pairs of a
warm start (Alg. 3), the check sample (Alg. 6, l. 3), the next batch (Alg. 6, l. 15).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.optimize import brentq

EPS = float(np.finfo(float).eps)


@dataclass
class Parameters:
    """The inputs of Algorithm 1; m_hat = -1 never restarts, n_hat maps n_b to the size of the check sample."""

    m: int
    m_hat: int
    tau: float
    n: int
    delta: float
    zeta: float
    K: int
    gamma_1: float
    gamma_2: float
    eta: float
    alpha_s: float
    mu: float
    xi: float = 1e-10
    c_1: float = 1e-4
    mixing: str = "printed"
    ratio: str = "mean-of-ratios"
    skip: float = 1e-8
    gamma: float = 1.0
    epsilon: float = 0.0
    n_hat: Callable[[int], int] = lambda n_b: math.ceil(min(Fraction(11, 10) * n_b, 5000))


# ---------------------------------------------------------------- the matrix and the subproblem


def sr1_update(B, s, y):
    """Equation (6)."""
    r = y - B @ s
    return B + np.outer(r, r) / (s @ r)


def is_safe(B, s, y, skip):
    """|s'(y - Bs)| >= skip ||s|| ||y - Bs|| (reading 17)."""
    r = y - B @ s
    return abs(s @ r) > 0.0 and abs(s @ r) >= skip * np.linalg.norm(s) * np.linalg.norm(r)


def newest_independent(S, Y, gamma):
    """Positions of the pairs whose psi = y - gamma s is independent of newer ones (reading 17, newest first).

    The pivot of a psi in the normalised Gram matrix is the squared distance of the unit vector
    from the span of those kept before it.
    """
    kept, basis = [], []
    for i in reversed(range(len(S))):
        length = np.linalg.norm(S[i])
        psi = (Y[i] - gamma * S[i]) / length
        if psi @ psi <= 1e-14 * ((Y[i] @ Y[i]) / length**2 + gamma**2):  # only rounding
            continue
        psi = psi / np.linalg.norm(psi)
        for _ in range(2):  # twice is enough
            for q in basis:
                psi = psi - (q @ psi) * q
        if len(kept) < S[i].size and psi @ psi > 1e-10:
            kept.append(i)
            basis.append(psi / np.linalg.norm(psi))
    return kept[::-1]


def dense_sr1(S, Y, gamma, skip, d):
    """B: gamma I updated with one pair after the other, oldest first, unsafe ones skipped."""
    B = gamma * np.eye(d)
    for i in newest_independent(S, Y, gamma):
        if is_safe(B, S[i], Y[i], skip):
            B = sr1_update(B, S[i], Y[i])
    return 0.5 * (B + B.T)


def solve_subproblem(B, g, delta):
    """Global minimiser of g'p + p'Bp/2 over ||p|| <= delta; the unknown is the shift sigma + lambda_min."""
    lam, V = np.linalg.eigh(B)
    a = V.T @ g
    if lam[0] > 0.0 and np.linalg.norm(a / lam) <= delta:
        return V @ (-a / lam)
    gap = lam - lam[0]
    lead = gap <= 8.0 * EPS * np.abs(lam).max()
    floor = max(lam[0], 0.0)
    if floor == 0.0 and np.linalg.norm(a[lead]) <= 8.0 * EPS * np.linalg.norm(a):  # hard case
        x = np.zeros_like(a)
        x[~lead] = -a[~lead] / gap[~lead]
        if x @ x < delta**2:
            x[0] = math.sqrt(delta**2 - x @ x)
            return V @ x
        a = np.where(lead, 0.0, a)

    def secular(shift):
        return 1.0 / np.linalg.norm(a / (gap + shift)) - 1.0 / delta

    low = max(floor, float(np.max(np.abs(a) / delta - gap)))
    high = 2.0 * np.linalg.norm(a) / delta + floor
    shift = low if secular(low) >= 0.0 else brentq(secular, low, high, xtol=1e-300, rtol=4.0 * EPS, maxiter=1000)
    return V @ (-a / (gap + shift))


# ---------------------------------------------------------------- Algorithms 1-6


class MBLSR1:
    """Algorithm 1; `fun(w, batch)`, `grad(w, batch)`, a set of N samples, batches as index arrays.

    `rounding` disturbs each step s; it serves to measure how much a run amplifies rounding errors.
    """

    def __init__(self, fun, grad, w0, N, parameters, rng, hvp=None, rounding=lambda s: s):
        self.fun, self.grad, self.hvp, self.N, self.rng, self.rounding = fun, grad, hvp, N, rng, rounding
        self.par = parameters
        self.w = np.array(w0, dtype=float)
        self.d = self.w.size
        scale = max(1.0, np.linalg.norm(self.w))
        self.delta_min, self.delta_max = 1e-10 * scale, max(1e2 * scale, parameters.delta)  # reading 15
        self.delta = self.clamped(parameters.delta)
        # line 3 (rho_hat is reported as nan until there is a ratio)
        self.T, self.rho_hat, self.zeta = 0.0, math.nan, parameters.zeta
        self.sum_R, self.sum_Q = 0.0, 0.0
        self.s, self.v = np.zeros(self.d), np.zeros(self.d)
        self.S, self.Y = [], []
        self.offered = None
        self.n = min(parameters.n, N)
        if self.n == N:
            self.zeta = 0.0  # Alg. 6, l. 9
        self.f_K, self.steps_R, self.since = None, 0.0, 0
        self.n_restarts = 0
        self.until_exit_check = 0
        self.batch = self.draw(self.n)

    def run(self, steps):
        """Lines 4-11; the record of each step."""
        records = []
        for _ in range(steps):
            if self.exit():  # line 7, before the step (reading 16)
                break
            n_b = self.n
            self.get_step()
            self.w = self.w + self.s  # line 6
            if not self.failed:
                self.get_radius()
                self.update_SY()
            records.append(
                {
                    "w": self.w,
                    "radius": self.delta,
                    "rho": self.rho,
                    "rho_hat": self.rho_hat,
                    "batch_size": n_b,
                    "n_pairs": min(self.par.m, len(self.S) + (self.offered is not None)),
                    "n_restarts": self.n_restarts,
                    "alpha": self.alpha,
                    "f": self.f,
                    "Q": self.Q,
                    "flipped": self.flipped,
                    "restarted": self.restarted,
                    "steepest": self.steepest,
                }
            )
            self.get_batch()
        return records

    def exit(self):
        """Algorithm 2, the whole set at most once in K steps unless it is the batch (reading 16)."""
        self.until_exit_check = max(self.until_exit_check - 1, 0)
        if self.until_exit_check > 0 and self.n < self.N:
            return False
        asked = []

        def full():
            asked.append(True)
            return np.linalg.norm(self.grad(self.w, np.arange(self.N)))

        stop = exit_check(np.linalg.norm(self.grad(self.w, self.batch)), full, self.par.epsilon)
        if asked and self.n < self.N:
            self.until_exit_check = self.par.K
        return stop

    def draw(self, size):
        if size >= self.N:
            return np.arange(self.N)
        return self.rng.choice(self.N, size, replace=False, shuffle=False)

    def clamped(self, delta):
        return min(max(delta, self.delta_min), self.delta_max)

    def get_step(self):
        """Algorithm 4, for the batch at hand."""
        o, w, I = self.par, self.w, self.batch  # noqa: E741
        self.f = self.fun(w, I)
        g = self.grad(w, I)  # line 2
        norm_g = np.linalg.norm(g)
        self.take_offered()
        restarted = self.steepest = False
        while True:
            B = dense_sr1(self.S, self.Y, o.gamma, o.skip, self.d)
            p_star = solve_subproblem(B, g, self.delta)  # line 3
            v = o.mu * self.v - o.eta * o.alpha_s * g + (1.0 - o.eta) * self.s  # line 4
            if np.linalg.norm(v) > self.delta:  # line 5, reading 2
                v = self.delta / np.linalg.norm(v) * v
            if o.mixing == "printed":  # line 6, reading 1
                p = (1.0 - o.eta) * p_star + o.mu * v
            else:
                p = (1.0 - o.eta) * (p_star + o.mu * v) + o.eta * v
            if np.linalg.norm(p) > self.delta:  # line 7
                p = self.delta / np.linalg.norm(p) * p
            self.flipped = bool(p @ g > 0.0)
            if self.flipped:  # lines 8-10, reading 4
                p = -p
            slope = abs(g @ p)
            if min(slope, slope / np.linalg.norm(p)) >= o.xi * norm_g:  # line 11
                break
            if restarted:  # reading 5: the gradient step, unconditionally
                p = -min(1.0, self.delta / norm_g) * g
                v = np.zeros(self.d)
                self.steepest = True
                break
            restarted = True  # lines 12-13, once
            self.n_restarts += 1
            self.S, self.Y = [], []
            self.v, self.s = np.zeros(self.d), np.zeros(self.d)
        self.v, self.restarted = v, restarted
        self.Q = g @ p_star + 0.5 * p_star @ B @ p_star
        self.R = self.fun(w + p_star, I) - self.f  # line 17, reading 7
        self.rho = self.R / self.Q if abs(self.Q) > 10.0 * EPS * abs(self.f) else math.nan  # line 18, reading 7
        self.alpha = self.line_search(w, I, p, g @ p)  # line 15
        self.failed = self.alpha == 0.0
        if self.failed:  # reading 6
            self.s, self.v = np.zeros(self.d), np.zeros(self.d)
            self.delta = self.clamped(0.5 * self.delta)
            self.rho = math.nan
            self.achieved = 0.0
            return
        self.s = self.rounding(self.alpha * p)  # line 16
        self.y = self.grad(w + self.s, I) - g  # line 19, reading 18
        self.achieved = self.fun(w + self.s, I) - self.f  # reading 8

    def line_search(self, w, I, p, slope):  # noqa: E741
        """Line 15, reading 6."""
        alpha = 1.0
        for _ in range(21):
            if self.fun(w + alpha * p, I) <= self.f + self.par.c_1 * alpha * slope + 10.0 * EPS * abs(self.f):
                return alpha
            alpha = alpha / 2.0
        return 0.0

    def get_radius(self):
        """Algorithm 5."""
        if math.isnan(self.rho):  # reading 7
            return
        if self.par.ratio == "mean-of-ratios":
            rho = min(max(self.rho, -10.0), 10.0)  # reading 14
            past = self.zeta * self.T * self.rho_hat if self.T > 0.0 else 0.0  # rho_hat = 0, T = 0 at first
            self.rho_hat = past + rho  # line 3
            self.T = self.zeta * self.T + 1.0  # line 4
            self.rho_hat = self.rho_hat / self.T  # line 5
        else:  # Theorem 4.4
            self.sum_R = self.zeta * self.sum_R + self.R
            self.sum_Q = self.zeta * self.sum_Q + self.Q
            self.rho_hat = self.sum_R / self.sum_Q
        length = np.linalg.norm(self.s)
        if self.rho_hat < 0.1:
            self.delta = self.clamped(min(self.delta, length))
        elif self.rho_hat >= 0.5 and length >= (1.0 - 1e-3) * self.delta:  # reading 15
            self.delta = self.clamped(2.0 * self.delta)

    def update_SY(self):
        """Algorithm 3 at the new iterate."""
        if self.rho < self.par.tau and self.par.m_hat >= 0:
            pairs = self.warm_start() if self.par.m_hat > 0 else []
            self.S, self.Y = [], []
            self.n_restarts += 1
            for pair in pairs:
                self.take_offered()
                self.offered = pair
        else:
            self.offered = (self.s, self.y)

    def take_offered(self):
        """Lines 11-12 with the SR1 test of reading 17: judged by the matrix of the older pairs."""
        pair, self.offered = self.offered, None
        if pair is None or self.par.m == 0:
            return
        s, y = pair
        B = dense_sr1(self.S, self.Y, self.par.gamma, self.par.skip, self.d)
        r = y - B @ s
        rounding = r @ r <= 1e-14 * (y @ y + self.par.gamma**2 * (s @ s))
        if not rounding and is_safe(B, s, y, self.par.skip):
            self.S, self.Y = [*self.S, s][-self.par.m :], [*self.Y, y][-self.par.m :]

    def warm_start(self):
        """Reference [1]: m_hat random directions at the new iterate, on the step's batch."""
        length = math.sqrt(EPS) * max(1.0, np.linalg.norm(self.w))
        g = self.grad(self.w, self.batch)
        pairs = []
        for _ in range(self.par.m_hat):
            s = self.rng.standard_normal(self.d)
            s = s * (length / np.linalg.norm(s))
            if self.hvp is not None:
                pairs.append((s, self.hvp(self.w, s, self.batch)))
            else:
                pairs.append((s, self.grad(self.w + s, self.batch) - g))
        return pairs

    def get_batch(self):
        """Algorithm 6; the sum of l. 5 runs over the K steps since the last check (reading 9)."""
        o = self.par
        self.steps_R += self.achieved
        self.since += 1
        if self.n < self.N and (self.f_K is None or self.since == o.K):
            check = self.draw(min(o.n_hat(self.n), self.N))
            f = self.fun(self.w, check)
            if self.f_K is not None and f - self.f_K >= -o.gamma_1 + o.gamma_2 * self.steps_R:  # reading 10
                self.n = min(2 * self.n, self.N)
                if self.n == self.N:
                    self.zeta = 0.0
            self.f_K, self.steps_R, self.since = f, 0.0, 0
        self.batch = self.draw(self.n)  # line 15


# ---------------------------------------------------------------- L-SSR1-TR


class LSSR1TR:
    """L-SSR1-TR, the method that MB-LSR1 contains, written out on its own from section 2 and the text of section 3.

    No SGD direction, no memory of old ratios, no restart of the pairs by a poor ratio; the whole set is evaluated at
    every K-th step, and the batch doubles where the loss did not fall by gamma_1. Algorithms 1-6 do not occur; the
    readings do, by number. `rounding` as above. Random numbers: the next batch of each step, nothing else.
    """

    def __init__(self, fun, grad, w0, N, parameters, rng, hvp=None, rounding=lambda s: s):
        self.fun, self.grad, self.N, self.par, self.rng, self.rounding = fun, grad, N, parameters, rng, rounding
        self.w = np.array(w0, dtype=float)
        scale = max(1.0, np.linalg.norm(self.w))
        self.delta_min, self.delta_max = 1e-10 * scale, max(1e2 * scale, parameters.delta)  # reading 15
        self.delta = min(max(parameters.delta, self.delta_min), self.delta_max)
        self.n, self.S, self.Y, self.new = min(parameters.n, N), [], [], None
        self.v, self.s = np.zeros(self.w.size), np.zeros(self.w.size)
        self.f_last, self.since, self.wait, self.n_restarts = None, 0, 0, 0

    def run(self, steps):
        records = []
        for _ in range(steps):
            batch = self.rng.choice(self.N, self.n, replace=False, shuffle=False) if self.n < self.N else self.whole()
            if self.at_minimum(batch):
                break
            record = self.step(batch)
            records.append(record)
            self.check_progress()
        return records

    def whole(self):
        return np.arange(self.N)

    def at_minimum(self, batch):
        """A small batch gradient is believed from the whole set, evaluated once in K steps (reading 16)."""
        self.wait = max(self.wait - 1, 0)
        if np.linalg.norm(self.grad(self.w, batch)) > self.par.epsilon or (self.wait and self.n < self.N):
            return False
        if self.n < self.N:
            self.wait = self.par.K
        return np.linalg.norm(self.grad(self.w, self.whole())) <= self.par.epsilon

    def step(self, batch):
        """Subproblem, momentum, line search, ratio, radius, pair."""
        f, g = self.fun(self.w, batch), self.grad(self.w, batch)
        self.keep_new_pair()
        p_star, Q, p, turned = self.direction(g)
        R = self.fun(self.w + p_star, batch) - f
        rho = R / Q if abs(Q) > 10.0 * EPS * abs(f) else math.nan  # reading 7
        alpha = self.backtrack(batch, f, p, g @ p)
        record = {
            "f": f, "Q": Q, "rho": rho if alpha else math.nan, "alpha": alpha, "flipped": turned, "batch_size": self.n,
        }  # fmt: skip
        if alpha:
            self.s = self.rounding(alpha * p)
            self.new = (self.s, self.grad(self.w + self.s, batch) - g)  # reading 18
            self.w = self.w + self.s
            if not math.isnan(rho):
                self.move_radius(rho)
        else:  # reading 6
            self.s, self.v = np.zeros(self.w.size), np.zeros(self.w.size)
            self.delta = max(0.5 * self.delta, self.delta_min)
        pairs = min(self.par.m, len(self.S) + (self.new is not None))
        return {
            **record, "w": self.w, "radius": self.delta, "rho_hat": self.rho_hat(rho if alpha else math.nan),
            "n_pairs": pairs, "n_restarts": self.n_restarts,
        }  # fmt: skip

    def rho_hat(self, rho):
        """The ratio that moved the radius last: reported, used nowhere."""
        self.last_rho = rho if not math.isnan(rho) else getattr(self, "last_rho", math.nan)
        return self.last_rho

    def direction(self, g):
        """p* + mu v in the ball, downhill; where that is hardly so the pairs are given up (reading 5)."""
        for attempt in range(2):
            B = dense_sr1(self.S, self.Y, self.par.gamma, self.par.skip, self.w.size)
            p_star = solve_subproblem(B, g, self.delta)
            v = self.inside(self.par.mu * self.v + self.s)
            p = self.inside(p_star + self.par.mu * v)
            turned = bool(p @ g > 0.0)
            p = -p if turned else p
            if min(abs(g @ p), abs(g @ p) / np.linalg.norm(p)) >= self.par.xi * np.linalg.norm(g):
                break
            if attempt:
                p, v = -min(1.0, self.delta / np.linalg.norm(g)) * g, np.zeros(self.w.size)
            else:
                self.S, self.Y, self.n_restarts = [], [], self.n_restarts + 1
                self.v, self.s = np.zeros(self.w.size), np.zeros(self.w.size)
        self.v = v
        return p_star, g @ p_star + 0.5 * p_star @ B @ p_star, p, turned

    def inside(self, x):
        norm = np.linalg.norm(x)
        return self.delta / norm * x if norm > self.delta else x  # reading 2

    def backtrack(self, batch, f, p, slope):
        for j in range(21):
            alpha = 0.5**j
            slack = 10.0 * EPS * abs(f)
            if self.fun(self.w + alpha * p, batch) <= f + self.par.c_1 * alpha * slope + slack:  # reading 6
                return alpha
        return 0.0

    def move_radius(self, rho):
        length = np.linalg.norm(self.s)
        if rho < 0.1:
            self.delta = max(min(self.delta, length), self.delta_min)
        elif rho >= 0.5 and length >= (1.0 - 1e-3) * self.delta:  # reading 15
            self.delta = min(2.0 * self.delta, self.delta_max)

    def keep_new_pair(self):
        """All pairs that pass the SR1 test, at most m (reading 17)."""
        pair, self.new = self.new, None
        if pair is None or self.par.m == 0:
            return
        s, y = pair
        B = dense_sr1(self.S, self.Y, self.par.gamma, self.par.skip, self.w.size)
        r = y - B @ s
        if r @ r > 1e-14 * (y @ y + self.par.gamma**2 * (s @ s)) and is_safe(B, s, y, self.par.skip):
            self.S, self.Y = [*self.S, s][-self.par.m :], [*self.Y, y][-self.par.m :]

    def check_progress(self):
        """The loss of the whole set at every K-th step, the first one included (readings 9 and 10)."""
        self.since += 1
        if self.n == self.N or (self.f_last is not None and self.since < self.par.K):
            return
        f = self.fun(self.w, self.whole())
        if self.f_last is not None and f - self.f_last >= -self.par.gamma_1:
            self.n = min(2 * self.n, self.N)
        self.f_last, self.since = f, 0


def exit_check(norm_of_batch_gradient, norm_of_full_gradient, epsilon):
    """Algorithm 2; the second argument is a function, called only where it is needed."""
    if norm_of_batch_gradient <= epsilon:
        return norm_of_full_gradient() <= epsilon
    return False
