"""What a name that no option has may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["ARGUMENTS", "unknown_option"]

#: Arguments of `minimize` that are no options.
ARGUMENTS = (
    "sampler", "method", "options", "rng", "max_steps", "max_samples", "callback", "state", "disp", "hvp", "checkpoint",
    "checkpoint_every",
)  # fmt: skip

#: What other libraries call them.
_ELSEWHERE = {
    "batchsize": "batch_size",
    "hessp": "hvp",
    "history_size": "memory",
    "lr": "learning_rate",
    "m": "memory",
    "max_iter": "max_steps",
    "maxcor": "memory",
    "maxfev": "max_samples",
    "maxfun": "max_samples",
    "maxiter": "max_steps",
    "random_state": "rng",
    "seed": "rng",
    "tol": "gtol",
    "verbose": "disp",
}


def unknown_option(name: str, options: Iterable[str]) -> TypeError:
    """Return the error for a name that is not among the options: what it may have meant, else all that there are."""
    options = list(options)
    meant = _ELSEWHERE.get(name) or next(iter(difflib.get_close_matches(name, [*options, *ARGUMENTS], 1)), None)
    if meant is None:
        return TypeError(f"{name}: unknown option; the options are {', '.join(options)}")
    of = "" if meant in options else ", an argument of minimize"
    return TypeError(f"{name}: unknown option; did you mean {meant}{of}?")
