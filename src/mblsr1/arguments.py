"""Arguments of `minimize` and `iterate`, checked before anything runs: each error names the argument and its range."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

from mblsr1 import _array
from mblsr1._array import Array
from mblsr1.checkpoint import CheckpointFile
from mblsr1.checks import real
from mblsr1.methods.presets import Options
from mblsr1.sampling import Sampler
from mblsr1.state_file import writable_path
from mblsr1.types import Method

__all__ = [
    "DRIVER_OPTIONS",
    "check_budgets",
    "check_functions",
    "check_whole_set",
    "checked_checkpoint",
    "checked_options",
    "checked_rng",
    "checked_start",
    "size_of",
]

#: Options that a method other than MB-LSR1 obeys.
DRIVER_OPTIONS = {"averaging", "batch_size", "check_every", "gtol", "steps_per_batch"}


def checked_options(method: Any, options: Any, changes: dict[str, Any]) -> Options:
    """Return the options with these changes; a foreign method takes only the driver's."""
    if options is not None and not isinstance(options, Options):
        raise TypeError(f"options: must be an mblsr1.Options, got {type(options).__name__}")
    checked = (Options() if options is None else options).replace(**changes)
    if method is not None:
        if not isinstance(method, Method):
            raise TypeError(f"method: must be None or a Method such as mblsr1.sgd(0.1), got {type(method).__name__}")
        foreign = sorted(set(changes) - DRIVER_OPTIONS)
        if foreign:
            raise ValueError(
                f"{foreign[0]}: is an option of MB-LSR1; method {method.name!r} obeys "
                f"{', '.join(sorted(DRIVER_OPTIONS))}"
            )
    return checked


def check_whole_set(n_samples: int | None, check_size: Any, method: Method | None) -> None:
    """Raise where a whole set is asked of a stream, which has none."""
    if n_samples is not None:
        return
    if check_size == "all":
        raise ValueError('check_size: "all" needs a sampler with a known n_samples, got a stream')
    if method is not None and method.needs_whole:
        raise ValueError(f"sampler: method {method.name!r} needs one with a known n_samples, got a stream")


def checked_start(w0: Any, name: str = "w0") -> Array:
    """Return w0 as an array of its library, real floating and finite."""
    try:
        w = _array.as_array(w0)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: must be an array of real numbers, got {type(w0).__name__}") from None
    if w.dtype == object or str(w.dtype).startswith(("<U", "|S", "|b")):
        raise TypeError(f"{name}: must be an array of real floating numbers, got dtype {w.dtype}")
    if hasattr(w0, "mask"):
        raise TypeError(f"{name}: must be an array without a mask, got {type(w0).__name__}; fill it first")
    if _array.is_integer(w):
        w = _array.to_default_float(w)
    if not getattr(w.dtype, "isnative", True):
        w = w.astype(w.dtype.newbyteorder("="))
    if not _array.is_real_floating(w):
        raise TypeError(f"{name}: must be an array of real floating numbers, got dtype {w.dtype}")
    if math.prod(w.shape) == 0:
        raise ValueError(f"{name}: must have at least one entry, got shape {tuple(w.shape)}")
    if not _array.all_finite(w):
        raise ValueError(f"{name}: must be finite, got an entry that is nan or infinite")
    return w


def checked_rng(rng: Any) -> np.random.Generator:
    """Return the generator that None, a seed or a generator stands for."""
    if isinstance(rng, np.random.Generator) or rng is None:
        return np.random.default_rng(rng)
    wanted = "rng: must be None, an int >= 0 or a numpy.random.Generator"
    if isinstance(rng, bool) or not isinstance(rng, numbers.Integral):
        raise TypeError(f"{wanted}, got {rng!r:.60}; numpy.random.default_rng(...) makes a Generator")
    if rng < 0:
        raise ValueError(f"{wanted}, got {rng!r}")
    return np.random.default_rng(int(rng))


def size_of(sampler: Sampler | None) -> int | None:
    """The size N of the whole set: 1 without a sampler, None for a stream."""
    if sampler is None:
        return 1
    return None if sampler.n_samples is None else int(sampler.n_samples)


def check_functions(fun: Any, grad: Any, hvp: Any, callback: Any) -> None:
    """Raise a TypeError where one of the caller's functions is none."""
    if not callable(fun):
        raise TypeError(f"fun: must be a callable fun(w, batch), got {type(fun).__name__}")
    if grad is not True and not callable(grad):
        raise TypeError(
            f"grad: must be a callable grad(w, batch), or True where fun returns (loss, gradient), got {grad!r:.60}"
        )
    for name, value in (("hvp", hvp), ("callback", callback)):
        if value is not None and not callable(value):
            raise TypeError(f"{name}: must be None or a callable, got {type(value).__name__}")


def check_budgets(max_steps: Any, max_samples: Any) -> None:
    """Raise an error where a budget is not None or a number >= 0."""
    _check_budget("max_steps", max_steps, numbers.Integral, "an int >= 0")
    _check_budget("max_samples", max_samples, numbers.Real, "a number >= 0")


def _check_budget(name: str, value: Any, kind: Any, wanted: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, kind):
        raise TypeError(f"{name}: must be None or {wanted}, got {value!r}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{name}: must be None or {wanted}, got more than a float can hold") from None
    if not number >= 0.0:
        raise ValueError(f"{name}: must be None or {wanted}, got {value!r}")


def checked_checkpoint(checkpoint: Any, every: Any) -> CheckpointFile | None:
    """Return the file that a run writes now and then, where one is named in a folder that exists."""
    every = real("checkpoint_every", every, " >= 0, in seconds", lambda x: x >= 0.0)
    if checkpoint is None:
        return None
    return CheckpointFile(writable_path("checkpoint", checkpoint), every)
