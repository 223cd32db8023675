"""More than one machine: batches shared out among ranks, data and vectors that no rank holds in whole.

The solver runs unchanged on every rank; what the ranks exchange passes through the functions and samplers made here.
"""

from mblsr1.distributed.communicator import RankError
from mblsr1.distributed.oracle import data_parallel
from mblsr1.distributed.sampler import ShardedSampler, rows_of_rank
from mblsr1.distributed.vectors import vectors_in_parts

__all__ = ["RankError", "ShardedSampler", "data_parallel", "rows_of_rank", "vectors_in_parts"]
