"""MB-LSR1 inside SciPy: a method for `scipy.optimize.minimize`, a Hessian for trust-constr, a LinearOperator."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import HessianUpdateStrategy, OptimizeResult, OptimizeWarning
from scipy.sparse.linalg import LinearOperator

from mblsr1 import _array
from mblsr1.arguments import checked_start
from mblsr1.checks import integer, real, share
from mblsr1.linalg.lsr1 import LSR1
from mblsr1.methods.presets import Options
from mblsr1.minimize import Step, minimize
from mblsr1.types import Status

__all__ = ["LSR1Update", "linear_operator", "scipy_method"]

Vector = NDArray[Any]

_FIELDS = {field.name for field in dataclasses.fields(Options)}


def scipy_method(
    fun: Callable[..., Any],
    x0: Any,
    args: tuple[Any, ...] = (),
    *,
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    callback: Callable[..., Any] | None = None,
    tol: float | None = None,
    maxiter: int | None = None,
    maxfun: int | None = None,
    disp: bool = False,
    rng: Any = None,
    **options: Any,
) -> OptimizeResult:
    """MB-LSR1 as ``scipy.optimize.minimize(fun, x0, jac=..., method=mblsr1.scipy_method, options={...})``.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args) -> float``; with ``jac=True`` ``-> (float, gradient)``.
    x0 : array_like (d,)
        Start; its floating dtype is kept, integers become float64.
    args : tuple
        Further arguments of `fun` and `jac`.
    jac : callable or True
        ``jac(x, *args) -> array (d,)``. There are no finite differences.
    hess, hessp, bounds, constraints
        Must be left out.
    callback : callable, optional
        ``callback(intermediate_result=OptimizeResult)``, where that is the only parameter's name, with ``x fun
        nit nfev njev radius``; else ``callback(x)``. StopIteration ends the run; what it returns does not matter.
    tol : float, optional
        Stands for the option `gtol` where that is not given.
    maxiter : int, optional
        Steps, at most 15,000 by default. Of 0 the result shows the values at `x0`.
    maxfun : int, optional
        The run ends after the step in which `fun` has been called this often, as in L-BFGS-B.
    disp : bool
        Print how the run ended.
    rng : None, int or numpy.random.Generator
        Seed of the pairs that a warm start samples; nothing else is drawn.
    **options
        Fields of `mblsr1.Options`, such as ``gtol`` (which bounds the 2-norm of the gradient) or ``memory``.
        Others bring an OptimizeWarning, as in SciPy.

    Returns
    -------
    scipy.optimize.OptimizeResult
        That of `mblsr1.minimize`. status 0: converged, 1: maxiter, 2: maxfun, 3: stopped by the callback, 4: loss or
        gradient not finite, 5: no further progress possible.

    Raises
    ------
    ValueError, TypeError
        Where `jac` is missing, where an argument must be left out, and as in `mblsr1.minimize`.

    Examples
    --------
    >>> import numpy as np, mblsr1
    >>> from scipy.optimize import minimize, rosen, rosen_der
    >>> result = minimize(rosen, np.zeros(5), jac=rosen_der, method=mblsr1.scipy_method, options={"gtol": 1e-8})
    >>> result.success, bool(abs(result.x - 1.0).max() < 1e-6)
    (True, True)
    """
    _refuse(hess=hess, hessp=hessp, bounds=bounds, constraints=constraints)
    most = None if maxfun is None else integer("maxfun", maxfun, 1)
    if tol is not None:
        options.setdefault("gtol", tol)
    _warn_of_unknown(set(options) - _FIELDS)
    watch = _Watch(callback, most)
    steps = None if maxiter is None else integer("maxiter", maxiter, 0)
    x = checked_start(np.atleast_1d(np.asarray(x0)), "x0")
    loss, gradient = _functions(fun, jac, args, x)
    known = Options(**{name: value for name, value in options.items() if name in _FIELDS})
    if steps == 0:
        result = _start_alone(loss, gradient, x, known)
    else:
        result = minimize(loss, gradient, x, options=known, rng=rng, max_steps=steps, callback=watch)
    _as_in_scipy(result, watch.spent)
    if disp:
        _print(result)
    return result


def _refuse(**left_out: Any) -> None:
    """Raise a ValueError where one of SciPy's arguments that mean another problem is given."""
    for name, value in left_out.items():
        if value is None or (name == "constraints" and isinstance(value, (tuple, list)) and not value):
            continue
        what = "the problem is unconstrained" if name in ("bounds", "constraints") else "the model is made of gradients"
        raise ValueError(
            f"{name}: mblsr1.scipy_method takes none, {what}; leave it out or use method='trust-constr', "
            f"got {type(value).__name__}"
        )


