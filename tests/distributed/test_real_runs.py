"""Runs under mpiexec and in a gloo group of torch: the same bits on 1, 2 and 4 ranks of either."""

import pytest
from launch import need_mpi, on_gloo, on_mpi

SAME = ["replicated", "sharded", "long"]
FAILED = ["RankError: rank 1: OSError: no such disk", "OSError: no such disk"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one rank of MPI computes."""
    need_mpi()
    found = on_mpi(1, SAME, tmp_path_factory.mktemp("alone"))
    assert all(steps > 1 for ((_, _, steps),) in found.values())
    return found


@pytest.mark.parametrize("size", [2, 4])
def test_ranks_of_mpi_compute_the_same_bits(size, alone, tmp_path):
    found = on_mpi(size, [*SAME, "failing"], tmp_path)
    for name in SAME:
        assert found[name] == alone[name] * size
    assert found["failing"] == [FAILED[0], FAILED[1], *FAILED[:1] * (size - 2)]


def test_a_gloo_group_of_two_computes_the_same_bits(alone, tmp_path):
    pytest.importorskip("torch")
    found = on_gloo(2, [*SAME, "failing"], tmp_path)
    for name in SAME:
        assert found[name] == alone[name] * 2
    assert found["failing"] == FAILED
