"""A state as torch saves it, with ``weights_only=True``: tensors, numbers, text, dicts and lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

__all__ = ["from_saved", "to_saved"]

#: Marks an array of the host among the tensors: it goes back there, wherever the file was mapped to.
_HOST = "on the host"


def to_saved(tree: Any) -> Any:
    """Turn the NumPy arrays and numbers of a tree into what torch saves."""
    if isinstance(tree, dict):
        return {key: to_saved(value) for key, value in tree.items()}
    if isinstance(tree, np.ndarray):
        return {_HOST: torch.from_numpy(tree.copy())}
    return tree.item() if isinstance(tree, np.generic) else tree


def from_saved(tree: Any) -> Any:
    """The tree that `to_saved` was given."""
    if not isinstance(tree, dict):
        return tree
    if set(tree) == {_HOST}:
        return tree[_HOST].cpu().numpy()
    return {key: from_saved(value) for key, value in tree.items()}