def _warn_of_unknown(names: set[str]) -> None:
    """Warn as SciPy's own methods do."""
    if names:
        text = f"Unknown solver options: {', '.join(sorted(names))}"
        warnings.warn(text, OptimizeWarning, stacklevel=4)  # the line that calls scipy.optimize.minimize


def _functions(fun: Any, jac: Any, args: Any, x0: Vector) -> tuple[Callable[..., Any], Any]:
    """Loss and gradient of a vector alone, with what SciPy allows a function to return, on copies of x."""
    args = args if isinstance(args, tuple) else (args,)
    if jac is True:
        return lambda x: _both(fun(np.copy(x), *args), x0), True
    if not callable(jac):
        raise TypeError(
            "jac: must be a callable, or True where fun returns (loss, gradient); mblsr1.scipy_method makes no finite "
            f"differences, got {jac!r}"
        )
    if jac == getattr(fun, "derivative", None):  # SciPy's form of jac=True: one evaluation, kept for the other
        return lambda x: _both((fun(np.copy(x), *args), jac(np.copy(x), *args)), x0), True
    return lambda x: _scalar(fun(np.copy(x), *args)), lambda x: _gradient(jac(np.copy(x), *args), x0)


def _both(pair: Any, x0: Vector) -> tuple[float, Vector]:
    if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
        raise TypeError(f"fun: with jac=True must return (loss, gradient), got {type(pair).__name__}")
    return _scalar(pair[0]), _gradient(pair[1], x0)


def _scalar(value: Any) -> Any:
    """SciPy takes an array of one entry for a number."""
    return value.reshape(()) if isinstance(value, np.ndarray) and value.size == 1 else value


def _gradient(g: Any, x0: Vector) -> Vector:
    """Return the gradient as an array of the dtype in which the run is made."""
    g = np.atleast_1d(np.asarray(g))
    if g.shape != x0.shape:
        raise ValueError(f"jac: must return an array of x0's shape {x0.shape}, got shape {g.shape}")
    if g.dtype.kind not in "fiu":
        raise TypeError(f"jac: must return real numbers, got dtype {g.dtype}")
    return np.asarray(g, dtype=x0.dtype if x0.dtype.kind == "f" else np.float64)


class _Watch:
    """The driver's callback: calls SciPy's with what its signature asks for, and counts calls of `fun`."""

    def __init__(self, callback: Callable[..., Any] | None, most: int | None) -> None:
        if callback is not None and not callable(callback):
            raise TypeError(f"callback: must be None or a callable, got {type(callback).__name__}")
        self.callback, self.most, self.spent = callback, most, False
        self.takes_result = callback is not None and _names(callback) == {"intermediate_result"}

    def __call__(self, step: Step) -> bool:
        """Whether the evaluations are spent; the callback may raise StopIteration."""
        if self.callback is not None and self.takes_result:
            names = {"fun": "loss_after", "nit": "step", "nfev": "nfev", "njev": "njev", "radius": "radius"}
            shown = {name: step.scalars[of] for name, of in names.items()}
            self.callback(intermediate_result=OptimizeResult(x=np.copy(step.x), **shown))
        elif self.callback is not None:
            self.callback(np.copy(step.x))
        self.spent = self.most is not None and step.nfev >= self.most
        return self.spent


