"""Vectors longer than one machine: every rank runs the solver on its part of w, g and the pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mblsr1 import _array, _reduction
from mblsr1._array import Array
from mblsr1.distributed.communicator import Communicator, communicator, raise_everywhere
from mblsr1.problem import Counts, Problem

__all__ = ["Parts", "vectors_in_parts"]

Numbers = NDArray[np.float64]
#: What a rank is doing within a function: adding, at the end, at the end by an exception.
_SUM, _DONE, _FAILED = range(3)
#: Numbers by which ranks tell each other that, with all that are to be added where there are no more.
_HEAD = 16


@contextmanager
def vectors_in_parts(comm: Any) -> Iterator[Parts]:
    """Let the vectors of the solver lie in parts on the ranks of a communicator, while the context lasts.

    Every rank calls `minimize` (or `iterate`, whose steps have to be made within the context) with the same options
    and seed and with its part of w0, of any array library; `result.x`, `step.x` and the state are the rank's parts.
    All inner products are summed over the ranks, in their order, so that all ranks decide alike.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm or torch.distributed.ProcessGroup

    Yields
    ------
    Parts
        What the user's functions need: sums over the ranks, and errors that reach all of them.

    Raises
    ------
    TypeError, ValueError
        Where `comm` is unusable.

    Notes
    -----
    A rank holds 1 / P of everything that is as long as w. A step exchanges a few times some numbers; nothing that is as
    long as a part is sent. Results differ by rounding from those of another number of ranks. The metrics of
    `mblsr1.metric` other than `identity` and `fixed`, and so the option `blocks`, need whole vectors.

    Examples
    --------
    Minimise a sum over the entries of w, on one rank or under ``mpiexec -n 4 python -m mpi4py script.py``:

    >>> import numpy as np, mblsr1
    >>> from mblsr1.distributed import vectors_in_parts
    >>> class Alone:
    ...     rank, size = 0, 1
    ...     def all_gather(self, send):
    ...         return send[None, :]
    ...     def all_to_all(self, send, counts):
    ...         return list(send)
    >>> with vectors_in_parts(Alone()) as parts:
    ...     fun, grad = parts.functions(lambda w: parts.sum(np.cosh(w).sum()), lambda w: np.sinh(w))
    ...     result = mblsr1.minimize(fun, grad, np.ones(3))
    >>> round(result.fun, 6)
    3.0
    """
    parts = Parts(communicator(comm))
    with _reduction.reduced_by(parts):
        yield parts


class Parts:
    """The ranks that hold the parts.

    Attributes
    ----------
    rank, size : int
        Which part is here, and how many there are.
    """

    def __init__(self, ranks: Communicator) -> None:
        self._ranks, self.rank, self.size = ranks, ranks.rank, ranks.size
        self._told: Exception | None = None  # what has ended the function in hand on all ranks

    def gather(self, x: Numbers) -> Numbers:
        """Return the (size, n) numbers of all ranks, each of which gives (n,)."""
        return self._ranks.all_gather(x)

    def stop_all(self, error: BaseException | None) -> None:
        """Raise on all ranks where one of them has an error: that there, elsewhere a `RankError`.

        Parameters
        ----------
        error : exception or None
            This rank's.
        """
        raise_everywhere(self._ranks, error, [bool(flag) for flag in self.gather(np.array([float(error is not None)]))])

    def sum(self, x: Any) -> Any:
        """Sum over the ranks in their order: the same bits on all of them.

        Parameters
        ----------
        x : float or array
            An array is summed entry by entry and returned in its library and dtype; it is as long on all ranks.
        """
        numbers = np.atleast_1d(_array.host(x)) if _array.is_array(x) else np.array([float(x)])
        whole: Numbers = self._exchanged(_SUM, numbers.ravel()).sum(axis=0)
        return _array.from_host(whole.reshape(x.shape), x) if getattr(x, "shape", ()) else float(whole[0])

    def functions(
        self, fun: Callable[..., Any], grad: Callable[..., Any] | bool
    ) -> tuple[Callable[..., Any], Callable[..., Any] | bool]:
        """Return the functions with one more exchange: an exception on one rank stops all, and all see one loss.

        Parameters
        ----------
        fun : callable
            ``fun(w, batch) -> scalar``, the whole loss, from this rank's part of w; that of rank 0 is taken.
        grad : callable or True
            ``grad(w, batch) -> array like w``, this rank's part; or True where `fun` returns ``(value, gradient)``.

        Returns
        -------
        fun, grad
            For `minimize`. They raise a `RankError` where another rank's function raised an exception.
        """
        if not (callable(fun) and (callable(grad) or grad is True)):
            raise TypeError(f"fun, grad: must be callables, or grad True, got {fun!r:.60} and {grad!r:.60}")
        if grad is True:
            return self._stopping_all(fun, _checked_both, lambda loss, both: (loss, both[1])), True
        of_loss = self._stopping_all(fun, _checked_loss, lambda loss, _: loss)
        return of_loss, self._stopping_all(grad, _checked_gradient, lambda _, g: g)

    def _stopping_all(
        self,
        function: Callable[..., Any],
        loss_in: Callable[[Problem, Any], float],
        with_loss: Callable[[float, Any], Any],
    ) -> Callable[..., Any]:
        def call(w: Array, *batch: Any) -> Any:
            error: BaseException | None = None
            value, loss, self._told = None, 0.0, None
            try:
                value = function(w, *batch)
                loss = loss_in(Problem(function, None, None, w, bool(batch), Counts()), value)
            except BaseException as raised:  # whatever it is, the others wait for this rank
                error = raised
            if self._told is not None:
                raise self._told if error is None else error
            losses = self._exchanged(_DONE if error is None else _FAILED, np.array([loss]), error)
            return with_loss(float(losses[0, 0]), value)

        return call

    def _exchanged(self, doing: int, numbers: Numbers, error: BaseException | None = None) -> Numbers:
        """Return the (size, n) numbers of all ranks, which tell each other first what they are doing."""
        head = np.zeros(_HEAD)
        head[:2], few = (doing, numbers.size), numbers[: _HEAD - 2]
        head[2 : 2 + few.size] = few
        heads = self.gather(head)
        try:
            raise_everywhere(self._ranks, error, [bool(flag) for flag in heads[:, 0] == _FAILED])
            _check_sums(heads)
        except Exception as told:
            self._told = told
            raise
        return heads[:, 2 : 2 + few.size] if few.size == numbers.size else self.gather(numbers)


def _check_sums(heads: Numbers) -> None:
    if len(set(heads[:, 0])) > 1:
        raise ValueError("parts.sum: must be called as often on all ranks, and one has come to the end of the function")
    if len(set(heads[:, 1])) > 1:
        raise ValueError(f"parts.sum: must be as long on all ranks, got {[int(n) for n in heads[:, 1]]}")


def _checked_loss(problem: Problem, loss: Any) -> float:
    return _array.to_float(problem.checked_loss(loss))


def _checked_gradient(problem: Problem, g: Any) -> float:
    problem.checked_gradient(g, "grad")
    return 0.0


def _checked_both(problem: Problem, both: Any) -> float:
    return _array.to_float(problem.checked_both(both)[0])
