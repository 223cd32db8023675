"""`minimize` and `iterate` over any pytree: parameters become one vector, functions are compiled, sizes are few."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import OptimizeResult

from mblsr1.arguments import check_functions, checked_options
from mblsr1.methods.presets import Options, mb_lsr1
from mblsr1.minimize import Callback, Step
from mblsr1.minimize import iterate as _iterate
from mblsr1.minimize import minimize as _minimize
from mblsr1.sampling import ArraySampler, IndexSampler, Sampler, checked_sampler
from mblsr1.types import Method

try:
    import jax
    import jax.numpy as jnp
    from jax.flatten_util import ravel_pytree
except ImportError as error:
    raise ImportError("mblsr1.jax needs JAX: python -m pip install 'mblsr1[jax]'") from error

__all__ = ["iterate", "minimize"]

Tree = Any
#: Arguments of the core that are no field of the options.
_OF_THE_RUN = {"rng", "max_steps", "max_samples", "state", "disp", "checkpoint", "checkpoint_every"}


def minimize(
    fun: Callable[..., Any],
    grad: Callable[..., Any] | bool,
    w0: Tree,
    sampler: Any = None,
    *,
    method: Method | None = None,
    options: Options | None = None,
    hvp: Callable[..., Any] | bool | None = True,
    blocks: Any = None,
    callback: Callback | None = None,
    **arguments: Any,
) -> OptimizeResult:
    """Minimise over a pytree; the functions are differentiated and compiled here.

    Parameters
    ----------
    fun : callable
        ``fun(params, batch) -> scalar``, the mean loss over the batch; without a sampler ``fun(params)``. A function
        that JAX can trace.
    grad : True or callable
        True: the gradient is ``jax.value_and_grad(fun)``; a `fun` that returns ``(loss, gradient)``, such as
        ``jax.value_and_grad(loss)``, is taken as it is. A callable: ``grad(params, batch) -> pytree like w0``.
    w0 : pytree of arrays
        Start. All leaves have one real floating dtype; leaves of Python or NumPy numbers become JAX arrays.
    sampler : None, int or sampler
        As in :func:`mblsr1.minimize`. The arrays of an ``ArraySampler`` are put on JAX's default device once, and rows
        are picked within the compiled functions. Other batches are pytrees of arrays; one whose leaves have a row for
        each sample is cut to the sizes of the ladder.
    method, options
        As in :func:`mblsr1.minimize`.
    hvp : True, None or callable
        For warm starts and ``s_lsr1``. True: Hessian times v exactly, forward over the gradient, at 2
        sample-gradients a sample; None: differences of gradients; or ``hvp(params, v, batch) -> pytree``.
    blocks : None, True or sequence of shapes
        True: the shapes of the leaves, see `mblsr1.Options`. A leaf of more than two axes is a matrix whose columns
        are its last axis, where JAX's libraries have the outputs.
    callback : callable, optional
        ``callback(step)`` as in :func:`mblsr1.minimize`; ``step.x`` is a pytree.
    **arguments
        ``rng max_steps max_samples state disp checkpoint checkpoint_every`` and single fields of the options.

    Returns
    -------
    scipy.optimize.OptimizeResult
        As of :func:`mblsr1.minimize`, with `x`, `jac` and `x_average` as pytrees like `w0`.

    Raises
    ------
    ValueError, TypeError
        As :func:`mblsr1.minimize`; where a leaf is no real floating array, or has another dtype than the first; where
        a gradient is no pytree like `w0`.

    Notes
    -----
    A function is compiled once for each size that it is called with. A batch is evaluated in parts whose sizes are
    powers of two times the smallest part, n0 `overlap` samples, so there are log2(N / n0) + 2 sizes at most where that
    part is whole, as with the default. Otherwise the samples left over come in powers of two, log2(n0) sizes more. The
    loss has to be a mean over samples: one that compares samples of a batch with each other, as batch normalisation
    does, compares within a part.

    Examples
    --------
    >>> import jax.numpy as jnp, mblsr1
    >>> loss = lambda params: jnp.sum((params["a"] - 1.0) ** 2) + params["b"] ** 2
    >>> result = mblsr1.jax.minimize(loss, True, {"a": jnp.zeros(3), "b": jnp.ones(())})
    >>> result.success, result.x["a"].round(3).tolist()
    (True, [1.0, 1.0, 1.0])
    """
    flat, run = _prepared(fun, grad, w0, sampler, method, options, hvp, blocks, callback, arguments)
    unravel = flat.unravel
    watched = None if callback is None else lambda step: callback(_with_tree(step, unravel))
    result = _minimize(**run, callback=watched)
    for name in ("x", "jac", "x_average"):
        if result.get(name) is not None:
            result[name] = unravel(result[name])
    return result


def iterate(
    fun: Callable[..., Any], grad: Callable[..., Any] | bool, w0: Tree, sampler: Any = None, **arguments: Any
) -> Iterator[Step]:
    """Run `minimize` step by step; ``step.x`` is a pytree.

    Parameters
    ----------
    fun, grad, w0, sampler, **arguments
        As in :func:`minimize`; there is no `disp`.

    Yields
    ------
    Step
        As of :func:`mblsr1.iterate`.

    Raises
    ------
    ValueError, TypeError
        As :func:`minimize`, at the call, before the first step.
    """
    named = {name: arguments.pop(name, None) for name in ("method", "options", "blocks", "callback")}
    named["hvp"] = arguments.pop("hvp", True)
    flat, run = _prepared(fun, grad, w0, sampler, **named, arguments=arguments)
    steps = _iterate(**run, callback=named["callback"])  # which sees the step after the loop, with its tree
    return (_with_tree(step, flat.unravel) for step in steps)


class _Flat(NamedTuple):
    """The start as a vector, and what a tree like it is."""

    vector: Any
    unravel: Callable[[Any], Tree]
    structure: Any
    leaves: list[Any]


def _prepared(
    fun: Any, grad: Any, w0: Tree, sampler: Any, method: Any, options: Any, hvp: Any, blocks: Any, callback: Any,
    arguments: dict[str, Any],
) -> tuple[_Flat, dict[str, Any]]:  # fmt: skip
    """The start as a vector, and the core's arguments but for the callback."""
    check_functions(fun, grad, None, callback)
    if hvp is not None and hvp is not True and not callable(hvp):
        raise TypeError(f"hvp: must be True, None or a callable, got {hvp!r:.60}")
    if blocks is False:
        raise TypeError("blocks: must be None, True or a sequence of shapes, got False")
    flat = _flattened(w0)
    changes = dict(arguments)
    if blocks is not None:
        changes["blocks"] = _shapes(flat.leaves) if blocks is True else blocks
    checked = checked_options(method, options, {k: v for k, v in changes.items() if k not in _OF_THE_RUN})
    made = mb_lsr1(checked) if method is None else method
    pieces, data = _source(sampler, checked.batch_size, made.overlap)
    functions = _functions(fun, grad, hvp, flat, data, pieces is not None)
    return flat, {**functions, "w0": flat.vector, "sampler": pieces, "method": method, "options": options, **changes}


