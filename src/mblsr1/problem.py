"""The user's functions, bound to one batch at a time: all calls, counts and checks go through here.

A method sees an :class:`Oracle`, never the data: the paper's f^(w; I) with I suppressed.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mblsr1 import _array
from mblsr1._array import Array
from mblsr1.types import Point

__all__ = ["CHUNK", "GRADIENT", "BudgetSpent", "Counts", "Oracle", "OverlapOracle", "Problem"]

#: Samples handed to the user's functions at once when the whole set is evaluated.
CHUNK = 5_000
#: Cost in thirds of a sample-gradient: a gradient (alone or with its loss), a loss alone, a Hessian-vector product.
GRADIENT, _LOSS, _HVP = 3, 1, 6


class BudgetSpent(Exception):
    """The next evaluation would exceed max_samples; never leaves the driver.

    Attributes
    ----------
    too_large : bool
        Whether it would even be more than the whole of max_samples.
    """

    def __init__(self, too_large: bool) -> None:
        super().__init__()
        self.too_large = too_large


class Counts:
    """Calls and cost of a run. Changed only by :class:`Oracle`.

    Attributes
    ----------
    nfev, njev : int
        Calls of the loss and of the gradient (a fused call counts as both).
    """

    def __init__(self) -> None:
        self.nfev = self.njev = self._thirds = 0
        self._start, self._limit = 0, math.inf

    def limit(self, max_samples: float | None, since: int | None = None) -> None:
        """Allow this many sample-gradients from now on, or from the cost `since` on; None is no limit."""
        self._start = self._thirds if since is None else since
        self._limit = math.inf if max_samples is None else self._start + 3 * max_samples

    @property
    def start(self) -> int:
        """Cost, in thirds of a sample-gradient, from which the limit counts."""
        return self._start

    @property
    def share_spent(self) -> float:
        """Share of max_samples that is spent; 0 without that budget."""
        return (self._thirds - self._start) / (self._limit - self._start) if self._limit > self._start else 1.0

    @property
    def n_samples(self) -> float:
        """Cost in sample-gradients; a loss alone is a third, a Hessian-vector product two."""
        return self._thirds / 3 if self._thirds % 3 else self._thirds // 3

    def demand(self, size: int, thirds: int) -> None:
        """End the run where an evaluation would exceed the limit."""
        if self._thirds + size * thirds > self._limit:
            raise BudgetSpent(size * thirds > self._limit - self._start)

    def spend(self, size: int, thirds: int) -> None:
        """Account for an evaluation before it is made."""
        self.demand(size, thirds)
        self._thirds += size * thirds

    def to_saved(self) -> dict[str, int]:
        """Return the counts as numbers."""
        return {"nfev": self.nfev, "njev": self.njev, "thirds": self._thirds}

    def restore(self, saved: dict[str, int]) -> None:
        """Continue counting from `to_saved`."""
        self.nfev, self.njev, self._thirds = int(saved["nfev"]), int(saved["njev"]), int(saved["thirds"])


class Problem:
    """Loss and gradient with the shape, dtype and device that they must keep.

    Parameters
    ----------
    fun : callable
        ``fun(w, batch) -> loss``; with `fused` ``-> (loss, gradient)``.
    grad : callable or None
        ``grad(w, batch) -> gradient``, an array like w; None where fused.
    hvp : callable or None
        ``hvp(w, v, batch) -> Hessian times v``.
    w0 : array
        Start, in the user's shape.
    takes_batch : bool
        Whether the functions take a batch at all.
    counts : Counts
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        grad: Callable[..., Any] | None,
        hvp: Callable[..., Any] | None,
        w0: Array,
        takes_batch: bool,
        counts: Counts,
    ) -> None:
        self.fun, self.grad, self.hvp = fun, grad, hvp
        self.shape = tuple(w0.shape)
        self.like = w0
        self.takes_batch = takes_batch
        self.counts = counts
        self.n_samples: int | None = None
        self._chunks: Callable[[int], Iterable[tuple[Any, int]]] | None = None
        self._settings = _array.caller_settings()

    def over_whole_set(self, n_samples: int | None, chunks: Callable[[int], Iterable[tuple[Any, int]]]) -> None:
        """Say what the whole set is: its size, None where it is unknown, and ``chunks(size)`` over it."""
        self.n_samples, self._chunks = n_samples, chunks

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function of the user, with the user's treatment of floating-point errors."""
        try:
            with _array.with_settings(self._settings):
                return function(*arguments)
        except StopIteration as error:  # which would end the generator that the run is
            names = {"fun": self.fun, "grad": self.grad, "hvp": self.hvp}
            name = next((name for name, known in names.items() if function is known), "sampler: draw(size, rng)")
            raise ValueError(f"{name} raised StopIteration; only a callback may stop a run so") from error

    def bind(self, batch: Any, size: int, is_full: bool) -> Oracle:
        """Return the oracle of one batch."""
        return Oracle(self, (batch,) if self.takes_batch else (), size, is_full)

    def whole_gradient(self, w: Array, size: int) -> Array | None:
        """Mean gradient over the whole set; nothing is evaluated where the budget does not allow all of it."""
        if self.n_samples is None or self._chunks is None:
            raise ValueError("sampler: the gradient over the whole set needs a sampler with a known n_samples")
        self.counts.demand(self.n_samples, GRADIENT)
        return self.full_gradient(w, self._chunks(max(CHUNK, size)))

    def full_gradient(self, w: Array, chunks: Iterable[tuple[Any, int]]) -> Array | None:
        """Return the mean gradient over chunks of the whole set; None where it is not finite."""
        total, mean = 0, None
        for batch, count in _checked_chunks(chunks):
            g = self.bind(batch, count, False).gradient(w)
            if g is None:
                return None
            mean = g * float(count) if mean is None else mean + g * float(count)
            total += count
        if mean is None or self.n_samples not in (None, total):
            raise ValueError(
                f"sampler: chunks(size) must yield the whole set, n_samples={self.n_samples}, got {total} samples"
            )
        return mean * (1.0 / total)

    def loss_of(self, value: Any) -> float:
        """Check a loss and return it as a float; nan and -inf become +inf, which no rule accepts."""
        return _finite_or_inf(_array.to_float(self.checked_loss(value)))

    def checked_loss(self, value: Any) -> Any:
        """Return a loss if it is a real scalar, of any library."""
        if getattr(value, "shape", ()) != ():
            raise ValueError(f"fun: must return a scalar, the mean loss of the batch, got shape {tuple(value.shape)}")
        if not _array.is_real_scalar(value):
            raise TypeError(f"fun: must return a real scalar, the mean loss of the batch, got {value!r:.60}")
        return value

    def both_of(self, both: Any) -> tuple[Any, Array]:
        """Check what a fused function returns: the loss, and the gradient as a vector."""
        loss, g = self.checked_both(both)
        return loss, _array.flatten(_array.owned(g))

    def checked_both(self, both: Any) -> tuple[Any, Array]:
        """Return loss and gradient of a fused function if they are what they must be."""
        if not (isinstance(both, tuple) and len(both) == 2):
            raise TypeError(f"fun: with grad=True must return (loss, gradient), got {type(both).__name__}")
        return self.checked_loss(both[0]), self.checked_gradient(both[1], "fun")

    def vector_of(self, g: Any, name: str) -> Array:
        """Check a gradient and return it as a vector of the run's own: its maker may use the memory again."""
        return _array.flatten(_array.owned(self.checked_gradient(g, name)))

    def checked_gradient(self, g: Any, name: str) -> Array:
        """Return a gradient if it is an array like w0."""
        if not _array.is_array(g) or hasattr(g, "mask"):
            raise TypeError(f"{name}: must return an array like w0, got {type(g).__name__}")
        if tuple(g.shape) != self.shape:
            raise ValueError(f"{name}: must return an array of w0's shape {self.shape}, got shape {tuple(g.shape)}")
        if not _array.same_kind(g, self.like):
            raise TypeError(
                f"{name}: must return an array of w0's library, dtype and device {_array.spec(self.like)}, "
                f"got {_array.spec(g)}"
            )
        return g


