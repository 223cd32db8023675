"""Algorithm 2, ExitCheck: a small batch gradient is believed only from the whole set."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

__all__ = ["ExitState", "exit_check"]


class ExitState(NamedTuple):
    """Steps to wait before the whole set may be evaluated again (reading 16)."""

    wait: int = 0


def exit_check(
    state: ExitState, grad_norm: float, gtol: float, every: int, is_full: bool, full_norm: Callable[[], float]
) -> tuple[bool, ExitState]:
    """Return whether the gradient is within `gtol`, over the whole set.

    Tested before the step, with the gradient at the iterate that is returned, and over the
    whole set at most once in `every` steps (reading 16).
    """
    wait = max(state.wait - 1, 0)
    if not grad_norm <= gtol or (wait and not is_full):
        return False, ExitState(wait)
    if is_full:
        return True, ExitState(wait)
    return full_norm() <= gtol, ExitState(every)
