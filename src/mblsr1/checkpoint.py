"""The state of a run as a tree of arrays and numbers, and the file that a run writes now and then."""

from __future__ import annotations

import os
import platform
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mblsr1 import _array, _reduction, state_file
from mblsr1._array import Array

__all__ = ["CheckpointFile", "State", "from_tree", "load_state", "packed", "save_state", "to_tree", "unpacked"]


@dataclass(frozen=True, eq=False)
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
    """Fill a fresh object of `template`'s structure from a tree.

    Arrays come in the library of the template's, or of `like` where it has none there, floating ones in its dtype.
    """
    if hasattr(template, "restore"):
        return template.restore(tree)
    if hasattr(template, "_asdict"):
        return type(template)(**{key: from_tree(item, tree[key], like) for key, item in template._asdict().items()})
    if _array.is_array(tree) and not np.isscalar(tree):
        has_array = _array.is_array(template) and not np.isscalar(template)
        return _array.adopt(tree, template if has_array else like)
    return tree


def save_state(path: str | os.PathLike[str], state: State) -> None:
    """Write a state to one .npz file: whole or not at all, whatever happens meanwhile.

    Parameters
    ----------
    path : path
        Written as it is; no suffix is added.
    state : State
        ``result.state`` or ``step.state``.

    Raises
    ------
    TypeError
        Where `path` is no path, `state` no State, or an entry of a method's own state cannot be written.
    ValueError
        Where `path` is a folder, or in a folder that does not exist.
    OSError
        Where the file cannot be written; one that was there is as it was.
    """
    if not isinstance(state, State):
        raise TypeError(f"state: must be result.state or step.state, got {type(state).__name__}")
    state_file.write(state_file.writable_path("path", path), {"state": state.tree})


def load_state(path: str | os.PathLike[str]) -> State:
    """Read a state that `save_state` wrote, or the one in the file of `minimize`'s `checkpoint`.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    State
        For `state` of `minimize` and `iterate`.

    Raises
    ------
    TypeError
        Where `path` is no path.
    ValueError
        Where the file is not a complete state: of another kind, cut off, or changed.
    OSError
        Where it cannot be read; FileNotFoundError where there is none.
    """
    return State(state_file.load(state_file.path_of("path", path), "path")["state"])


class CheckpointFile:
    """The file that a run writes now and then and, where it is there at the start, goes on from.

    Parameters
    ----------
    path : path
    every : float
        Seconds between two writes; 0 writes after each step.
    """

    def __init__(self, path: str | os.PathLike[str], every: float) -> None:
        self.path, self.every = Path(path), every
        self._written = time.monotonic()
        self._is_there = False
        self._place = (0, 1)

    def load(self) -> dict[str, Any] | None:
        """Read what the file holds; None where there is none. What a killed run left half written goes."""
        path, self._place = Path(os.path.realpath(self.path)), _reduction.place()
        if _reduction.is_spread():
            self._take_common(path)
        for part in state_file.parts_beside(path):
            with suppress(OSError):  # of another user
                part.unlink(missing_ok=True)
        self._is_there = path.exists()
        with _reduction.raised_on_all():
            return self._read() if self._is_there else None

    def _read(self, path: Path | None = None) -> dict[str, Any]:
        """The tree in the file, or in one that is to be it, if it is this rank's."""
        tree = state_file.load(self.path if path is None else path, "checkpoint")
        rank = tree.get("rank", list(self._place))
        if rank != list(self._place):
            raise ValueError(
                f"checkpoint: {os.fspath(self.path)!r} is of [rank, ranks] {rank!r:.60}, this is {list(self._place)}"
            )
        return tree

    def _take_common(self, path: Path) -> None:
        """Let the newest file that all ranks have take its place: a kill may leave some with a newer one."""
        _reduction.require_different(
            "checkpoint: must be another file on each rank, such as f'run-{parts.rank}.npz'",
            [platform.node(), os.fspath(path)],
        )
        found: dict[int, Path] = {}
        with _reduction.raised_on_all():
            for part in state_file.parts_beside(path):
                with suppress(ValueError, OSError):  # cut off
                    found[_moment(self._read(part))] = part
            if path.exists():
                found[_moment(self._read())] = path
        common = _reduction.in_common(list(found))
        if common and found[common[-1]] != path:
            state_file.put(found[common[-1]], path)
        if not common and _reduction.somewhere(path in found.values()):
            raise ValueError(
                f"checkpoint: the ranks' files, here {os.fspath(self.path)!r}, have no step in common; put back those "
                "of one run, or remove all of them to start anew"
            )

    @property
    def is_due(self) -> bool:
        """Whether it is time to write, on any rank."""
        return _reduction.somewhere(time.monotonic() - self._written >= self.every)

    def save(self, tree: Mapping[str, Any], together: bool = True) -> None:
        """Write. A place where no file can be is an error at once; later a full disk ends no run, and is a warning.

        Of ranks with parts of the vectors, all have the new file or none. Where they may not come here together, it is
        left beside its place, and `load` takes it if all ranks have it.
        """
        error: OSError | None = None
        try:
            if _reduction.is_spread():
                self._save_part(tree, together)
            else:
                state_file.write(self.path, tree)
        except OSError as raised:
            error = OSError(f"checkpoint: {os.fspath(self.path)!r} was not written: {raised}")
        self._written = time.monotonic()
        if not self._is_there:
            with _reduction.raised_on_all():
                if error is not None:
                    raise error
            self._is_there = True
        elif error is not None:
            warnings.warn(str(error), RuntimeWarning, 2)

    def _save_part(self, tree: Mapping[str, Any], together: bool) -> None:
        path, part, error = Path(os.path.realpath(self.path)), None, None
        try:
            part = state_file.written(path, {**tree, "rank": list(self._place)})
        except OSError as raised:
            error = raised
        if together and _reduction.everywhere(error is None) and part is not None:
            state_file.put(part, path)
        elif together and part is not None:
            part.unlink(missing_ok=True)
        if error is not None:
            raise error


def packed(history: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Return a history, lists of Python ints and floats, as arrays."""
    tree: dict[str, Any] = {"names": list(history)}
    for i, column in enumerate(history.values()):
        kinds = set(map(type, column))
        tree[f"{i}"] = np.asarray(column, dtype=np.int64 if kinds == {int} else np.float64)
        if len(kinds) > 1:
            tree[f"{i} int"] = np.asarray([isinstance(x, int) for x in column])
    return tree


def unpacked(tree: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the history that `packed` made arrays of."""
    history = {}
    for i, name in enumerate(tree["names"]):
        column = tree[f"{i}"].tolist()
        is_int = tree.get(f"{i} int", ())
        history[name] = [int(x) if k else x for x, k in zip(column, is_int, strict=True)] if len(is_int) else column
    return history


def _moment(tree: Mapping[str, Any]) -> int:
    """A number that tells the files of one run apart and grows: the step, and on it whether the run had ended."""
    run, step = tree.get("run"), tree["state"].get("step")
    status = run.get("status") if isinstance(run, dict) else None
    if not (isinstance(step, int) and step >= 0 and (status is None or isinstance(status, int))):
        raise ValueError(f"checkpoint: must be of a step >= 0, got {step!r:.60} with status {status!r:.60}")
    return 8 * step + (0 if status is None else 1 + status)
