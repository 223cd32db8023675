"""Callbacks that write a run down: into a CSV file, into TensorBoard; and several callbacks as one."""

from __future__ import annotations

import csv as _csv
import math
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from mblsr1.checks import integer, stops
from mblsr1.state_file import writable_path

__all__ = ["compose", "csv", "tensorboard"]

Callback = Callable[[Any], Any]


def csv(path: str | os.PathLike[str], append: bool = False) -> _Csv:
    """Return a callback that writes a row of all scalars for each step.

    Parameters
    ----------
    path : path
        File in a folder that exists; its first row names the columns, those of ``result.history``.
    append : bool
        Go on with a file of an earlier run. Where the run is continued from a `state`, rows of steps that are made
        again are dropped. False writes the file anew.

    Returns
    -------
    callback
        ``callback(step)`` for one run, or for several that continue each other; also a context manager, which closes
        the file. Each row is on its way to the disk before the next step begins.

    Raises
    ------
    TypeError, ValueError
        Where `path` is no path of a file, or `append` no bool; at the first step, where the file to go on with is of
        other columns or no CSV file; at a later one, where it is of another run.

    Examples
    --------
    >>> import numpy as np, mblsr1, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.csv"
    >>> with mblsr1.callbacks.csv(path) as log:
    ...     result = mblsr1.minimize(lambda w: float(w @ w), lambda w: 2 * w, np.ones(3), callback=log)
    >>> len(path.read_text().splitlines()) == 1 + result.nit
    True
    """
    if not isinstance(append, bool):
        raise TypeError(f"append: must be True or False, got {append!r}")
    return _Csv(writable_path("path", path), append)


def tensorboard(writer: Any, every: int = 1, prefix: str = "") -> _TensorBoard:
    """Return a callback that sends the scalars of a step to TensorBoard.

    Parameters
    ----------
    writer : path or SummaryWriter
        A folder, for which a ``SummaryWriter`` of ``torch.utils.tensorboard``, or else of ``tensorboardX``, is made at
        the first step; or a writer of yours, any object with ``add_scalar(name, value, step)``, which stays open.
    every : int
        >= 1: steps between two that are sent; the first is.
    prefix : str
        Put before the names, such as "run/".

    Returns
    -------
    callback
        ``callback(step)``; also a context manager, which closes the writer where it was made here. Scalars that are
        not finite are left out. In a folder where a run is continued, TensorBoard drops the steps made again.

    Raises
    ------
    TypeError, ValueError
        Where an argument is unusable.
    ImportError
        At the first step, where neither library is installed.
    """
    owns = isinstance(writer, str | os.PathLike)
    if not owns and not callable(getattr(writer, "add_scalar", None)):
        raise TypeError(f"writer: must be a path or have add_scalar(name, value, step), got {type(writer).__name__}")
    if not isinstance(prefix, str):
        raise TypeError(f"prefix: must be a str, got {prefix!r}")
    return _TensorBoard(writer, owns, integer("every", every, 1), prefix)


def compose(*callbacks: Callback) -> _Composed:
    """Return one callback that calls all of them, in this order.

    Parameters
    ----------
    *callbacks : callable
        Each sees each step; the run stops where one asks for it, after the others have seen the step.

    Returns
    -------
    callback
        Also a context manager, which enters those that are context managers, and leaves them, the last first.

    Raises
    ------
    TypeError
        Where one is not callable.
    """
    for callback in callbacks:
        if not callable(callback):
            raise TypeError(f"callbacks: must be callables callback(step), got {type(callback).__name__}")
    return _Composed(callbacks)


