"""Stores of a constant, which measure the store bandwidth, and newly allocated memory."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastkaiming import _core
from fastkaiming.cli._memset import memset

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

CONSTANTS = {"float32": _core.CONSTANT_F32, "float64": _core.CONSTANT_F64}


def by_the_core(weights: NDArray[Any], threads: int, store: int) -> None:
    """Store ones with the compiled core."""
    _core.fill(weights, CONSTANTS[weights.dtype.name], 0, 0, 0, center=1.0, threads=threads, store=store)


STORES: dict[str, Callable[[NDArray[Any], int], None]] = {
    "memset": memset,
    "plain stores": functools.partial(by_the_core, store=_core.STORE_PLAIN),
    "streaming stores": functools.partial(by_the_core, store=_core.STORE_STREAMING),
}


def kinds() -> tuple[str, ...]:
    """Return the kinds of stores that this machine supports."""
    return tuple(STORES) if _core.has_streaming_stores() else ("memset", "plain stores")


def touch_and_free(nbytes: int, threads: int = 2) -> None:
    """Write to memory and free it, just before the same amount of newly allocated memory is measured.

    The host of a virtual machine may provide memory slowly when it is first used, and take it back within seconds.
    """
    memset(np.empty(nbytes, np.uint8), threads)


def newly_allocated(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an uninitialized array, just after the same amount of memory was touched and freed."""
    touch_and_free(math.prod(shape) * dtype.itemsize)
    return np.empty(shape, dtype)
