"""Time of a step on P ranks: the sequence of evaluations, exchanges and solver work, rank by rank."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Node(NamedTuple):
    """What a rank's processor needs, in seconds.

    Attributes
    ----------
    number : float
        For one entry of the data in a loss with its gradient.
    fixed, entry : float
        For a step of the solver: whatever the length, and for one entry of the vectors.
    cores : float
        Cores that the ranks share; inf where each rank has a node of its own.
    """

    number: float
    fixed: float
    entry: float
    cores: float = math.inf


class Work(NamedTuple):
    """A step: dimension, samples a batch, gradients that make up the batch, blocks of each."""

    d: int
    batch: int
    gradients: int = 3
    blocks: int = 16


class Network(NamedTuple):
    """A link between nodes: seconds to reach another one, seconds to start a message, bytes a second."""

    name: str
    latency: float
    start: float
    bandwidth: float


NETWORKS = (
    Network("10 Gb/s Ethernet", 30e-6, 2e-6, 1.1e9),
    Network("100 Gb/s, InfiniBand", 2e-6, 0.5e-6, 11e9),
)


def exchange_time(network: Network, ranks: int, d: int) -> float:
    """Both exchanges of a data-parallel gradient: 2 (P - 1) messages of 8 d / P bytes, 2 log2 P latencies."""
    if ranks == 1:
        return 0.0
    messages = 2 * (ranks - 1)
    return 2 * math.log2(ranks) * network.latency + messages * (
        network.start + 8.0 * (d + 1) / ranks / network.bandwidth
    )


def gather_time(network: Network, ranks: int) -> float:
    """An exchange of a few numbers."""
    return math.log2(ranks) * network.latency + (ranks - 1) * network.start if ranks > 1 else 0.0


def simulate(work: Work, node: Node, ranks: int, exchange: Callable[[int, int], float]) -> float:
    """Seconds of a data-parallel step: each gradient waits for the slowest rank; the solver runs on all of them.

    Parameters
    ----------
    work : Work
    node : Node
    ranks : int
    exchange : callable
        (ranks, d) -> seconds of the exchange of a gradient.
    """
    shared = max(1.0, ranks / node.cores)
    rank = np.arange(ranks)
    blocks = (rank + 1) * work.blocks // ranks - rank * work.blocks // ranks
    clock = np.zeros(ranks)
    for _ in range(work.gradients):
        clock += work.batch / work.gradients * (blocks / work.blocks) * work.d * node.number * shared
        clock[:] = clock.max() + exchange(ranks, work.d)
    clock += (node.fixed + node.entry * work.d) * shared
    return float(clock.max())


def simulate_parts(work: Work, node: Node, ranks: int, network: Network, gathers: float) -> float:
    """Seconds of a step with vectors in parts: data cut by columns, sums of a few numbers, and products of the rows.

    `gathers` is the number of exchanges that the solver makes in a step; a gradient sums one number a sample, which the
    ranks tell each other before, and its end after.
    """
    rows = work.batch * work.d / ranks * node.number
    products = work.gradients * exchange_time(network, ranks, work.batch // work.gradients)
    few = (gathers + 2 * work.gradients) * gather_time(network, ranks)
    return rows + products + node.fixed + node.entry * work.d / ranks + few
