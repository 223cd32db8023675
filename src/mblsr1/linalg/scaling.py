"""Rules for gamma, the curvature of B0 = gamma I.

A rule is a function of :class:`~mblsr1.linalg.pairs.GramBlocks` that returns gamma.
The paper leaves B0 open (docs/deviations.md, 19); which rule is used decides more
than any other choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg

from mblsr1.checks import real
from mblsr1.linalg.pairs import GramBlocks

__all__ = ["LARGEST_GAMMA", "ScalingRule", "ceiling", "check_rule", "constant", "from_below", "gamma_of", "last_pair"]

#: A function of the pairs' inner products (:class:`~mblsr1.linalg.pairs.GramBlocks`) that returns a finite gamma.
ScalingRule = Callable[[GramBlocks], float]

#: The square of gamma, and sums of k such terms, must not overflow.
LARGEST_GAMMA = 1e152


def gamma_of(rule: ScalingRule, blocks: GramBlocks) -> float:
    """Return the rule's gamma, at most 1e152 in size; a TypeError or ValueError where it is no finite number."""
    return _bounded(rule(blocks))


def check_rule(rule: Any) -> None:
    """Ask a rule for gamma without pairs, as a run's first step does: a TypeError or ValueError where it is none."""
    text = f"scaling: must be a gamma rule such as mblsr1.scaling.ceiling(), got {rule!r:.80}"
    if not callable(rule):
        raise TypeError(text)
    try:
        gamma = rule(GramBlocks(*np.zeros((3, 0, 0))))
    except TypeError as error:  # the brackets were forgotten
        raise TypeError(text) from error
    _bounded(gamma)


def _bounded(gamma: Any) -> float:
    number = real("scaling", gamma, "", lambda x: True, "a rule that returns a finite number")
    return min(max(number, -LARGEST_GAMMA), LARGEST_GAMMA)


def constant(value: float = 1.0) -> ScalingRule:
    """Return the rule gamma = `value`, with or without pairs (the paper's matrix I at 1).

    Parameters
    ----------
    value : float
        Finite; may be negative or zero.

    Raises
    ------
    ValueError, TypeError
        Where `value` is no finite number.
    """
    gamma = real("value", value, "", lambda x: True)
    return lambda blocks: gamma


def last_pair() -> ScalingRule:
    """Return the rule gamma = y'y / s'y of the newest pair with s'y > 0 (the habit of L-BFGS).

    Without such a pair gamma is 1. On convex functions this rule creates spurious
    negative curvature.
    """

    def rule(blocks: GramBlocks) -> float:
        usable = np.flatnonzero(np.diag(blocks.SY) > 1e-8 * np.sqrt(np.diag(blocks.YY)))
        if usable.size == 0:
            return 1.0
        newest = usable[-1]
        return float(blocks.YY[newest, newest] / blocks.SY[newest, newest])

    return rule


def from_below(fraction: float = 0.5) -> ScalingRule:
    """Return the rule that stays below the smallest lambda of (L + D + L')u = lambda S'S u.

    gamma = `fraction` lambda where lambda > 0 and lambda (2 - `fraction`) elsewhere, so that
    M is positive definite and B >= gamma I: no negative curvature that the pairs do not
    show (origin: Erway, Griffin, Marcia, Omheni). Without pairs gamma is 1.

    Parameters
    ----------
    fraction : float
        In (0, 1).

    Raises
    ------
    ValueError, TypeError
        Where `fraction` is outside its range.
    """
    fraction = real("fraction", fraction, " in (0, 1)", lambda x: 0.0 < x < 1.0)

    def rule(blocks: GramBlocks) -> float:
        if blocks.k == 0:
            return 1.0
        value = _smallest_generalised_eigenvalue(blocks)
        least = 1e-6 * min(1.0, math.sqrt(float(blocks.YY.diagonal().max())))  # of the largest ||y|| / ||s||
        if abs(value) < least:
            return math.copysign(least, value)
        return fraction * value if value > 0 else (2.0 - fraction) * value

    return rule


def _smallest_generalised_eigenvalue(blocks: GramBlocks) -> float:
    """Smallest lambda of (L + D + L')u = lambda S'S u on the well-determined part of span(S)."""
    A = np.tril(blocks.SY) + np.tril(blocks.SY, -1).T
    values, vectors = scipy.linalg.eigh(blocks.SS)
    keep = values > 1e-10 * values[-1]
    whiten = vectors[:, keep] / np.sqrt(values[keep])
    return float(scipy.linalg.eigvalsh(whiten.T @ A @ whiten)[0])


def ceiling(factor: float = 2.0) -> ScalingRule:
    """Return the rule gamma = `factor` times the largest ||y||/||s|| in memory.

    With gamma above every observed curvature the SR1 denominators keep their sign.
    Without pairs gamma is 0: the first step is the longest that the radius allows.

    Parameters
    ----------
    factor : float
        > 1.

    Raises
    ------
    ValueError, TypeError
        Where `factor` is outside its range.
    """
    factor = real("factor", factor, " > 1", lambda x: x > 1.0)

    def rule(blocks: GramBlocks) -> float:
        if blocks.k == 0:
            return 0.0
        return factor * math.sqrt(float(blocks.YY.diagonal().max()))

    return rule
