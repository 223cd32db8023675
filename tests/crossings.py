"""Counts what passes between the host and a device: the second device of array-api-strict stands in for a GPU.

On that device NumPy cannot read an array (it raises), so every crossing is one of the calls counted here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

#: Ways by which one number leaves the device.
_SCALARS = ("__float__", "__bool__", "__int__", "__index__", "__complex__")


@contextmanager
def crossings(patch: Any) -> Iterator[Counter[str]]:
    """Count crossings of array-api-strict arrays while the context lasts.

    "blocks" are arrays brought to the host, "scalars" single numbers, "uploads" host arrays that became device
    arrays. `patch` is pytest's MonkeyPatch.
    """
    import array_api_strict as strict

    array = type(strict.zeros(1))
    counts: Counter[str] = Counter()

    def counting(what: str, call: Callable[..., Any], counted: Callable[..., bool]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            counts[what] += counted(*args)
            return call(*args, **kwargs)

        return wrapped

    with patch.context() as patched:
        for name in _SCALARS:
            patched.setattr(array, name, counting("scalars", getattr(array, name), lambda *_: True))
        patched.setattr(array, "to_device", counting("blocks", array.to_device, lambda x, device: x.device != device))
        uploads = counting("uploads", strict.asarray, lambda x: isinstance(x, np.ndarray))
        patched.setattr(strict, "asarray", uploads)
        yield counts
