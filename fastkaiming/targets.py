"""What can be filled: arrays of NumPy and whatever else lends its memory, and how that memory may look."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastkaiming import checks, formats

Target = TypeVar("Target")


def array(out: Any) -> NDArray[Any]:
    """Return the array that ``out`` is, or that lies in its memory."""
    if isinstance(out, np.ndarray):
        return out
    if hasattr(type(out), "__dlpack__"):
        return _from_dlpack(out)
    try:
        return np.asarray(memoryview(out))
    except TypeError:
        raise TypeError(
            "out must be a NumPy array, or lend its memory as a buffer or by DLPack, not " + checks.shown(out)
        ) from None


def _from_dlpack(out: Any) -> NDArray[Any]:
    try:
        return np.from_dlpack(out)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(
            f"out must lend memory of the CPU to NumPy by DLPack, and its {type(out).__name__} does not: {error}"
        ) from error


def format_of(memory: NDArray[Any]) -> formats.Format:
    """Return the format of an array's elements."""
    storage = formats.known(memory.dtype)
    if storage is None:
        raise TypeError(f"out must be of dtype {formats.NAMES}, not {memory.dtype}")
    return storage


def check_memory(memory: NDArray[Any]) -> None:
    """Refuse memory that must not be written to, and memory in which elements lie over one another."""
    if not memory.flags.writeable:
        raise ValueError(f"out must be writable, got a read-only array of shape {memory.shape}")
    if not memory.flags.c_contiguous and _overlaps_itself(memory):
        raise ValueError(
            f"out must not overlap itself, got strides {memory.strides} for shape {memory.shape} of {memory.dtype}"
        )


def words(memory: NDArray[Any]) -> NDArray[Any]:
    """Return the array as the core reads it, which knows the machine's own byte order and standard types alone."""
    if memory.dtype.isnative and memory.dtype.kind == "f" and memory.itemsize > 1:
        return memory
    return memory.view(f"u{memory.itemsize}")


def _overlaps_itself(memory: NDArray[Any]) -> bool:
    """Tell whether two elements share a byte.

    They cannot where each axis strides over all that the axes of shorter strides cover. Where that does not hold, let
    NumPy solve it: two elements that differ along axis k first are, moved together, one with index 0 there and 1 or
    more.
    """
    axes = sorted((abs(stride), size) for stride, size in zip(memory.strides, memory.shape, strict=True) if size > 1)
    covered = memory.itemsize
    for stride, size in axes:
        if stride < covered:
            break
        covered += stride * (size - 1)
    else:
        return False
    return memory.size > 0 and any(
        np.shares_memory(memory[(0,) * axis + (slice(1),)], memory[(0,) * axis + (slice(1, None),)])
        for axis in range(memory.ndim)
    )
