"""Ranks as threads of one process: what the tests of the logic run on, without MPI."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mblsr1.distributed import RankError


class Thread:
    """One rank; it counts its exchanges and the numbers that it sends to others."""

    def __init__(self, rank, size, board, barrier):
        self.rank, self.size, self._board, self._barrier = rank, size, board, barrier
        self.exchanges = self.sent = 0

    def _swap(self, value):
        self._board[self.rank] = value
        self._barrier.wait()
        everything = list(self._board)
        self._barrier.wait()
        self.exchanges += 1
        return everything

    def all_gather(self, send):
        self.sent += send.size * (self.size - 1)
        return np.stack(self._swap(send.copy()))

    def all_to_all(self, send, counts):
        self.sent += sum(part.size for r, part in enumerate(send) if r != self.rank)
        came = [parts[self.rank] for parts in self._swap([part.copy() for part in send])]
        assert [part.size for part in came] == list(counts)
        return came


def run_on(size, program, *args):
    """Return what ``program(comm, *args)`` returns, or the exception that it raises, on each of `size` ranks."""
    board, barrier = [None] * size, threading.Barrier(size, timeout=30.0)

    def one(rank):
        try:
            return program(Thread(rank, size, board, barrier), *args)
        except Exception as error:
            barrier_is_fine = not isinstance(error, threading.BrokenBarrierError)
            assert barrier_is_fine, "a rank waited for the others in vain"
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size)))


def assert_told(found, rank, kind, text):
    """Of what `run_on` returned: one rank has its own exception, the others an error that names rank and exception."""
    assert isinstance(found[rank], kind)
    for other, error in enumerate(found):
        if other != rank:
            assert isinstance(error, RankError)
            assert str(error) == f"rank {rank}: {kind.__name__}: {text}"
            assert error.rank == rank
