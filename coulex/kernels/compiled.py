"""The one way in which kernels are compiled."""

import warnings
from functools import cache

from numba import njit


@cache
def _warn_once():
    msg = (
        "kernels are compiled anew in every process, since no folder for them can be written; "
        "set NUMBA_CACHE_DIR to one that can"
    )
    warnings.warn(msg, stacklevel=4)


def compiled(function):
    """Compile a kernel on its first call, and keep it on the disk if that can be written."""
    # No fast-math: lanes must round alike whatever stands beside them. Numpy's error model:
    # lanes that wait may hold anything. No GIL, so that Python's threads run in parallel.
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no folder that it may write to
        _warn_once()
        return njit(**options)(function)
