"""What the tests of the command line share."""

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Keep BLAS to one thread: on a busy machine, threads that wait for each other make small fits far slower."""
    with threadpool_limits(1):
        yield
