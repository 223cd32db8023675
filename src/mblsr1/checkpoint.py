"""The state of a run as a tree of arrays and numbers, and as one .npz file without pickle."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mblsr1 import _array
from mblsr1._array import Array

__all__ = ["State", "from_tree", "load_state", "save_state", "to_tree"]

_FORMAT = 1


@dataclass(frozen=True)
class State:
    """Where a run stands: enough to continue it bit for bit, on the same machine and versions.

    Attributes
    ----------
    tree : dict
        Nested dicts of arrays, numbers and text: iterate, pairs, radius, batch size and check,
        counts, random generator.
    """

    tree: dict[str, Any]

    def __repr__(self) -> str:
        return f"State(method={self.tree['method']!r}, step={self.step})"

    @property
    def x(self) -> Array:
        """The iterate, in the user's shape."""
        return _array.reshape(self.tree["w"], tuple(self.tree["shape"]))

    @property
    def step(self) -> int:
        """Number of steps made."""
        return int(self.tree["step"])


def to_tree(value: Any, copy: bool) -> Any:
    """Turn NamedTuples and objects with `to_saved` into dicts; copy the arrays where asked to."""
    if hasattr(value, "to_saved"):
        value = value.to_saved()
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: to_tree(item, copy) for key, item in value.items()}
    if copy and _array.is_array(value) and not np.isscalar(value):
        return _array.copy(value)
    return value


def from_tree(template: Any, tree: Any, like: Array) -> Any:
    """Fill a fresh object of `template`'s structure from a tree; vectors become arrays like `like`."""
    if hasattr(template, "restore"):
        return template.restore(tree)
    if hasattr(template, "_asdict"):
        return type(template)(**{key: from_tree(item, tree[key], like) for key, item in template._asdict().items()})
    if _array.is_array(tree) and not np.isscalar(tree):
        return _array.adopt(tree, like)
    return tree


def save_state(path: str | os.PathLike[str], state: State) -> None:
    """Write a state to one .npz file.

    Parameters
    ----------
    path : path
        Written as it is; no suffix is added.
    state : State
        ``result.state`` or ``step.state``.

    Raises
    ------
    TypeError
        Where `state` is not a State.
    """
    if not isinstance(state, State):
        raise TypeError(f"state: must be result.state or step.state, got {type(state).__name__}")
    arrays: dict[str, Any] = {}
    numbers: dict[str, Any] = {}
    _flatten("", state.tree, arrays, numbers)
    text = json.dumps({"format": _FORMAT, "numbers": numbers, "arrays": list(arrays)})
    with Path(path).open("wb") as file:
        np.savez(file, **arrays, mblsr1=np.frombuffer(text.encode(), dtype=np.uint8))


def load_state(path: str | os.PathLike[str]) -> State:
    """Read a state that `save_state` wrote.

    Parameters
    ----------
    path : str or path-like

    Raises
    ------
    ValueError
        Where the file is not a complete state.
    FileNotFoundError
        Where there is none.
    """
    try:
        numbers, arrays, version = _read(Path(path))
    except (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"path: {os.fspath(path)!r} is not a complete state of mblsr1 ({error})") from error
    if version != _FORMAT:
        raise ValueError(f"path: {os.fspath(path)!r} has format {version}, this version reads {_FORMAT}")
    tree: dict[str, Any] = {}
    for key, value in {**numbers, **arrays}.items():
        *parents, name = key.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    return State(tree)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Numbers, arrays and format of a file; an error where it is another file or only part of one."""
    with path.open("rb") as stream:  # np.load leaves a file open that it cannot read
        file = np.load(stream, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        header = json.loads(file["mblsr1"].tobytes().decode())
        arrays = {key: file[key] for key in file.files if key != "mblsr1"}
    missing = sorted(set(header["arrays"]) - set(arrays))
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    return header["numbers"], arrays, header["format"]


def _flatten(prefix: str, tree: dict[str, Any], arrays: dict[str, Any], numbers: dict[str, Any]) -> None:
    for key, value in tree.items():
        name = prefix + key
        if isinstance(value, dict):
            _flatten(name + "/", value, arrays, numbers)
        elif _array.is_array(value) and not np.isscalar(value):
            arrays[name] = _array.to_numpy(value)
        else:
            numbers[name] = value.item() if isinstance(value, np.generic) else value
