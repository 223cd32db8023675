"""What is asked of a communicator: rank, size and two exchanges of float64 numbers; mpi4py or torch.distributed.

Both exchanges move numbers and add nothing: what is added, and in which order, is decided by the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Communicator", "RankError", "communicator", "raise_everywhere"]

Numbers = NDArray[np.float64]


class RankError(RuntimeError):
    """Another rank raised an exception; the message names the rank and the exception.

    Attributes
    ----------
    rank : int
        The lowest rank that failed.
    """

    def __init__(self, rank: int, text: str) -> None:
        super().__init__(f"rank {rank}: {text}")
        self.rank = rank


class Communicator(Protocol):
    """Ranks that call the same exchanges in the same order."""

    rank: int
    size: int

    def all_gather(self, send: Numbers) -> Numbers:
        """Return the (size, n) arrays that the ranks sent, each (n,)."""

    def all_to_all(self, send: Sequence[Numbers], counts: Sequence[int]) -> list[Numbers]:
        """Send ``send[r]`` to rank r; return what came from each rank, ``counts[r]`` numbers from rank r."""


def communicator(comm: Any) -> Communicator:
    """Return what `comm` is for this package.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, torch.distributed.ProcessGroup or Communicator
        A group of torch must exchange tensors of the CPU: gloo or MPI.

    Raises
    ------
    TypeError, ValueError
        Where it is none of these, or its backend moves no tensors of the CPU.
    """
    if hasattr(comm, "Alltoallv") and hasattr(comm, "Get_rank"):
        return _Mpi(comm)
    if type(comm).__module__.startswith("torch."):
        return _Torch(comm)
    if hasattr(comm, "all_gather") and hasattr(comm, "all_to_all") and _is_count(comm, "rank", "size"):
        if not 0 <= comm.rank < comm.size:
            raise ValueError(f"comm: must have 0 <= rank < size, got rank {comm.rank} of {comm.size}")
        return comm  # type: ignore[no-any-return]
    raise TypeError(
        f"comm: must be an mpi4py communicator or a torch.distributed process group, got {type(comm).__name__}"
    )


def _is_count(comm: Any, *names: str) -> bool:
    """Whether these attributes are integers: in the module torch.distributed there are none."""
    values = [getattr(comm, name, None) for name in names]
    return all(isinstance(x, int | np.integer) and not isinstance(x, bool) for x in values)


class _Mpi:
    """A communicator of mpi4py."""

    def __init__(self, comm: Any) -> None:
        self._comm, self.rank, self.size = comm, int(comm.Get_rank()), int(comm.Get_size())

    def all_gather(self, send: Numbers) -> Numbers:
        out = np.empty((self.size, send.size))
        self._comm.Allgather(np.ascontiguousarray(send), out)
        return out

    def all_to_all(self, send: Sequence[Numbers], counts: Sequence[int]) -> list[Numbers]:
        outgoing, out = np.concatenate(send), np.empty(sum(counts))
        sizes = [part.size for part in send]
        self._comm.Alltoallv([outgoing, (sizes, _starts(sizes))], [out, (list(counts), _starts(counts))])
        return np.split(out, _starts(counts)[1:])


class _Torch:
    """A process group of torch.distributed over tensors of the CPU."""

    def __init__(self, group: Any) -> None:
        import torch.distributed as dist  # noqa: PLC0415

        backend = dist.get_backend(group)
        if "gloo" not in backend and backend != "mpi":
            raise ValueError(
                f"comm: the group's backend must move tensors of the CPU, gloo or mpi, got {backend!r}; beside a "
                'group of a GPU make one with torch.distributed.new_group(backend="gloo")'
            )
        self._group, self.rank, self.size = group, dist.get_rank(group), dist.get_world_size(group)

    def all_gather(self, send: Numbers) -> Numbers:
        import torch  # noqa: PLC0415

        out = torch.empty((self.size, send.size), dtype=torch.float64)
        sent = torch.from_numpy(np.ascontiguousarray(send))
        torch.distributed.all_gather(list(out), sent, group=self._group)
        gathered: Numbers = out.numpy()
        return gathered

    def all_to_all(self, send: Sequence[Numbers], counts: Sequence[int]) -> list[Numbers]:
        import torch  # noqa: PLC0415

        out = torch.empty(sum(counts), dtype=torch.float64)
        sizes = [part.size for part in send]
        sent = torch.from_numpy(np.concatenate(send))
        torch.distributed.all_to_all_single(out, sent, list(counts), sizes, group=self._group)
        return np.split(out.numpy(), _starts(counts)[1:])


def _starts(counts: Sequence[int]) -> list[int]:
    """Where each part begins in a row of parts."""
    return [0, *(int(end) for end in np.cumsum(counts)[:-1])]


def raise_everywhere(comm: Communicator, error: BaseException | None, failed: Sequence[bool]) -> None:
    """Raise on all ranks where one has failed: its own exception there, a `RankError` with its text elsewhere.

    Parameters
    ----------
    comm : Communicator
    error : exception or None
        This rank's.
    failed : sequence of bool
        Which ranks have one: the same on all ranks, from the exchange before.
    """
    if not any(failed):
        return
    text = b"" if error is None else f"{type(error).__name__}: {error}".encode()
    longest = int(comm.all_gather(np.array([float(len(text))])).max())
    padded = np.frombuffer(text.ljust(longest), dtype=np.uint8).astype(np.float64)
    texts = comm.all_gather(padded)
    if error is not None:
        raise error
    first = list(failed).index(True)
    message = texts[first].astype(np.uint8).tobytes().decode(errors="replace").rstrip()
    raise RankError(first, message)