class _Csv(AbstractContextManager[Any]):
    """Opened at the first step, whose scalars are the columns."""

    def __init__(self, path: Path, append: bool) -> None:
        self._path, self._append = path, append
        self._file: Any = None
        self._writer: Any = None
        self._names: list[str] = []
        self._last = -math.inf
        self._closed = False

    def __call__(self, step: Any) -> None:
        if self._closed:
            raise ValueError(f"{self._path} is closed: make a new callback with mblsr1.callbacks.csv")
        if self._file is None:
            self._open(step.scalars)
        self._check(step)
        self._writer.writerow(step.scalars)
        self._file.flush()
        self._last = step.step

    def _check(self, step: Any) -> None:
        """Raise a ValueError where the step is of another run."""
        if list(step.scalars) != self._names:
            what = "its columns are those of another method"
        elif step.step <= self._last:
            what = f"step {step.step} does not follow step {self._last}"
        else:
            return
        raise ValueError(f"{self._path} is of another run, {what}: make a callback for each with mblsr1.callbacks.csv")

    def _open(self, scalars: dict[str, float]) -> None:
        self._names = names = list(scalars)
        kept = self._kept(names, scalars["step"]) if self._append and self._path.exists() else []
        draft = self._path.with_name(self._path.name + ".part")
        with draft.open("w", newline="", encoding="utf-8") as file:
            _csv.writer(file).writerows([names, *kept])
        draft.replace(self._path)  # the earlier rows are never lost
        self._file = self._path.open("a", newline="", encoding="utf-8")
        self._writer = _csv.DictWriter(self._file, names)

    def _kept(self, names: list[str], first: float) -> list[list[str]]:
        """Whole rows of the file before step `first`."""
        try:
            with self._path.open(newline="", encoding="utf-8") as file:
                found, *rows = list(_csv.reader(file)) or [names]
            if found == names:
                whole = [row for row in rows if len(row) == len(names)]
                return [row for row in whole if int(row[names.index("step")]) < first]
        except (ValueError, _csv.Error) as error:  # other text, or none in UTF-8
            raise ValueError(f"append: {self._path} is no file of mblsr1.callbacks.csv: {error}") from error
        raise ValueError(f"append: {self._path} has the columns {', '.join(found)}; this run {', '.join(names)}")

    def close(self) -> None:
        """Close the file; a step after that is a ValueError."""
        self._closed = True
        if self._file is not None:
            self._file.close()

    def __exit__(self, *exception: object) -> None:
        self.close()


class _TensorBoard(AbstractContextManager[Any]):
    """A writer of its own is made at the first step: that step is where an earlier run's events end."""

    def __init__(self, writer: Any, owns: bool, every: int, prefix: str) -> None:
        self._writer, self._owns, self._every, self._prefix = (None if owns else writer), owns, every, prefix
        self._folder = os.fspath(writer) if owns else None
        self._first: int | None = None
        self._closed = False

    def __call__(self, step: Any) -> None:
        if self._closed:
            raise ValueError("the writer is closed: make a new callback with mblsr1.callbacks.tensorboard")
        if self._writer is None:
            self._writer = _summary_writer()(self._folder, purge_step=step.step, filename_suffix=f".{step.step}")
        self._first = step.step if self._first is None else self._first
        if (step.step - self._first) % self._every:
            return
        for name, value in _finite(step.scalars):
            self._writer.add_scalar(self._prefix + name, value, step.step)
        flush = getattr(self._writer, "flush", None)
        if flush is not None:
            flush()

    def close(self) -> None:
        """Close the writer where it was made here; a step after that is a ValueError."""
        self._closed = True
        if self._owns and self._writer is not None:
            self._writer.close()

    def __exit__(self, *exception: object) -> None:
        self.close()


def _finite(scalars: dict[str, float]) -> Iterator[tuple[str, float]]:
    return ((name, value) for name, value in scalars.items() if name != "step" and math.isfinite(value))


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415
    except ImportError:
        try:
            from tensorboardX import SummaryWriter as WriterX  # noqa: PLC0415
        except ImportError:
            raise ImportError("mblsr1.callbacks.tensorboard: python -m pip install 'mblsr1[watch]'") from None
        return WriterX
    return SummaryWriter


class _Composed(AbstractContextManager[Any]):
    """Several callbacks as one."""

    def __init__(self, callbacks: tuple[Callback, ...]) -> None:
        self._callbacks: tuple[Any, ...] = callbacks
        self._entered = ExitStack()

    def __call__(self, step: Any) -> bool:
        stops = [_asks_to_stop(callback, step) for callback in self._callbacks]
        return any(stops)

    def __enter__(self) -> _Composed:
        with ExitStack() as stack:  # where one cannot be entered, those before it are left
            for callback in self._callbacks:
                if isinstance(callback, AbstractContextManager):
                    stack.enter_context(callback)
            self._entered = stack.pop_all()
        return self

    def __exit__(self, *exception: Any) -> bool:
        return bool(self._entered.__exit__(*exception))

    def close(self) -> None:
        """Leave the context managers that were entered, and close those that can be, the last first."""
        with self._entered, ExitStack() as stack:
            for callback in self._callbacks:
                if isinstance(callback, AbstractContextManager) and hasattr(callback, "close"):
                    stack.callback(callback.close)


def _asks_to_stop(callback: Callback, step: Any) -> bool:
    try:
        answer = callback(step)
    except StopIteration:
        return True
    return stops(answer)
