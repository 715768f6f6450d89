"""What can be filled: arrays of NumPy and whatever else lends its memory, and how that memory may look."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastkaiming import _validation
from fastkaiming._fill import dtypes

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
            "out must be a NumPy array, or lend its memory as a buffer or by DLPack, not " + _validation.shown(out)
        ) from None


def _from_dlpack(out: Any) -> NDArray[Any]:
    try:
        lent = np.from_dlpack(out)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(
            f"out must lend memory of the CPU to NumPy by DLPack, and its {type(out).__name__} does not: {error}"
        ) from error
    return lent if lent.flags.writeable else _writable(out, lent)


def _writable(out: Any, lent: NDArray[Any]) -> NDArray[Any]:
    """Return a writable array of the memory lent, if ``out`` itself gives one.

    DLPack could not say at first whether memory may be written to, and NumPy takes what is lent so for read-only;
    before version 2.1, all of it. Who may be written to, like a torch tensor, says so where NumPy asks for an array; a
    jax array does not.
    """
    own = np.asarray(out) if hasattr(type(out), "__array__") else lent
    same_but_writable = {**lent.__array_interface__, "data": (lent.ctypes.data, False)}
    if own.__array_interface__ == same_but_writable:
        return own
    kind, version = type(out).__name__, np.__version__
    raise ValueError(f"out must be writable, and what its {kind} lends by DLPack is read-only to NumPy {version}")


def format_of(memory: NDArray[Any]) -> dtypes.Format:
    """Return the format of an array's elements."""
    storage = dtypes.known(memory.dtype)
    if storage is None:
        raise TypeError(f"out must be of dtype {dtypes.NAMES}, not {memory.dtype}")
    return storage


def check_memory(memory: NDArray[Any]) -> None:
    """Refuse memory that must not be written to, and memory in which elements lie over one another."""
    if not memory.flags.writeable:
        raise ValueError(f"out must be writable, got a read-only array of shape {memory.shape}")
    if not memory.flags.c_contiguous and _overlaps_itself(memory):
        raise ValueError(
            f"out must not overlap itself, got strides {memory.strides} for shape {memory.shape} of {memory.dtype}"
        )


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
