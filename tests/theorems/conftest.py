"""Seeds of the statistical tests: a few in CI, many with ``python -m nox -s seeds``."""

import os

#: Each test with a `seed` is run for the seeds 0, 1, ..., up to this number.
N_SEEDS = int(os.environ.get("MBLSR1_SEEDS", "2"))


def pytest_generate_tests(metafunc):
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(N_SEEDS))
