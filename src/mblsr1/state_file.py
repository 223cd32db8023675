"""One tree of arrays and numbers as one .npz file without pickle.

A file is written whole or not at all: beside its place, to the disk, and then renamed. Its header has the format and a
SHA-256 over everything else, which tells damage; it is no signature.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mblsr1 import _array

__all__ = ["load", "parts_beside", "path_of", "put", "writable_path", "write", "written"]

_FORMAT = 3
#: The array in a file that holds its header.
_HEADER = "mblsr1"


def writable_path(argument: str, path: Any) -> Path:
    """Return the absolute path of a file in a folder that exists; an error that names the argument otherwise."""
    place = path_of(argument, path)
    try:
        if not place.is_dir() and place.parent.is_dir():
            return place
    except OSError as error:  # a name that is too long for the system
        raise ValueError(
            f"{argument}: must be the path of a file, got {os.fspath(path)!r} ({error.strerror})"
        ) from None
    raise ValueError(f"{argument}: must be a file in a folder that exists, got {os.fspath(path)!r}")


def path_of(argument: str, path: Any) -> Path:
    """Return the absolute path; an error that names the argument where it is none."""
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise TypeError(f"{argument}: must be the path of a file, got {path!r:.60}")
    if "\0" in os.fspath(path):
        raise ValueError(f"{argument}: must be the path of a file, got {path!r:.60}")
    return Path(os.path.abspath(path))


def write(path: Path, tree: Mapping[str, Any]) -> None:
    """Write a file, whole or not at all."""
    path = Path(os.path.realpath(path))
    while True:
        part = written(path, tree)
        with suppress(FileNotFoundError):  # another process with this file began later, and took it for a leftover
            return put(part, path)


def written(path: Path, tree: Mapping[str, Any]) -> Path:
    """Write a whole file beside `path`, to the disk, and return where it is."""
    arrays: dict[str, Any] = {}
    numbers: dict[str, Any] = {}
    _flatten("", tree, arrays, numbers)
    content = {"format": _FORMAT, "numbers": numbers, "arrays": list(arrays)}
    text = json.dumps({**content, "sha256": _digest(content, arrays)})
    arrays[_HEADER] = np.frombuffer(text.encode(), dtype=np.uint8)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return part


def put(part: Path, path: Path) -> None:
    """Let a whole file take its place."""
    try:
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def parts_beside(path: Path) -> list[Path]:
    """What runs that were killed left beside a file."""
    name = re.compile(re.escape(path.name) + r"\.[0-9a-f]{8}\.part")
    try:
        return [part for part in path.parent.iterdir() if name.fullmatch(part.name) and part.is_file()]
    except OSError:  # of another user, or a folder that is not there
        return []


def _sync_folder(folder: Path) -> None:
    """Bring the renaming to the disk, where the system opens folders."""
    if os.name == "nt":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def load(path: Path, argument: str) -> dict[str, Any]:
    """Return the tree in a file; a ValueError that names the argument where it is another file or part of one."""
    with path.open("rb") as stream:
        try:
            header, arrays = _read(stream)
            version = header["format"]
            tree = _nested({**header["numbers"], **arrays}) if version == _FORMAT else {}
        except Exception as error:  # whatever the parsers of zip, npy and JSON make of a foreign file
            reason = "it holds objects of Python" if "pickle" in str(error) else error or type(error).__name__
            raise ValueError(f"{argument}: {os.fspath(path)!r} is not a complete state of mblsr1 ({reason})") from error
    if version != _FORMAT:
        raise ValueError(f"{argument}: {os.fspath(path)!r} has format {version}, this version reads {_FORMAT}")
    return tree


def _read(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and arrays of a file; an error where it is another file or only part of one."""
    if not zipfile.is_zipfile(stream):
        raise ValueError("it is no .npz file, or only a part of one")
    stream.seek(0)
    file = np.load(stream, allow_pickle=False)
    header = json.loads(file[_HEADER].tobytes().decode())
    if header["format"] != _FORMAT:
        return header, {}
    arrays = {key: file[key] for key in file.files if key != _HEADER}
    if sorted(header["arrays"]) != sorted(arrays):
        raise ValueError(f"it should hold the arrays {header['arrays']}, and holds {list(arrays)}")
    if header.pop("sha256") != _digest(header, arrays):
        raise ValueError("its content does not have the checksum that was written with it")
    return header, arrays


def _digest(content: Mapping[str, Any], arrays: Mapping[str, Any]) -> str:
    """SHA-256 over the header and over name, dtype, shape and bytes of each array."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Turn names with slashes into nested dicts."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, name = key.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    if not isinstance(tree.get("state"), dict):
        raise ValueError("it holds no state")
    return tree


def _flatten(prefix: str, tree: Mapping[str, Any], arrays: dict[str, Any], numbers: dict[str, Any]) -> None:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            _flatten(name + "/", value, arrays, numbers)
        elif _array.is_array(value) and not np.isscalar(value):
            arrays[name] = _array.to_numpy(value)
        else:
            numbers[name] = value.item() if isinstance(value, np.generic) else value
            _check_entry(name, numbers[name])


def _check_entry(name: str, value: Any) -> None:
    """Raise a TypeError that names an entry which cannot be written."""
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"state: the entry {name.removeprefix('state/')!r} must be an array, a number, text, None, a list of "
            f"numbers, or a dict or NamedTuple of these, got {value!r:.60} ({error})"
        ) from error
