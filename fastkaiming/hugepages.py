"""Fresh memory in huge pages: Linux maps 2 MiB at a fault, not 4 KiB, where it is asked to before the first touch."""

import ctypes
import mmap
import sys
from functools import cache
from typing import Any

from numpy.typing import NDArray

_LEAST_BYTES = 4 << 20  # smaller arrays come from memory that was touched before, as a rule
_HUGE = 2 << 20


def advise(array: NDArray[Any]) -> None:
    """Ask for huge pages under an array of some size; a system that has none goes on as before."""
    if array.nbytes < _LEAST_BYTES or not array.flags.forc or not sys.platform.startswith("linux"):
        return
    first = -(-array.ctypes.data // _HUGE) * _HUGE
    end = (array.ctypes.data + array.nbytes) // _HUGE * _HUGE
    _madvise()(first, end - first, mmap.MADV_HUGEPAGE)


@cache
def _madvise() -> Any:
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return madvise
