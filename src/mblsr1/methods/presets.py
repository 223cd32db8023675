"""Options: one field per parameter of the paper, checked once; and the methods they stand for."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mblsr1.linalg import scaling as scaling_rules
from mblsr1.linalg.scaling import ScalingRule
from mblsr1.methods.sr1_trust_region import Regime, Rules, SR1State, sr1_trust_region
from mblsr1.problem import Oracle
from mblsr1.rules import pairs as pair_rules
from mblsr1.rules import radius as radius_rules
from mblsr1.rules.batch import default_check_size, noise_growth, progress_check
from mblsr1.steps.get_step import LineSearchSettings, get_step
from mblsr1.steps.model import build_better, build_model, build_smoothed
from mblsr1.steps.overlap import overlap_step
from mblsr1.steps.resolve import resolve
from mblsr1.types import Carried, Method, Point, Trial

__all__ = ["Options", "mb_lsr1"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of MB-LSR1. `Options()` is recommended, `Options.paper()` is the paper as printed.

    Every field is checked on construction; a ValueError or TypeError names the field, the value and
    the admissible range.

    Parameters
    ----------
    memory : int >= 0
        m: pairs kept. The memory cost is 2 m vectors.
    restart_memory : None or int in [0, memory]
        m_hat: after a ratio below `restart_tolerance` do nothing (None), empty the memory (0), or refill it
        with this many sampled pairs (warm start). Alg. 3.
    restart_tolerance : float
        tau: finite.
    batch_size : int >= 1
        n: samples of the first batch; never more than the set has.
    initial_radius : float > 0
        delta_0.
    ratio_memory : float in [0, 1]
        zeta: weight of the past in the averaged ratio; 0 is the classic ratio. Alg. 5.
    check_every : int >= 1
        K: steps between two progress checks. Alg. 6.
    progress_decrease : float in [0, 1]
        gamma_1. `progress_decrease` + `progress_fraction` must be positive (Theorem 4.1).
    progress_fraction : float in [0, 1)
        gamma_2.
    check_size : int >= 1, "all" or callable
        n_hat: size of the check sample, or a function of the batch size.
    sgd_weight : float in [0, 1]
        eta: weight of the SGD direction. Alg. 4.
    learning_rate : float in [0, 1]
        alpha_s: step of the SGD direction.
    momentum : float in [0, 1)
        mu.
    descent_tolerance : float in (0, 1)
        xi: restart where the direction descends less than this (Alg. 4, line 11).
    armijo : float in (0, 1)
        c_1: share of the slope that the line search demands.
    gtol : float >= 0
        epsilon: the run ends where the gradient over the whole set is within it (2-norm). Alg. 2.
    ratio : {"of-means", "mean-of-ratios"}
        Average of R over average of Q (Theorem 4.4), or average of the ratios (Alg. 5 as printed).
    scaling : callable
        gamma rule, see `mblsr1.scaling`: `ceiling()`, `constant()`, `last_pair()`, `from_below()`.
    globalization : {"trust-region", "line-search"}
        Re-solve in a smaller radius, or Armijo along p (Alg. 4, line 15). `sgd_weight` and `momentum`
        belong to the line search.
    skip_tolerance : float in [0, 1)
        A pair is skipped where ``|s'(y - Bs)| < skip_tolerance ||s|| ||y - Bs||``.
    steps_per_batch : int >= 1
        Steps made on one batch before the next is drawn.
    radius_shrink : float in (0, 1]
        Factor on min(delta, ||s||) after a poor mean ratio; the printed rule is 1.
    interpolate : bool
        Where the batch is the whole set, move the radius by interpolation along p.
    mixing : {"convex", "printed"}
        Line 6 of Alg. 4: (1 - eta)(p* + mu v) + eta v, or (1 - eta) p* + mu v as printed, which needs
        momentum > 0 where sgd_weight > 0.
    check_both : bool
        Evaluate both iterates of a progress check on the new sample.

    Examples
    --------
    >>> import mblsr1
    >>> mblsr1.Options().replace(memory=32).memory
    32
    """

    memory: int = 16
    restart_memory: int | None = None
    restart_tolerance: float = 0.0
    batch_size: int = 256
    initial_radius: float = 1.0
    ratio_memory: float = 0.9
    check_every: int = 10
    progress_decrease: float = 0.0
    progress_fraction: float = 0.1
    check_size: int | str | Callable[[int], int] = default_check_size
    sgd_weight: float = 0.0
    learning_rate: float = 0.1
    momentum: float = 0.0
    descent_tolerance: float = 1e-10
    armijo: float = 1e-4
    gtol: float = 1e-5
    ratio: str = "of-means"
    scaling: ScalingRule = field(default_factory=scaling_rules.ceiling)
    globalization: str = "trust-region"
    skip_tolerance: float = 1e-8
    steps_per_batch: int = 1
    radius_shrink: float = 0.5
    interpolate: bool = True
    overlap: float = 0.25
    gradient_memory: float = 0.5
    absolute: bool = True
    poor_ratio: float = 0.4
    good_ratio: float = 0.8
    ratio_reset: bool = True
    theta: float = 0.0
    limit: float = 1.0
    matrix: str = "better"
    xx: dict = field(default_factory=dict)
    mixing: str = "convex"
    check_both: bool = False

    def __post_init__(self) -> None:
        for name, low in (("memory", 0), ("batch_size", 1), ("check_every", 1), ("steps_per_batch", 1)):
            _integer(name, getattr(self, name), low)
        for name, (text, test) in _RANGES.items():
            _real(name, getattr(self, name), text, test)
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: must be one of {', '.join(map(repr, allowed))}, got {getattr(self, name)!r}")
        for name in ("check_both", "interpolate"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name}: must be True or False, got {getattr(self, name)!r}")
        if not callable(self.scaling):
            raise TypeError(f"scaling: must be a gamma rule such as mblsr1.scaling.ceiling(), got {self.scaling!r}")
        self._check_sizes()
        self._check_combinations()
        self._use_python_numbers()

    def _use_python_numbers(self) -> None:
        """Turn NumPy scalars into Python's: they enter the state, which is saved as JSON, and the history."""
        for name in _RANGES:
            object.__setattr__(self, name, float(getattr(self, name)))
        for name in ("memory", "restart_memory", "batch_size", "check_every", "check_size", "steps_per_batch"):
            if isinstance(getattr(self, name), numbers.Integral):
                object.__setattr__(self, name, int(getattr(self, name)))

    def _check_sizes(self) -> None:
        if self.restart_memory is not None:
            _integer("restart_memory", self.restart_memory, 0)
            if self.restart_memory > self.memory:
                raise ValueError(
                    f"restart_memory: must be None or in [0, memory={self.memory}], got {self.restart_memory!r}"
                )
        if not callable(self.check_size) and self.check_size != "all":
            _integer("check_size", self.check_size, 1, ', "all" or a function of the batch size')

    def _check_combinations(self) -> None:
        if self.progress_decrease + self.progress_fraction <= 0.0:
            raise ValueError(
                "progress_decrease: progress_decrease + progress_fraction must be > 0 (Theorem 4.1), "
                f"got {self.progress_decrease!r} + {self.progress_fraction!r}"
            )
        if self.globalization == "trust-region" and (self.sgd_weight > 0.0 or self.momentum > 0.0):
            name = "sgd_weight" if self.sgd_weight > 0.0 else "momentum"
            raise ValueError(
                f'{name}: must be 0 with globalization="trust-region"; use globalization="line-search", '
                f"got {getattr(self, name)!r}"
            )
        if self.mixing == "printed" and self.sgd_weight > 0.0 and self.momentum == 0.0:
            raise ValueError(
                'sgd_weight: with mixing="printed" the SGD direction enters through momentum alone, so momentum must '
                f'be > 0 or mixing="convex"; got sgd_weight={self.sgd_weight!r}, momentum=0.0'
            )

    def replace(self, **changes: Any) -> Options:
        """Return a copy with some fields changed; an unknown field is a TypeError."""
        unknown = sorted(set(changes) - {f.name for f in dataclasses.fields(self)})
        if unknown:
            known = ", ".join(f.name for f in dataclasses.fields(self))
            raise TypeError(f"{unknown[0]}: unknown option; the options are {known}")
        return dataclasses.replace(self, **changes)

    @classmethod
    def paper(cls, **changes: Any) -> Options:
        """MB-LSR1 as printed, with Table 2's smallest memory, middle batch and larger radius."""
        return cls(
            memory=16, restart_memory=0, restart_tolerance=0.0, batch_size=256, initial_radius=1e-4, ratio_memory=1.0,
            check_every=10, progress_decrease=0.0, progress_fraction=0.1, sgd_weight=0.1, learning_rate=0.1,
            momentum=0.9, ratio="mean-of-ratios", scaling=scaling_rules.constant(1.0), globalization="line-search",
            radius_shrink=1.0, interpolate=False, overlap=0.0, poor_ratio=0.1,
            good_ratio=0.5, ratio_reset=False, matrix="sr1", mixing="printed",
        ).replace(**changes)  # fmt: skip

    @classmethod
    def l_ssr1_tr(cls, **changes: Any) -> Options:
        """L-SSR1-TR: m_hat = -1, gamma_2 = eta = zeta = 0, progress checked on the whole set."""
        return cls.paper(
            restart_memory=None, progress_decrease=1e-4, progress_fraction=0.0, sgd_weight=0.0, ratio_memory=0.0,
            check_size="all",
        ).replace(**changes)  # fmt: skip


_RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "restart_tolerance": ("", lambda x: True),
    "initial_radius": (" > 0", lambda x: x > 0.0),
    "ratio_memory": (" in [0, 1]", lambda x: 0.0 <= x <= 1.0),
    "progress_decrease": (" in [0, 1]", lambda x: 0.0 <= x <= 1.0),
    "progress_fraction": (" in [0, 1)", lambda x: 0.0 <= x < 1.0),
    "sgd_weight": (" in [0, 1]", lambda x: 0.0 <= x <= 1.0),
    "learning_rate": (" in [0, 1]", lambda x: 0.0 <= x <= 1.0),
    "momentum": (" in [0, 1)", lambda x: 0.0 <= x < 1.0),
    "descent_tolerance": (" in (0, 1)", lambda x: 0.0 < x < 1.0),
    "armijo": (" in (0, 1)", lambda x: 0.0 < x < 1.0),
    "gtol": (" >= 0", lambda x: x >= 0.0),
    "skip_tolerance": (" in [0, 1)", lambda x: 0.0 <= x < 1.0),
    "radius_shrink": (" in (0, 1]", lambda x: 0.0 < x <= 1.0),
}

_CHOICES = {
    "ratio": ("of-means", "mean-of-ratios"),
    "globalization": ("trust-region", "line-search"),
    "mixing": ("convex", "printed"),
}


