"""Starts programs on the ranks of MPI or of a gloo group, as subprocesses that are ended when they take too long."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mblsr1

PROGRAMS = Path(__file__).with_name("programs.py")
TIMEOUT = 120.0


def launcher():
    """Path of mpiexec: beside this Python, where MPI comes from PyPI, or on the path."""
    beside = Path(sys.executable).with_name("mpiexec")
    return str(beside) if beside.is_file() else shutil.which("mpiexec")


def need_mpi():
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    if launcher() is None:
        pytest.skip("there is no mpiexec: no MPI is installed")


def environment():
    """One thread a rank, and this package."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    source = str(Path(mblsr1.__file__).parents[1])
    return {**os.environ, **one, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}


def on_mpi(size, names, folder):
    """Answers by name and rank from ``mpiexec -n size``."""
    finish([started_on_mpi(size, names, folder)])
    return answers(size, names, folder)


def killed_on_mpi(size, name, folder):
    """Wait for the end of a program that is killed."""
    process = started_on_mpi(size, [name], folder)
    try:
        output, _ = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
    assert process.returncode != 0, output
    assert not list(folder.glob(f"{name}-*.json")), output


def started_on_mpi(size, names, folder):
    command = [launcher(), "-n", str(size), sys.executable, "-m", "mpi4py", str(PROGRAMS), ",".join(names), "mpi"]
    return subprocess.Popen([*command, str(folder)], env=environment(), **PIPES)


def on_gloo(size, names, folder):
    """Answers by name and rank from a gloo group of `size` processes."""
    of_rank = [[",".join(names), f"gloo:{rank}:{size}", str(folder)] for rank in range(size)]
    commands = [[sys.executable, str(PROGRAMS), *arguments] for arguments in of_rank]
    finish([subprocess.Popen(command, env=environment(), **PIPES) for command in commands])
    return answers(size, names, folder)


PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}


def finish(processes):
    """Wait for all; fail with their output where one ends badly or late."""
    try:
        outputs = [process.communicate(timeout=TIMEOUT)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output


def answers(size, names, folder):
    def read(name, rank):
        return json.loads((folder / f"{name}-{rank}.json").read_text(encoding="utf-8"))

    return {name: [read(name, rank) for rank in range(size)] for name in names}
