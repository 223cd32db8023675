"""Finished runs on disk, one small file each, and a loop over the missing ones.

A run is known by its settings, a JSON object; "version" among them says which code was run. A
file is named by the hash of all settings; reports take the newest version of each run.
"""

from __future__ import annotations

import ast
import contextlib
import datetime
import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

RESULTS = Path(__file__).parent / "results"
CACHE = RESULTS / "cache"

#: Files and folders of the package that no run computes with: conveniences around the solver.
OUTSIDE = {
    "__main__.py", "demo.py", "torch", "jax.py", "scipy.py", "sklearn", "distributed", "plotting.py",
    "callbacks.py", "checkpoint.py",
}  # fmt: skip

Settings = dict[str, Any]


def plain(value: Any) -> str:
    """Name a rule (a function) where JSON cannot write it."""
    return f"{value.__module__}.{value.__qualname__}"


def key(settings: Settings, *, versioned: bool = True) -> str:
    """Hash of the settings; without "version" where `versioned` is False."""
    kept = {k: v for k, v in settings.items() if versioned or k != "version"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=plain).encode()).hexdigest()[:16]


def code_version(package: Path, version: str) -> str:
    """`version` and a digest of the code in `package` that runs compute with, comments and docstrings left out."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        if not OUTSIDE & {path.name, path.relative_to(package).parts[0]} and path != package / "__init__.py":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                body = getattr(node, "body", None)
                if isinstance(body, list):
                    node.body = [b for b in body if not _is_text(b)]
            digest.update(ast.dump(tree).encode())
    return f"{version}+{digest.hexdigest()[:8]}"


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


class Store:
    """The runs of one bench: loose files under runs/, and NAME.json with all of them after `pack`."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.runs = folder / "runs"

    def save(self, settings: Settings, result: dict[str, Any]) -> None:
        """Write one run at once: a reader sees all of it or nothing."""
        self.runs.mkdir(parents=True, exist_ok=True)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        text = json.dumps({"settings": settings, "result": result, "finished": now}, default=plain)
        path = self.runs / f"{self.name}-{key(settings)}.json"
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(path)

    def records(self) -> list[dict[str, Any]]:
        """All finished runs, packed and loose."""
        found: list[dict[str, Any]] = []
        packed = self.folder / f"{self.name}.json"
        if packed.is_file():
            found += json.loads(packed.read_text(encoding="utf-8"))
        for path in sorted(self.runs.glob(f"{self.name}-*.json")):
            with contextlib.suppress(FileNotFoundError):
                found.append(json.loads(path.read_text(encoding="utf-8")))
        return found

    def finished(self) -> set[str]:
        """Hashes of the finished runs."""
        return {key(r["settings"]) for r in self.records()}

    def newest(self) -> dict[str, dict[str, Any]]:
        """The newest run by hash of its settings without the version."""
        ordered = sorted(self.records(), key=lambda r: r["finished"])
        return {key(r["settings"], versioned=False): r for r in ordered}

    def pack(self) -> Path:
        """Write the newest run of each kind to NAME.json, one a line."""
        path = self.folder / f"{self.name}.json"
        lines = ",\n".join(json.dumps(record) for _, record in sorted(self.newest().items()))
        path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        return path


def run_all(work: Callable[[Any], None], jobs: list[Any], *, processes: int, minutes: float, title: str) -> list[str]:
    """Run the jobs in worker processes behind a progress bar; start none after `minutes`. Return what failed."""
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    waiting, failed, end = iter(jobs), [], time.monotonic() + 60.0 * minutes
    running: dict[Future[None], Any] = {}
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    with pool, tqdm(total=len(jobs), desc=title, unit=" jobs", smoothing=0.1) as bar:
        while True:
            if time.monotonic() < end:
                fresh = itertools.islice(waiting, processes - len(running))
                running.update({pool.submit(work, job): job for job in fresh})
            if not running:
                return failed
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                job, error = running.pop(future), future.exception()
                if error is not None:
                    failed.append(f"{job}: {error!r}")
                    bar.write(failed[-1])
                bar.update()