def _flattened(w0: Tree) -> _Flat:
    """The leaves of one real floating dtype as a vector."""
    paths, structure = jax.tree_util.tree_flatten_with_path(w0)
    leaves = []
    for path, leaf in paths:
        where = f"w0{jax.tree_util.keystr(path)}"
        try:
            array = jnp.asarray(leaf)
        except (TypeError, ValueError):
            raise TypeError(f"{where}: must be an array of real floating numbers, got {type(leaf).__name__}") from None
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(f"{where}: must be an array of real floating numbers, got dtype {array.dtype}")
        leaves.append(array)
        if array.dtype != leaves[0].dtype:  # rounded to the narrower one, a step would not be the step
            raise TypeError(
                f"{where}: all leaves must have the dtype of the first, {leaves[0].dtype}; got {array.dtype}"
            )
    vector, unravel = ravel_pytree(jax.tree_util.tree_unflatten(structure, leaves))
    return _Flat(vector, unravel, structure, leaves)


def _shapes(leaves: list[Any]) -> list[tuple[int, ...]]:
    """Shapes of matrices and vectors, whose columns are the last axis."""
    kept = [tuple(leaf.shape) for leaf in leaves if leaf.size]
    return [(math.prod(s[:-1]), s[-1]) if len(s) > 2 else s or (1,) for s in kept]


