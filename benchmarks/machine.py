"""What a measurement was made on: processor, versions, threads."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable
from pathlib import Path


def processor() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if "model name" in line:
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def versions(packages: Iterable[str]) -> list[str]:
    """Return Python's version and those of the packages that are installed."""
    found = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine(packages: Iterable[str]) -> str:
    """Return processor, cores, threads of a run and versions, in a line."""
    return f"{processor()}, {os.cpu_count()} cores, one thread a run; {', '.join(versions(packages))}"
