"""Options: one field per parameter of the paper, checked once; and the methods they stand for."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mblsr1.checks import flag, integer, real
from mblsr1.linalg import scaling as scaling_rules
from mblsr1.linalg.metric import checked_metric
from mblsr1.linalg.scaling import ScalingRule
from mblsr1.methods.names import unknown_option
from mblsr1.methods.sr1_trust_region import Regime, Rules, SR1State, StepRule, sr1_trust_region
from mblsr1.problem import Oracle
from mblsr1.rules import metric as metric_rules
from mblsr1.rules import pairs as pair_rules
from mblsr1.rules import radius as radius_rules
from mblsr1.rules.batch import default_check_size, noise_growth, progress_check
from mblsr1.rules.metric import MetricRule
from mblsr1.rules.pairs import PairRule
from mblsr1.steps.get_step import LineSearchSettings, get_step
from mblsr1.steps.model import ModelBuilder, better_model, lbfgs_model, smoothed_model, sr1_model
from mblsr1.steps.overlap import annealed, overlap_step
from mblsr1.steps.resolve import resolve
from mblsr1.types import BatchRule, Carried, Method, Point, Trial

__all__ = ["Options", "mb_lsr1"]

#: Pairs kept where the options leave it open (measured: docs/default.md).
SAMPLE_MEMORY, WHOLE_MEMORY = 64, 20


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of MB-LSR1. `Options()` is recommended, `Options.paper()` is the paper as printed.

    Parameters
    ----------
    memory : None or int >= 0
        m: pairs kept. The memory cost is 2 m vectors. None: 64 on samples, 20 on the whole set.
    restart_memory : None or int in [0, memory], up to 20 where that is None
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
    sample_matrix, whole_matrix : {"smoothed", "better", "sr1", "l-bfgs"}
        Matrix of the model on samples and on the whole set: the smoothed curvature of the pairs, the better
        predictor of SR1 and L-BFGS, or one of them.
    absolute : bool
        Take the absolute values of the smoothed matrix's eigenvalues.
    overlap : float in [0, 0.5]
        Share of a batch that the next one evaluates again; y, R and Q come from it. 0 draws every batch anew
        and re-solves as on the whole set. No part of the line search.
    gradient_memory : float in [0, 1)
        Weight of the past in the running mean of batch gradients that is the model's linear term (overlap > 0).
    poor_ratio, good_ratio : float in [0, 1]
        Mean ratios below the first shrink the radius, from the second on they let it grow (Alg. 5).
    ratio_reset : bool
        Forget the averaged ratio after each change of the radius.
    growth : {"noise", "progress"}
        How the batch grows: where noise outweighs the gradient (needs overlap), or by Alg. 6.
    noise_limit : float in (0, 1]
        growth="noise": share of noise in the batch gradient's square above which the batch doubles.
    largest_share : float in (0, 1]
        growth="noise": the batch grows up to this share of the whole set.
    averaging : float in [0, 1)
        Above 0 the result has `x_average`, the mean of the iterates with weight averaging^age.
    anneal : bool
        Shrink the radius in the last quarter of `max_samples` (overlap > 0). A run that is to be continued bit for
        bit has `max_steps` as its budget, or anneal=False.
    mixing : {"convex", "printed"}
        Line 6 of Alg. 4: (1 - eta)(p* + mu v) + eta v, or (1 - eta) p* + mu v as printed, which needs
        momentum > 0 where sgd_weight > 0.
    check_both : bool
        Evaluate both iterates of a progress check on the new sample.
    blocks : None or sequence of shapes
        What is known of the parameters' structure: shapes of the arrays that make up w, in order. The trust region is
        then measured in a metric that is learnt from them, `mblsr1.metric.kronecker(blocks)`.
    metric : None or callable
        Another metric, see `mblsr1.metric`. Neither is part of the line search.

    Raises
    ------
    ValueError, TypeError
        On construction: where a field is outside its range, of another type, or at odds with another field. The
        message names the field, the value and what is allowed.

    Examples
    --------
    >>> import mblsr1
    >>> mblsr1.Options().replace(memory=32).memory
    32
    """

    memory: int | None = None
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
    sample_matrix: str = "smoothed"
    whole_matrix: str = "better"
    absolute: bool = True
    overlap: float = 0.125
    gradient_memory: float = 0.5
    poor_ratio: float = 0.4
    good_ratio: float = 0.8
    ratio_reset: bool = True
    growth: str = "noise"
    noise_limit: float = 0.6
    largest_share: float = 0.25
    anneal: bool = True
    averaging: float = 0.0
    mixing: str = "convex"
    check_both: bool = False
    blocks: Sequence[tuple[int, ...] | int] | None = None
    metric: MetricRule | None = None

    def __post_init__(self) -> None:
        if self.memory is not None:
            integer("memory", self.memory, 0)
        for name, low in (("batch_size", 1), ("check_every", 1), ("steps_per_batch", 1)):
            integer(name, getattr(self, name), low)
        for name, (text, test) in _RANGES.items():
            real(name, getattr(self, name), text, test)
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if not (isinstance(value, str) and value in allowed):
                raise ValueError(f"{name}: must be one of {', '.join(map(repr, allowed))}, got {value!r}")
        for name in _FLAGS:
            object.__setattr__(self, name, flag(name, getattr(self, name)))
        scaling_rules.check_rule(self.scaling)
        self._check_metric()
        self._check_sizes()
        self._check_combinations()
        self._check_effect()
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
            integer("restart_memory", self.restart_memory, 0)
            most = WHOLE_MEMORY if self.memory is None else self.memory
            if self.restart_memory > most:
                raise ValueError(f"restart_memory: must be None or in [0, memory={most}], got {self.restart_memory!r}")
        if not callable(self.check_size) and not (isinstance(self.check_size, str) and self.check_size == "all"):
            integer("check_size", self.check_size, 1, ', "all" or a function of the batch size')

    def _check_metric(self) -> None:
        if self.blocks is not None:
            object.__setattr__(self, "blocks", metric_rules.checked_shapes(self.blocks))
        if self.metric is not None and (not callable(self.metric) or self.metric in _METRIC_RULES):
            raise TypeError(f"metric: must be None or a rule such as mblsr1.metric.diagonal(), got {self.metric!r}")
        if self.metric is not None and self.blocks is not None:
            raise ValueError("metric: must be None where blocks are given, which stand for metric.kronecker(blocks)")
        for name in ("metric", "blocks"):
            if getattr(self, name) is not None and self.globalization == "line-search":
                raise ValueError(f'{name}: must be None with globalization="line-search", got {getattr(self, name)!r}')

    def _check_combinations(self) -> None:
        if self.progress_decrease + self.progress_fraction <= 0.0:
            raise ValueError(
                "progress_decrease: progress_decrease + progress_fraction must be > 0 (Theorem 4.1), "
                f"got {self.progress_decrease!r} + {self.progress_fraction!r}"
            )
        if self.poor_ratio > self.good_ratio:
            raise ValueError(f"poor_ratio: must be <= good_ratio={self.good_ratio!r}, got {self.poor_ratio!r}")
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

    def _check_effect(self) -> None:
        """Refuse a value that was chosen but has no effect beside the others."""
        by_search = self.globalization == "line-search"
        for idle, names, needed in (
            (not by_search, ("learning_rate", "descent_tolerance", "armijo"), 'globalization="line-search"'),
            (by_search and self.overlap > 0.0, ("overlap",), 'globalization="trust-region"'),
        ):
            for name in names if idle else ():
                value = getattr(self, name)
                if value != _DEFAULTS[name]:
                    raise ValueError(f"{name}: must be left as it is without {needed}, got {value!r}")

    def replace(self, **changes: Any) -> Options:
        """Return a copy with some fields changed; an unknown field is a TypeError."""
        known = [f.name for f in dataclasses.fields(self)]
        for name in sorted(set(changes) - set(known)):
            raise unknown_option(name, known)
        return dataclasses.replace(self, **changes)

    @classmethod
    def paper(cls, **changes: Any) -> Options:
        """MB-LSR1 as printed, with Table 2's smallest memory, middle batch and larger radius."""
        return cls(
            memory=16, restart_memory=0, restart_tolerance=0.0, batch_size=256, initial_radius=1e-4, ratio_memory=1.0,
            check_every=10, progress_decrease=0.0, progress_fraction=0.1, sgd_weight=0.1, learning_rate=0.1,
            momentum=0.9, ratio="mean-of-ratios", scaling=scaling_rules.constant(1.0), globalization="line-search",
            radius_shrink=1.0, interpolate=False, sample_matrix="sr1", whole_matrix="sr1", absolute=False, overlap=0.0,
            gradient_memory=0.0, poor_ratio=0.1, good_ratio=0.5, ratio_reset=False, growth="progress", anneal=False,
            mixing="printed",
        ).replace(**changes)  # fmt: skip

    @classmethod
    def l_ssr1_tr(cls, **changes: Any) -> Options:
        """L-SSR1-TR: m_hat = -1, gamma_2 = eta = zeta = 0, progress checked on the whole set."""
        return cls.paper(
            restart_memory=None, progress_decrease=1e-4, progress_fraction=0.0, sgd_weight=0.0, ratio_memory=0.0,
            check_size="all",
        ).replace(**changes)  # fmt: skip


