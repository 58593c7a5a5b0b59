"""The one way in which kernels are compiled."""

import warnings
from functools import cache

from numba import njit


@cache
def _warn_once(reason):
    warnings.warn(f"kernels are compiled anew in every process: {reason}", stacklevel=4)


def compiled(function):
    """Compile a kernel on its first call, and keep it on the disk where that can be written."""
    # No fast-math: lanes must round alike whatever stands beside them. Numpy's error model,
    # since lanes that wait may hold anything. No GIL, so that Python's threads run in parallel.
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError as error:  # numba found no folder that it may write to
        _warn_once(error)
        return njit(**options)(function)