def _with_tree(step: Step, unravel: Callable[[Any], Tree]) -> Step:
    step.x = unravel(step.x)
    return step


class _Ladder(NamedTuple):
    """Sizes of pieces: `smallest` times powers of two up to `largest`, what the whole set leaves, and powers of two."""

    smallest: int
    largest: int | None
    left_of_whole: int

    def rungs(self, size: int) -> list[int]:
        """The sizes up to `size`, falling."""
        most = size if self.largest is None else min(size, self.largest)
        return [self.smallest << k for k in reversed(range((most // self.smallest).bit_length()))]

    def split(self, size: int) -> list[int]:
        """Sizes of the ladder that add up to `size`."""
        parts, left = [], size
        for rung in self.rungs(size):
            parts += left // rung * [rung]
            left %= rung
        if left == self.left_of_whole:
            return [*parts, left] if left else parts
        return [*parts, *(1 << k for k in reversed(range(left.bit_length())) if left >> k & 1)]


def _ladder(batch_size: int, overlap: float, total: int | None) -> _Ladder:
    """Start from the smallest part of a batch: the samples that the next batch takes over, or the first batch."""
    first = batch_size if total is None else min(batch_size, total)
    shared = min(max(round(overlap * first), 1), first // 2) if overlap and first != total else 0
    smallest = shared or first
    return _Ladder(smallest, total and total * smallest // first, (total or 0) % smallest)


class _Pieces:
    """A sampler whose batches are lists of (share of the batch, piece), the pieces of few sizes."""

    def __init__(self, sampler: Sampler, ladder: _Ladder) -> None:
        self.n_samples = sampler.n_samples
        self._sampler, self._ladder = sampler, ladder
        if hasattr(sampler, "chunks"):
            self.chunks = self._chunks

    def draw(self, size: int, rng: np.random.Generator) -> list[tuple[float, Tree]]:
        return self._cut(self._sampler.draw(size, rng), size)

    def _chunks(self, size: int) -> Iterator[tuple[list[tuple[float, Tree]], int]]:
        for batch, count in self._sampler.chunks(self._ladder.rungs(size)[0]):  # type: ignore[attr-defined]
            yield self._cut(batch, count), count

    def _cut(self, batch: Tree, size: int) -> list[tuple[float, Tree]]:
        sizes, leaves = self._ladder.split(size), jax.tree_util.tree_leaves(batch)
        if len(sizes) == 1 or not all(np.ndim(leaf) and len(leaf) == size for leaf in leaves):
            return [(1.0, batch)]
        stops = itertools.accumulate(sizes)
        return [(n / size, _slice(batch, stop - n, stop)) for n, stop in zip(sizes, stops, strict=True)]


def _slice(batch: Tree, start: int, stop: int) -> Tree:
    return jax.tree_util.tree_map(lambda leaf: leaf[start:stop], batch)


def _source(sampler: Any, batch_size: int, overlap: float) -> tuple[_Pieces | None, tuple[Any, ...]]:
    """The sampler in pieces; of an ArraySampler the arrays, whose rows the pieces are indices of."""
    checked = checked_sampler(sampler)
    if checked is None:
        return None, ()
    ladder = _ladder(batch_size, overlap, checked.n_samples)
    if type(checked) is not ArraySampler:
        return _Pieces(checked, ladder), ()
    try:
        data = tuple(jnp.asarray(a) for a in checked.arrays)
    except (TypeError, ValueError):
        kinds = ", ".join(type(a).__name__ for a in checked.arrays)
        raise TypeError(f"sampler: the arrays must be such that JAX takes, got {kinds}") from None
    if ladder.smallest == checked.n_samples:
        return _Pieces(ArraySampler(*data), ladder), ()  # the whole set each time: no rows to pick
    return _Pieces(IndexSampler(len(data[0])), ladder), data


def _functions(fun: Any, grad: Any, hvp: Any, flat: _Flat, data: tuple[Any, ...], takes_batch: bool) -> dict[str, Any]:
    """The core's `fun`, `grad` and `hvp`, of vectors and batches in pieces."""

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        return _mean_over_pieces(function, flat.unravel, data, takes_batch)

    def raveled(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        return lambda *arguments: _raveled(flat, function(*arguments), name)

    found: dict[str, Any]
    if grad is True:
        both = _value_and_grad(fun, flat)
        found, gradient = {"fun": compiled(both), "grad": True}, _gradient_of(both)
    else:
        gradient = raveled(grad, "grad")
        found = {"fun": compiled(fun), "grad": compiled(gradient)}
    if hvp is not None:
        found["hvp"] = compiled(_product(gradient) if hvp is True else raveled(hvp, "hvp"))
    return found


def _mean_over_pieces(
    function: Callable[..., Any], unravel: Callable[[Any], Tree], data: tuple[Any, ...], takes_batch: bool
) -> Callable[..., Any]:
    """Compile a function of trees and a batch; return its mean over the pieces, as one of vectors."""

    def of_piece(share: Any, data: tuple[Any, ...], piece: Tree, *vectors: Any) -> Any:
        batch = tuple(a.at[piece].get(mode="promise_in_bounds") for a in data) if data else piece
        found = function(*map(unravel, vectors), *((batch,) if takes_batch else ()))
        return jax.tree_util.tree_map(lambda x: share * x, found)

    compiled = jax.jit(of_piece)

    def mean(*arguments: Any) -> Any:
        *vectors, pieces = arguments if takes_batch else (*arguments, [(1.0, None)])
        parts = [compiled(share, data, piece, *vectors) for share, piece in pieces]
        return functools.reduce(lambda a, b: jax.tree_util.tree_map(operator.add, a, b), parts)

    return mean


def _value_and_grad(fun: Callable[..., Any], flat: _Flat) -> Callable[..., Any]:
    """(loss, gradient as a vector): of `fun` itself where it returns both, which the first trace tells."""
    returns_both: list[bool] = []

    def both(*arguments: Tree) -> tuple[Any, Any]:
        if not returns_both:
            returns_both.append(_is_pair(jax.eval_shape(fun, *arguments)))
        loss, g = fun(*arguments) if returns_both[0] else jax.value_and_grad(fun)(*arguments)
        return loss, _raveled(flat, g, "fun")

    return both


def _is_pair(found: Any) -> bool:
    """Whether it is (loss, gradient); a TypeError where it is no scalar either."""
    if isinstance(found, (tuple, list)) and len(found) == 2:
        return True
    if getattr(found, "shape", None) != () or not jnp.issubdtype(found.dtype, jnp.floating):
        raise TypeError(f"fun: with grad=True must return a real scalar loss, or (loss, gradient), got {found!r:.80}")
    return False


def _raveled(flat: _Flat, g: Tree, name: str) -> Any:
    """A gradient as a vector, where it is a tree like the start."""
    structure = jax.tree_util.tree_structure(g)
    if structure != flat.structure:
        raise TypeError(f"{name}: must return a pytree like w0, {flat.structure}, got {structure}")
    for leaf, like in zip(map(jnp.asarray, jax.tree_util.tree_leaves(g)), flat.leaves, strict=True):
        if leaf.shape != like.shape or leaf.dtype != like.dtype:
            wanted, got = (f"{x.dtype} of shape {x.shape}" for x in (like, leaf))
            raise TypeError(f"{name}: must return a pytree like w0, whose leaf is {wanted}, got {got}")
    return ravel_pytree(g)[0]


def _gradient_of(both: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: both(*arguments)[1]


def _product(gradient: Callable[..., Any]) -> Callable[..., Any]:
    """(w, v, batch) -> Hessian times v, forward over the gradient."""

    def product(w: Tree, v: Tree, *batch: Tree) -> Any:
        return jax.jvp(lambda at: gradient(at, *batch), (w,), (v,))[1]

    return product
