"""What the ranks of a real communicator run, ``python programs.py NAMES KIND FOLDER``, each into NAME-RANK.json.

KIND is mpi, or gloo:RANK:SIZE for a process of a torch.distributed group that meets through a file in FOLDER.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import zlib
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import problems

import mblsr1
from mblsr1.distributed import RankError, ShardedSampler, data_parallel, rows_of_rank, vectors_in_parts

FOLDER = Path(sys.argv[3])
PROBLEM = problems.logistic(n=200, d=24)
LONG = 40_000


def crc(x):
    return zlib.crc32(np.ascontiguousarray(x).tobytes())


def solve(functions, sampler, w0=PROBLEM.w0, **changes):
    given = {"max_steps": 15, "batch_size": 40, "rng": 7, **changes}
    result = mblsr1.minimize(*functions, w0, sampler, **given)
    return [crc(result.x), crc(np.array(result.history["loss"])), result.nit]


def replicated(comm, **changes):
    return solve(data_parallel(PROBLEM.fun, PROBLEM.grad, comm), 200, **changes)


def sharded(comm):
    own = rows_of_rank(comm, 200)
    sampler = ShardedSampler(comm, *(a[own] for a in PROBLEM.data))
    return solve(data_parallel(PROBLEM.fun, PROBLEM.grad, comm), sampler)


def long(comm):
    """Gradients that are summed in slices."""
    scale = np.linspace(0.1, 1.0, LONG)

    def fun(w, i):
        z = scale * w - np.sin(np.mean(i))
        return float(np.mean(z**2)), 2.0 * scale * z / LONG

    return solve(data_parallel(fun, True, comm), 200, np.ones(LONG), max_steps=5)


def in_parts(comm, **changes):
    """Every rank has its part of the vectors: all decide alike, and the whole is that of one rank."""
    X, y = PROBLEM.data
    own = slice(24 * rank_of(comm) // size_of(comm), 24 * (rank_of(comm) + 1) // size_of(comm))
    with vectors_in_parts(comm) as parts:

        def margin(w, batch):
            return y[batch] * parts.sum(X[batch, own] @ w)

        def fun(w, batch):
            return float(np.mean(np.logaddexp(0.0, -margin(w, batch)))) + parts.sum(0.05 * float(w @ w))

        def grad(w, batch):
            wrong = np.exp(-np.logaddexp(0.0, margin(w, batch)))
            return X[batch, own].T @ (-y[batch] * wrong) / len(batch) + 0.1 * w

        given = {"max_steps": 15, "batch_size": 40, "rng": 7, **changes}
        result = mblsr1.minimize(*parts.functions(fun, grad), PROBLEM.w0[own], 200, **given)
    return {"x": list(result.x), "loss": result.history["loss"], "n_samples": result.n_samples}


def mortal_replicated(comm):
    """The ranks have one file; the first time rank 1 is killed."""
    return replicated(comm, **mortal(comm, "replicated.npz"))


def mortal_in_parts(comm):
    """Each rank has its file; the first time rank 1 is killed."""
    return in_parts(comm, **mortal(comm, f"in-parts-{rank_of(comm)}.npz"))


def mortal(comm, name):
    """A file, and on rank 1, where there is none yet, a callback that kills its process at some moment."""
    path = FOLDER / name
    is_first = rank_of(comm) == 1 and not (FOLDER / "was-killed").exists()

    def die():
        (FOLDER / "was-killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)

    def callback(step):
        if step.step == 3:
            threading.Timer(0.02, die).start()
        if step.step == 10:
            die()

    return {"checkpoint": path, "checkpoint_every": 0, "callback": callback if is_first else None}


def failing_in_parts(comm):
    """Rank 1 fails where the others add up numbers, few or many."""
    seen = []
    for n in (2, 1000):
        with vectors_in_parts(comm) as parts:

            def fun(w, n=n):
                if rank_of(comm) == 1:
                    raise OSError("no such disk")
                return float(parts.sum(np.full(n, float(w @ w))).sum())

            try:
                seen.append(parts.functions(fun, lambda w: w)[0](np.ones(3)))
            except (OSError, RankError) as error:
                seen.append(f"{type(error).__name__}: {error}")
    return seen


def failing(comm):
    """Rank 1 fails in its third gradient: what each rank sees."""
    left = [3]

    def grad(w, batch):
        left[0] -= rank_of(comm) == 1
        if left[0] < 0:
            raise OSError("no such disk")
        return PROBLEM.grad(w, batch)

    try:
        return solve(data_parallel(PROBLEM.fun, grad, comm), 200)
    except (OSError, RankError) as error:
        return f"{type(error).__name__}: {error}"


def rank_of(comm):
    return comm.Get_rank() if hasattr(comm, "Get_rank") else comm.rank()


def size_of(comm):
    return comm.Get_size() if hasattr(comm, "Get_size") else comm.size()


def communicator(kind, folder):
    if kind == "mpi":
        from mpi4py import MPI

        return MPI.COMM_WORLD
    import torch.distributed as dist

    _, rank, size = kind.split(":")
    meeting = (folder / "meeting").as_uri()
    dist.init_process_group("gloo", init_method=meeting, rank=int(rank), world_size=int(size))
    return dist.group.WORLD


def main(names, kind, folder):
    comm = communicator(kind, Path(folder))
    for name in names.split(","):
        answer = globals()[name](comm)
        Path(folder, f"{name}-{rank_of(comm)}.json").write_text(json.dumps(answer), encoding="utf-8")
    if kind != "mpi":
        import torch.distributed as dist

        dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