def _checked_chunks(chunks: Any) -> Iterator[tuple[Any, int]]:
    """The chunks of a sampler, each of which must say how many samples it has."""
    wanted = "sampler: chunks(size) must yield (batch, count) over the whole set, count an int >= 1"
    if not isinstance(chunks, Iterable):
        raise TypeError(f"{wanted}; got {type(chunks).__name__}")
    for chunk in chunks:
        count = chunk[1] if isinstance(chunk, tuple | list) and len(chunk) == 2 else None
        if not isinstance(count, numbers.Integral) or count < 1:
            raise ValueError(f"{wanted}; got {chunk!r:.60}")
        yield chunk[0], int(count)


def _finite_or_inf(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf


class Oracle:
    """Loss and gradient on one batch, each evaluated at most once at the newest iterate."""

    def __init__(self, problem: Problem, args: tuple[Any, ...], size: int, is_full: bool) -> None:
        self.problem, self.size, self.is_full = problem, size, is_full
        self._args = args
        self.noise = math.nan  # variance of the gradient over its square, where the batch has parts
        self._at: Array | None = None
        self._loss: float | None = None
        self._gradient: Array | None = None
        self._square = math.nan  # g'g
        self._direction: Array | None = None
        self.slope = math.nan  # g'p at the newest iterate, for the p that was last asked for

    def look_along(self, p: Array) -> None:
        """Let the next gradient bring its product with p, in the same crossing."""
        self._direction = p

    @property
    def fused(self) -> bool:
        """Whether a loss brings its gradient at no further cost."""
        return self.problem.grad is None

    def loss(self, w: Array) -> float:
        """Loss at w; +inf where it is not finite."""
        self._move_to(w)
        if self._loss is None:
            if self.fused:
                self._evaluate_fused(w)
            else:
                self.problem.counts.spend(self.size, _LOSS)
                self._loss = self.problem.loss_of(self.problem.call(self.problem.fun, self._user(w), *self._args))
                self.problem.counts.nfev += 1
        assert self._loss is not None
        return self._loss

    def gradient(self, w: Array) -> Array | None:
        """Gradient at w, a (d,) array; None where an entry is not finite."""
        self._move_to(w)
        if self._gradient is None:
            if self.fused:
                self._evaluate_fused(w)
            else:
                assert self.problem.grad is not None
                self.problem.counts.spend(self.size, GRADIENT)
                g = self.problem.call(self.problem.grad, self._user(w), *self._args)
                self._gradient = self.problem.vector_of(g, "grad")
                self._measured(0.0)
                self.problem.counts.njev += 1
        assert self._gradient is not None
        return self._gradient if math.isfinite(self._square) or _array.all_finite(self._gradient) else None

    def norm_at(self, point: Point) -> float:
        """Norm of the point's gradient; free where it is the newest one, as it is in the metric M = I."""
        return _array.norm(point.g, self._square if self._gradient is point.g else None)

    def _measured(self, loss: Any) -> float:
        """The loss as a float, with g'g and the slope that was asked for: one crossing."""
        value, self._square, *slope = _array.scalars(loss, self._gradient, self._direction)
        self.slope = slope[0] if slope else math.nan
        self._direction = None
        return value

    def point(self, w: Array, needs_loss: bool = True) -> Point:
        """Gradient at w, with the loss where it is needed or comes free."""
        loss = self.loss(w) if needs_loss or self.fused else math.nan
        return Point(w, loss, self.gradient(w))

    @property
    def n_samples(self) -> int | None:
        """Size of the whole set; None where it is unknown."""
        return self.problem.n_samples

    def whole_gradient(self, w: Array) -> Array | None:
        """Gradient at w over the whole set, in chunks of the sampler; None where an entry is not finite."""
        return self.problem.whole_gradient(w, self.size)

    @property
    def share_spent(self) -> float:
        """Share of the run's sample budget that is spent; 0 without one."""
        return self.problem.counts.share_spent

    @property
    def shared(self) -> Oracle:
        """The samples that the next batch evaluates again at no cost: here the whole batch."""
        return self

    @property
    def hvp(self) -> Callable[[Array, Array], Array] | None:
        """(w, v) -> Hessian times v on this batch, or None where the user gave none."""
        hvp = self.problem.hvp
        if hvp is None:
            return None

        def product(w: Array, v: Array) -> Array:
            self.problem.counts.spend(self.size, _HVP)
            return self.problem.vector_of(self.problem.call(hvp, self._user(w), self._user(v), *self._args), "hvp")

        return product

    @property
    def remembered(self) -> Point:
        """The newest iterate with its loss and gradient."""
        return Point(self._at, math.nan if self._loss is None else self._loss, self._gradient)

    def remember(self, w: Array, f: float, g: Array) -> None:
        """Take values at w that an earlier run evaluated on the same samples."""
        self._at, self._loss, self._gradient, self._square = w, f, g, _array.dot(g, g)

    def forget(self) -> None:
        """Drop the values at the newest iterate."""
        self._at = self._loss = self._gradient = None

    def _user(self, w: Array) -> Array:
        return _array.reshape(_array.detached(w), self.problem.shape)

    def _move_to(self, w: Array) -> None:
        if self._at is not w:
            self._at, self._loss, self._gradient, self._square = w, None, None, math.nan

    def _evaluate_fused(self, w: Array) -> None:
        counts = self.problem.counts
        counts.spend(self.size, GRADIENT)
        both = self.problem.call(self.problem.fun, self._user(w), *self._args)
        loss, self._gradient = self.problem.both_of(both)
        self._loss = _finite_or_inf(self._measured(loss))
        counts.nfev += 1
        counts.njev += 1


class OverlapOracle(Oracle):
    """A batch of parts, one of which, `shared`, is also part of the next batch.

    A method that evaluates `shared` at its new iterate pays for the first part of the next
    batch; so successive batches are compared on the same samples, and a step costs the batch once.

    Parameters
    ----------
    parts : list of Oracle
        The part taken over from the last batch (known at the iterate), the shared part, fresh samples.
    shared : Oracle
        One of `parts`.
    """

    def __init__(self, parts: list[Oracle], shared: Oracle) -> None:
        super().__init__(parts[0].problem, (), sum(part.size for part in parts), False)
        self._parts, self._shared = parts, shared

    @property
    def shared(self) -> Oracle:
        """The part that the next batch takes over."""
        return self._shared

    def loss(self, w: Array) -> float:
        """Mean loss of all parts at w."""
        return sum(part.loss(w) * (part.size / self.size) for part in self._parts)

    def gradient(self, w: Array) -> Array | None:
        """Mean gradient of all parts at w; None where one is not finite."""
        gradients = [part.gradient(w) for part in self._parts]
        if any(g is None for g in gradients):
            return None
        g = _array.linear([part.size / self.size for part in self._parts], gradients)
        self._at, self._gradient, self._square = w, g, _array.dot(g, g)
        return g

    @property
    def hvp(self) -> Callable[[Array, Array], Array] | None:
        """(w, v) -> mean over all parts of Hessian times v, or None where the user gave none."""
        products = [part.hvp for part in self._parts]
        shares = [part.size / self.size for part in self._parts]
        return None if products[0] is None else lambda w, v: _array.linear(shares, [of(w, v) for of in products if of])

    def point(self, w: Array, needs_loss: bool = True) -> Point:
        """Gradient of all parts, and the mean loss of those parts whose loss is free or needed."""
        g = self.gradient(w)
        if g is not None and len(self._parts) > 1:
            self.noise = self._noise()
        used = self._parts if self.fused else [self._shared]
        size = sum(part.size for part in used)
        f = sum(part.loss(w) * (part.size / size) for part in used)
        if len(self._parts) > 1 and self._parts[-1] is not self._shared:
            self._parts[-1].forget()  # the fresh samples are in no other batch
        return Point(w, f, g)

    def _noise(self) -> float:
        """Variance of the batch gradient over its square, from how the parts differ; nan where g is 0."""
        if self._square == 0.0:
            return math.nan
        spread = sum(part.size * part._square for part in self._parts) - self.size * self._square
        return max(spread, 0.0) / (len(self._parts) - 1) / self.size / self._square
