"""BLAS on one thread, where what runs beside each other are the parts of a task."""

from contextlib import AbstractContextManager
from functools import cache

import scipy.linalg  # noqa: F401 - its BLAS is one of those that are held
from threadpoolctl import ThreadpoolController


def one_blas_thread() -> AbstractContextManager[object]:
    """Hold the BLAS of NumPy and of SciPy to one thread: the same sums whatever the number of cores.

    They are looked up once: a search through all libraries of a process that has imported torch takes about 10 ms.
    """
    return _found().limit(limits=1, user_api="blas")


@cache
def _found() -> ThreadpoolController:
    return ThreadpoolController()
