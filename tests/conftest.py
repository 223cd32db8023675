"""One BLAS thread, Hypothesis profiles, and a fixture of array libraries."""

import os

# Before NumPy is imported: the matrices are tiny, and two threads wait for each other where the machine is shared.
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from collections.abc import Iterator  # noqa: E402

import pytest  # noqa: E402
from libraries import LIBRARIES, ArrayLibrary, parameters  # noqa: E402

try:
    from hypothesis import HealthCheck, Phase, settings
except ModuleNotFoundError:  # the tests without hypothesis still run
    pass
else:
    _SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    settings.register_profile("ci", derandomize=True, deadline=None, max_examples=50, suppress_health_check=_SLOW)
    settings.register_profile("dev", deadline=None, max_examples=30, suppress_health_check=_SLOW)
    settings.register_profile("thorough", deadline=None, max_examples=500, suppress_health_check=_SLOW)
    settings.register_profile(  # a mutant is killed by the first failure, whatever the smallest one is
        "mutation", parent=settings.get_profile("ci"), max_examples=25, phases=(Phase.explicit, Phase.generate)
    )
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


@pytest.fixture(params=parameters())
def xp(request: pytest.FixtureRequest) -> Iterator[ArrayLibrary]:
    """An array library; skipped where it is not installed or has no device."""
    library = LIBRARIES[request.param]()
    with library.context():
        yield library