def _names(function: Callable[..., Any]) -> set[str]:
    """Names of the parameters; none where Python does not know them."""
    try:
        return set(inspect.signature(function).parameters)
    except ValueError:
        return set()


def _start_alone(loss: Callable[..., Any], gradient: Any, x: Vector, options: Options) -> OptimizeResult:
    """The values at x without a step, as of SciPy's own methods: any finite gradient ends the run."""
    result = minimize(loss, gradient, x, options=options.replace(gtol=sys.float_info.max))
    if result.success and _array.norm(result.jac) > options.gtol:
        result.status, result.success = int(Status.STEP_BUDGET), False
    return result


def _as_in_scipy(result: OptimizeResult, spent: bool) -> None:
    """Name the budgets as SciPy does."""
    if result.status == Status.STOPPED and spent:
        result.status, result.message = int(Status.SAMPLE_BUDGET), "fun has been called maxfun times"
    elif result.status == Status.STEP_BUDGET:
        result.message = "maxiter steps have been made"


def _print(result: OptimizeResult) -> None:
    print(result.message)
    print(f"         Current function value: {result.fun:f}")
    print(f"         Iterations: {result.nit:d}")
    print(f"         Function evaluations: {result.nfev:d}")
    print(f"         Gradient evaluations: {result.njev:d}")


class LSR1Update(HessianUpdateStrategy):  # type: ignore[misc]
    """Limited-memory SR1 where SciPy takes a HessianUpdateStrategy: ``method="trust-constr", hess=LSR1Update()``.

    Its memory is 2 `memory` vectors, where `scipy.optimize.SR1` keeps a matrix of d^2 numbers. While all pairs are
    kept both are the same matrix.

    Parameters
    ----------
    memory : int >= 1
        Pairs kept.
    min_denominator : float in [0, 1)
        A pair is skipped where ``|s'(y - Bs)| < min_denominator ||s|| ||y - Bs||``.
    init_scale : {"auto"}, float or callable
        gamma, the curvature of the initial matrix: ``y'y / |s'y|`` of the first pair, as in SciPy; a number; or a
        rule of `mblsr1.scaling`, made anew with each pair. A matrix, which SciPy takes, would have d^2 numbers.

    Raises
    ------
    ValueError, TypeError
        Where a parameter is outside its range.

    Notes
    -----
    As an approximation of the inverse Hessian s and y change places, and gamma is that of the inverse.

    Examples
    --------
    >>> import numpy as np, mblsr1.scipy
    >>> from scipy.optimize import minimize, rosen, rosen_der
    >>> result = minimize(rosen, np.zeros(4), jac=rosen_der, method="trust-constr", hess=mblsr1.scipy.LSR1Update())
    >>> bool(abs(result.x - 1.0).max() < 1e-5)
    True
    """

    def __init__(self, memory: int = 20, min_denominator: float = 1e-8, init_scale: Any = "auto") -> None:
        self.memory = integer("memory", memory, 1)
        self.min_denominator = share("min_denominator", min_denominator)
        self.init_scale = _checked_scale(init_scale)
        self.initialize(1, "hess")

    def initialize(self, n: int, approx_type: str) -> None:
        """Forget all pairs: an (n, n) matrix, a multiple of the identity until a pair comes; "hess" or "inv_hess"."""
        if approx_type not in ("hess", "inv_hess"):
            raise ValueError(f"approx_type: must be 'hess' or 'inv_hess', got {approx_type!r}")
        self.n, self.approx_type, self._is_new = n, approx_type, True
        self.B = self._empty(self.init_scale if isinstance(self.init_scale, float) else 1.0)

    def _empty(self, gamma: float) -> LSR1:
        none = np.zeros((0, self.n))
        return LSR1(none, none, gamma, memory=self.memory, skip_tolerance=self.min_denominator)

    def update(self, delta_x: Any, delta_grad: Any) -> None:
        """Take in a pair, or skip it: the differences of x and of the gradient, arrays (n,).

        As in SciPy a pair without a step or without a change of the gradient leaves the matrix as it is.
        """
        s, y = np.array(delta_x, dtype=np.float64), np.array(delta_grad, dtype=np.float64)
        if not (s.any() and y.any() and np.isfinite(s).all() and np.isfinite(y).all()):
            return
        if self._is_new and self.init_scale == "auto":
            scale = _first_scale(s, y)
            self.B = self._empty(scale if self.approx_type == "hess" else 1.0 / scale)
        self._is_new = False
        self.B.update(*((s, y) if self.approx_type == "hess" else (y, s)))
        if callable(self.init_scale):
            pairs = self.B.pairs
            self.B = LSR1.from_memory(pairs, float(self.init_scale(pairs.blocks())), self.min_denominator)

    def dot(self, p: Any) -> Vector:
        """Product of the matrix with an array (n,)."""
        return np.asarray(self.B @ np.asarray(p, dtype=np.float64))

    def get_matrix(self) -> Vector:
        """Return the matrix as an array (n, n): for small n."""
        return self.B.to_dense()