def _integer(name: str, value: Any, low: int, more: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}: must be an int >= {low}{more}, got {value!r}")
    if value < low:
        raise ValueError(f"{name}: must be an int >= {low}{more}, got {value!r}")


def _real(name: str, value: Any, text: str, test: Callable[[float], bool]) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: must be a finite number{text}, got {value!r}")
    if not (math.isfinite(value) and test(float(value))):
        raise ValueError(f"{name}: must be a finite number{text}, got {value!r}")


def mb_lsr1(options: Options | None = None) -> Method:
    """Return MB-LSR1 (Algorithm 1) with these options; what `minimize` uses where `method` is None.

    Parameters
    ----------
    options : Options, optional
        The default is ``Options()``.
    """
    o = Options() if options is None else options
    rules = Rules(
        noisy=_noisy(o),
        whole=_whole(o),
        pairs=(
            pair_rules.classic()
            if o.restart_memory is None
            else pair_rules.restart(o.restart_tolerance, o.restart_memory)
        ),
        batch=noise_growth(o.theta, o.limit) if o.theta else progress_check(o.check_every, o.progress_decrease, o.progress_fraction, o.check_size, o.check_both),
    )
    return sr1_trust_region("mb-lsr1", o.memory, o.initial_radius, rules, o.overlap)


def _noisy(o: Options) -> Regime:
    thresholds = (o.poor_ratio, o.good_ratio)
    radius = radius_rules.progressive(o.ratio_memory, o.ratio, o.radius_shrink, thresholds, o.ratio_reset)
    if o.overlap == 0.0:
        return _whole(o)._replace(radius=radius)
    build = partial(build_smoothed, absolute=o.absolute, xx=o.xx)

    import os
    X = eval(os.environ.get("X", "{}"))
    X = {**X, **o.xx}

    def step(oracle: Oracle, point: Point, state: SR1State) -> tuple[Trial, Carried]:
        c = oracle.problem.counts
        t = c._thirds / c._limit
        t0 = X.get("t0", 0.5)
        s = min(1.0, (1 - t) / (1 - t0)) if t > t0 else 1.0
        s = max(s, 1e-3)
        beta = 1 - (1 - o.gradient_memory) * s ** X.get("pb", 0)
        delta = state.radius.delta * s ** X.get("pd", 0)
        trial, car = overlap_step(oracle, point, state.memory, delta, state.carried, beta, build)
        return trial._replace(radius=state.radius.delta if trial.point is not None else trial.radius), car

    return Regime(step, radius)


def _whole(o: Options) -> Regime:
    build = partial(build_better if o.matrix == "better" else build_model, scaling=o.scaling, skip_tolerance=o.skip_tolerance)
    radius = radius_rules.progressive(o.ratio_memory, o.ratio, o.radius_shrink)
    if o.globalization == "trust-region":

        def resolving(oracle: Oracle, point: Point, state: SR1State) -> tuple[Trial, Carried]:
            delta, floor = state.radius.delta, state.radius.smallest
            return resolve(oracle, point, state.memory, delta, floor, build), Carried()

        return Regime(resolving, radius_rules.interpolated(radius) if o.interpolate else radius)
    settings = LineSearchSettings(
        o.sgd_weight, o.momentum, o.learning_rate, o.descent_tolerance, o.armijo, o.mixing == "printed"
    )

    def searching(oracle: Oracle, point: Point, state: SR1State) -> tuple[Trial, Carried]:
        memory, delta, carried = state.memory, state.radius.delta, state.carried.vector
        trial, carried = get_step(oracle, point, memory, delta, carried, build, settings)
        return trial, Carried(carried)

    return Regime(searching, radius)
