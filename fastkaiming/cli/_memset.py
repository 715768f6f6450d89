"""A multithreaded memset, whose speed is the speed of writing memory and therefore the limit of every fill."""

import ctypes
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from typing import Any

from numpy.typing import NDArray

UNIT = 2 << 20  # bytes in a work unit: the size of a huge page


def memset(array: NDArray[Any], threads: int) -> None:
    """Set every byte of a contiguous array, with the C library's memset on ``threads`` threads.

    It shares no code with the compiled core. ctypes releases the GIL during the call, so the threads run in parallel.
    Work units begin at multiples of 2 MiB, so that no two threads wait for the page fault of the same huge page. This
    is the fastest way to write newly allocated memory.
    """
    units = deque(work_units(array.ctypes.data, array.nbytes))
    workers = min(threads, len(units))
    if workers <= 1:
        set_bytes(units)
        return
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(set_bytes, units) for _ in range(workers)]:
            done.result()


def set_bytes(units: deque[tuple[int, int]]) -> None:
    """Take work units and set their bytes until none is left."""
    with suppress(IndexError):
        while True:
            start, nbytes = units.popleft()
            ctypes.memset(start, 1, nbytes)


def work_units(start: int, nbytes: int) -> list[tuple[int, int]]:
    """Return the address and the number of bytes of each work unit.

    >>> [(hex(address), nbytes) for address, nbytes in work_units(0x1FF000, 0x300000)]
    [('0x1ff000', 4096), ('0x200000', 2097152), ('0x400000', 1044480)]
    """
    stop = start + nbytes
    edges = [start, *range(start // UNIT * UNIT + UNIT, stop, UNIT), stop]
    return [(low, high - low) for low, high in pairwise(edges) if high > low]
