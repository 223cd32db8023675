"""Shapes of what the layers hand to each other: frozen, without logic."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from mblsr1._array import Array

__all__ = ["Carried", "CheckState", "Method", "Outcome", "Point", "Status", "Trial"]

NAN = float("nan")


class Status(IntEnum):
    """Why a run ended; the numbers are part of the public interface.

    Attributes
    ----------
    CONVERGED : 0
        The gradient over the whole set is within gtol.
    STEP_BUDGET, SAMPLE_BUDGET : 1, 2
        max_steps or max_samples is used up.
    STOPPED : 3
        The callback asked for it.
    NON_FINITE : 4
        The loss or the gradient at the iterate is not finite.
    NO_PROGRESS : 5
        Nothing more is possible at this precision.
    """

    CONVERGED = 0
    STEP_BUDGET = 1
    SAMPLE_BUDGET = 2
    STOPPED = 3
    NON_FINITE = 4
    NO_PROGRESS = 5


MESSAGES = {
    Status.CONVERGED: "converged: the gradient over the whole set is within gtol",
    Status.STEP_BUDGET: "the step budget max_steps is used up",
    Status.SAMPLE_BUDGET: "the sample budget max_samples is used up",
    Status.STOPPED: "stopped by the callback",
    Status.NON_FINITE: "the loss or the gradient at the iterate is not finite",
    Status.NO_PROGRESS: "no further progress is possible at this precision",
}


class Point(NamedTuple):
    """An iterate and what the current batch says of it.

    Attributes
    ----------
    w : array (d,)
    f : float
        Loss.
    g : array (d,) or None
        Gradient; None where it is not known or not finite.
    """

    w: Array
    f: float
    g: Array


class Trial(NamedTuple):
    """What Algorithm 4 hands to Algorithms 3, 5 and 6: one tried step.

    `decrease` is R and `predicted` is Q of the ratio rho = R / Q (both negative on
    a good step, nan where rounding decides); `achieved` is f(w + s) - f(w). The defaults
    are those of no step.
    """

    point: Point | None = None
    s: Array | None = None
    y: Array | None = None
    s_norm: float = 0.0
    decrease: float = NAN
    predicted: float = NAN
    achieved: float = 0.0
    on_boundary: bool = False
    radius: float = NAN
    sigma: float = NAN
    alpha: float = 0.0
    slope: float = NAN
    slope_new: float = NAN
    restarted: bool = False
    flipped: bool = False
    rejections: int = 0
    stationary: bool = False  # the norm of the batch gradient is zero or overflows: no step, and nothing learnt


class Carried(NamedTuple):
    """A vector that a step leaves to the next, and the weight it has gathered."""

    vector: Array | None = None
    weight: float = 0.0


class Outcome(NamedTuple):
    """What a method's step hands to the driver.

    Attributes
    ----------
    w : array (d,)
        The next iterate.
    f : float
        Loss there on the batch of the step, nan where it is not known.
    g : array (d,) or None
        Gradient there on the same batch, where it is known.
    achieved : float
        Change of the loss on that batch, summed by Algorithm 6.
    scalars : dict of str to float
        Go into the history.
    stuck : bool
        Whether no further step can help; the run ends.
    """

    w: Array
    f: float
    g: Array | None
    achieved: float
    scalars: dict[str, float]
    stuck: bool = False


class CheckState(NamedTuple):
    """State of the batch rule, Algorithm 6: batch size, f_K, sum of R, steps since.

    The norm test keeps its mean noise and the weight of that mean in the last two.
    """

    size: int
    reference: float
    sum_decrease: float
    since: float
    w: Array | None


class BatchRule(Protocol):
    """Algorithm 6 as a replaceable function; see :mod:`mblsr1.rules.batch`."""

    def __call__(self, state: CheckState, outcome: Outcome, problem: Any) -> CheckState:
        """Return the state with the next batch size."""


class Method(NamedTuple):
    """An optimizer as two functions: any object of this shape runs in the driver.

    Attributes
    ----------
    name : str
    init : callable
        ``init(w) -> inner`` makes the method's own state, a tree of NamedTuples, arrays and numbers.
    step : callable
        ``step(oracle, inner, point, rng) -> (inner, Outcome)`` makes one step.
    needs_loss : bool
        Whether the method uses the loss at the iterate.
    batch_rule : BatchRule or None
        Algorithm 6; None keeps the batch size.
    overlap : float
        Share of a batch that the next one evaluates again, in [0, 0.5].
    needs_whole : bool
        Whether the method asks for the gradient over the whole set, ``oracle.whole_gradient(w)``; a stream has none.
    """

    name: str
    init: Callable[[Array], Any]
    step: Callable[..., tuple[Any, Outcome]]
    needs_loss: bool = True
    batch_rule: BatchRule | None = None
    overlap: float = 0.0
    needs_whole: bool = False
