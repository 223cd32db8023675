"""One BLAS thread here: the matrices are tiny, and two threads wait for each other where the machine is shared."""

import contextlib

import pytest

try:
    from threadpoolctl import threadpool_limits
except ModuleNotFoundError:  # slower, nothing else
    threadpool_limits = None


@pytest.fixture(autouse=True, scope="session")
def one_blas_thread():
    with threadpool_limits(1) if threadpool_limits else contextlib.nullcontext():
        yield
