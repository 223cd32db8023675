"""Which matrix the better predictor takes."""

import numpy as np
import pytest

from mblsr1.linalg.lsr1 import LSR1
from mblsr1.linalg.pairs import PairMemory
from mblsr1.linalg.scaling import ceiling
from mblsr1.steps.model import better_model

D = 6


def convex_memory():
    rng = np.random.default_rng(0)
    memory = PairMemory(np.zeros(D), 4)
    for _ in range(3):
        s = rng.standard_normal(D)
        memory.push(s, np.arange(1.0, D + 1.0) * s)
    memory.project([])
    return memory


@pytest.mark.parametrize(("lead", "takes_sr1"), [(-1.0, False), (0.0, False), (0.29, False), (0.31, True), (2.0, True)])
def test_sr1_is_taken_where_its_mean_log_error_is_smaller_by_more_than_the_advantage(lead, takes_sr1):
    memory = convex_memory()
    memory.scores[:] = -lead, 0.0
    problem = better_model(ceiling(), 1e-8)(memory, np.ones(D))
    assert isinstance(problem.B, LSR1) == takes_sr1


def test_without_a_pair_of_positive_curvature_it_is_sr1():
    memory = PairMemory(np.zeros(D), 4)
    memory.push(np.eye(D)[0], -2.0 * np.eye(D)[0])
    memory.project([])
    memory.scores[:] = 5.0, 0.0
    assert isinstance(better_model(ceiling(), 1e-8)(memory, np.ones(D)).B, LSR1)


def test_the_scores_are_the_running_mean_of_the_log_errors():
    """B = gamma I before any pair for SR1; L-BFGS has no matrix yet, and its score stays."""
    memory = PairMemory(np.zeros(D), 4)
    s, y = np.eye(D)[0], np.array([3.0, 4.0, 0.0, 0.0, 0.0, 0.0])
    memory.push(s, y)
    better_model(ceiling(), 1e-8)(memory, np.ones(D))
    # ceiling() gives gamma = 0 without pairs: y - Bs = y, an error of 1, whose log is 0
    assert memory.scores[1] == 0.0
    assert abs(memory.scores[0]) <= 10 * np.finfo(float).eps
    memory.push(np.eye(D)[1], np.array([0.0, 2.0, 0.0, 0.0, 0.0, 0.0]))
    old_sr1 = LSR1.from_memory(memory, 2.0 * 5.0)  # gamma: twice |y|/|s| = 5
    error = np.linalg.norm(np.array([0.0, 2.0, 0, 0, 0, 0]) - old_sr1.to_dense() @ np.eye(D)[1]) / 2.0
    better_model(ceiling(), 1e-8)(memory, np.ones(D))
    np.testing.assert_allclose(memory.scores[0], 0.2 * np.log(error), rtol=1e-10)