def _checked_scale(init_scale: Any) -> Any:
    if callable(init_scale) or (isinstance(init_scale, str) and init_scale == "auto"):
        return init_scale
    kind = 'a rule, "auto" or a finite number'
    if isinstance(init_scale, np.ndarray):
        raise TypeError(f"init_scale: must be {kind}, got an array; scipy.optimize.SR1 takes a matrix")
    return real("init_scale", init_scale, "", lambda x: True, kind)


def _first_scale(s: Vector, y: Vector) -> float:
    """Return y'y / |s'y| as `scipy.optimize.SR1` has it (Nocedal and Wright, 2nd ed., equation 6.20); else 1."""
    sy, yy = abs(float(s @ y)), float(y @ y)
    scale = yy / sy if sy > 0.0 else 0.0
    return scale if 0.0 < scale < np.inf else 1.0


class _Operator(LinearOperator):  # type: ignore[misc]
    """B on NumPy vectors, whatever library its pairs are of."""

    def __init__(self, B: LSR1) -> None:
        self.B = B
        super().__init__(np.float64, B.shape)

    def _matvec(self, x: Vector) -> Vector:
        if np.iscomplexobj(x):
            return self._matvec(x.real) + 1j * self._matvec(x.imag)
        v = _array.from_host(np.asarray(x, dtype=np.float64).reshape(-1), self.B.pairs.rows)
        return _array.host(self.B @ v)

    def _adjoint(self) -> _Operator:
        return self


def linear_operator(B: LSR1) -> LinearOperator:
    """Return B as a symmetric `scipy.sparse.linalg.LinearOperator`, for cg, eigsh and the like.

    Parameters
    ----------
    B : LSR1
        Of any array library; the operator's vectors are NumPy in float64, or complex128. It follows later updates of B.

    Returns
    -------
    scipy.sparse.linalg.LinearOperator (d, d)

    Raises
    ------
    TypeError
        Where `B` is no LSR1.

    Examples
    --------
    >>> import numpy as np, mblsr1
    >>> from mblsr1.scipy import linear_operator
    >>> B = mblsr1.LSR1(np.eye(3), np.diag([1.0, 2.0, 4.0]), gamma=0.5)
    >>> linear_operator(B).matvec(np.ones(3)).round(12)
    array([1., 2., 4.])
    """
    if not isinstance(B, LSR1):
        raise TypeError(f"B: must be an mblsr1.LSR1, got {type(B).__name__}")
    return _Operator(B)