_DEFAULTS = {f.name: f.default for f in dataclasses.fields(Options)}
_FLAGS = ("check_both", "interpolate", "absolute", "ratio_reset", "anneal")
#: Rules without their brackets.
_METRIC_RULES: tuple[Any, ...] = (
    metric_rules.identity,
    metric_rules.fixed,
    metric_rules.diagonal,
    metric_rules.kronecker,
)

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
    "averaging": (" in [0, 1)", lambda x: 0.0 <= x < 1.0),
    "overlap": (" in [0, 0.5]", lambda x: 0.0 <= x <= 0.5),
    "gradient_memory": (" in [0, 1)", lambda x: 0.0 <= x < 1.0),
    "poor_ratio": (" in [0, 1]", lambda x: 0.0 <= x <= 1.0),
    "good_ratio": (" in [0, 1]", lambda x: 0.0 <= x <= 1.0),
    "noise_limit": (" in (0, 1]", lambda x: 0.0 < x <= 1.0),
    "largest_share": (" in (0, 1]", lambda x: 0.0 < x <= 1.0),
}

_MATRICES = ("smoothed", "better", "sr1", "l-bfgs")

_CHOICES = {
    "sample_matrix": _MATRICES,
    "whole_matrix": _MATRICES,
    "growth": ("noise", "progress"),
    "ratio": ("of-means", "mean-of-ratios"),
    "globalization": ("trust-region", "line-search"),
    "mixing": ("convex", "printed"),
}


