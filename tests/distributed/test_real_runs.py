"""Runs under mpiexec and in a gloo group of torch: the same bits on 1, 2 and 4 ranks of either."""

import numpy as np
import pytest
from launch import killed_on_mpi, need_mpi, on_gloo, on_mpi

import mblsr1

SAME = ["replicated", "sharded", "long"]
FAILED = ["RankError: rank 1: OSError: no such disk", "OSError: no such disk"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one rank of MPI computes."""
    need_mpi()
    found = on_mpi(1, [*SAME, "in_parts"], tmp_path_factory.mktemp("alone"))
    assert all(found[name][0][2] > 1 for name in SAME)
    return found


def assert_parts_of(whole, parts):
    """The same decisions on all ranks, and the run of one rank to rounding (24 entries, 15 steps)."""
    for part in parts:
        assert part["loss"] == parts[0]["loss"]
        assert part["n_samples"] == whole["n_samples"]
        np.testing.assert_allclose(part["loss"], whole["loss"], rtol=1e-11)
    np.testing.assert_allclose(np.concatenate([part["x"] for part in parts]), whole["x"], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [2, 4])
def test_ranks_of_mpi_compute_the_same_bits(size, alone, tmp_path):
    found = on_mpi(size, [*SAME, "in_parts", "failing", "failing_in_parts"], tmp_path)
    for name in SAME:
        assert found[name] == alone[name] * size
    assert found["failing_in_parts"] == [[text] * 2 for text in (FAILED[0], FAILED[1], *FAILED[:1] * (size - 2))]
    assert found["failing"] == [FAILED[0], FAILED[1], *FAILED[:1] * (size - 2)]
    assert_parts_of(alone["in_parts"][0], found["in_parts"])


@pytest.mark.torch
def test_a_gloo_group_of_two_computes_the_same_bits(alone, tmp_path):
    pytest.importorskip("torch")
    found = on_gloo(2, [*SAME, "in_parts", "failing", "failing_in_parts"], tmp_path)
    for name in SAME:
        assert found[name] == alone[name] * 2
    assert found["failing"] == FAILED
    assert found["failing_in_parts"] == [[text] * 2 for text in FAILED]
    assert_parts_of(alone["in_parts"][0], found["in_parts"])


@pytest.mark.parametrize("name", ["replicated", "in_parts"])
def test_ranks_that_are_killed_go_on_bit_for_bit(name, tmp_path):
    need_mpi()
    killed_on_mpi(2, f"mortal_{name}", tmp_path)
    assert (tmp_path / "was-killed").exists()
    assert min(mblsr1.load_state(path).step for path in tmp_path.glob("*.npz")) >= 2
    found = on_mpi(2, [name, f"mortal_{name}"], tmp_path)
    assert found[f"mortal_{name}"] == found[name]