def mb_lsr1(options: Options | None = None, whole: bool = False) -> Method:
    """Return MB-LSR1 (Algorithm 1) with these options; what `minimize` uses where `method` is None.

    Parameters
    ----------
    options : Options, optional
        The default is ``Options()``.
    whole : bool
        Whether every batch will be the whole set; decides the memory where the options leave it open.

    Returns
    -------
    Method
        For `minimize`'s `method`. A named tuple: ``_replace(batch_rule=...)`` puts in another rule for the batch.

    Raises
    ------
    ValueError
        At the start of a run, where the blocks of `options` do not add up to w.
    """
    o = Options() if options is None else options
    overlap = 0.0 if o.globalization == "line-search" else o.overlap
    radius = radius_rules.progressive(
        o.ratio_memory, o.ratio, o.radius_shrink, (o.poor_ratio, o.good_ratio), o.ratio_reset
    )
    on_whole = radius_rules.interpolated(radius) if o.interpolate else radius
    memory = o.memory if o.memory is not None else WHOLE_MEMORY if whole else SAMPLE_MEMORY
    rules = Rules(
        noisy=Regime(_overlapping(o) if overlap else _stepping(o, o.sample_matrix), radius),
        whole=Regime(_stepping(o, o.whole_matrix), on_whole),
        pairs=_pair_rule(o),
        batch=_batch_rule(o, overlap),
        metric=_metric_rule(o),
    )
    return sr1_trust_region("mb-lsr1", memory, o.initial_radius, rules, overlap)


def _metric_rule(o: Options) -> MetricRule:
    if o.blocks is not None:
        return metric_rules.kronecker(o.blocks)
    rule = metric_rules.identity() if o.metric is None else o.metric
    return lambda w: checked_metric(rule(w))


def _pair_rule(o: Options) -> PairRule:
    if o.restart_memory is None:
        return pair_rules.classic()
    return pair_rules.restart(o.restart_tolerance, o.restart_memory)


def _batch_rule(o: Options, overlap: float) -> BatchRule:
    if o.growth == "noise" and overlap:
        return noise_growth(o.noise_limit, o.largest_share)
    return progress_check(o.check_every, o.progress_decrease, o.progress_fraction, o.check_size, o.check_both)


def _builder(o: Options, matrix: str) -> ModelBuilder:
    if matrix == "smoothed":
        return smoothed_model(o.absolute)
    if matrix == "l-bfgs":
        return lbfgs_model()
    return (better_model if matrix == "better" else sr1_model)(o.scaling, o.skip_tolerance)


def _overlapping(o: Options) -> StepRule:
    """Steps on batches that overlap."""
    build = _builder(o, o.sample_matrix)

    def step(oracle: Oracle, point: Point, state: SR1State) -> tuple[Trial, Carried]:
        delta = annealed(state.radius.delta, oracle.share_spent) if o.anneal else state.radius.delta
        trial, mean = overlap_step(
            oracle, point, state.memory, delta, state.carried, o.gradient_memory, build, state.metric
        )
        return trial._replace(radius=state.radius.delta), mean

    return step


def _stepping(o: Options, matrix: str) -> StepRule:
    """Steps by re-solving or by the line search, on the whole set or on batches drawn anew."""
    build = _builder(o, matrix)
    if o.globalization == "trust-region":

        def resolving(oracle: Oracle, point: Point, state: SR1State) -> tuple[Trial, Carried]:
            if oracle.is_full and o.memory is None:
                state.memory.keep_newest(WHOLE_MEMORY)
            delta, floor = state.radius.delta, state.radius.smallest
            return resolve(oracle, point, state.memory, delta, floor, build, state.metric), Carried()

        return resolving
    settings = LineSearchSettings(
        o.sgd_weight, o.momentum, o.learning_rate, o.descent_tolerance, o.armijo, o.mixing == "printed"
    )

    def searching(oracle: Oracle, point: Point, state: SR1State) -> tuple[Trial, Carried]:
        memory, delta, carried = state.memory, state.radius.delta, state.carried.vector
        trial, carried = get_step(oracle, point, memory, delta, carried, build, settings)
        return trial, Carried(carried)

    return searching
