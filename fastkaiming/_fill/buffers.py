"""Convert arrays, buffers and DLPack objects to NumPy arrays, and check that their memory can be filled."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastkaiming import _hints, _validation
from fastkaiming._fill import dtypes

Target = TypeVar("Target")


def array(out: Any, function: str | None) -> NDArray[Any]:
    """Return ``out`` as an array: the array itself, or a new one that shares its memory.

    ``function`` is the name of the public function that fills it.
    """
    if isinstance(out, np.ndarray):
        return out
    if hasattr(type(out), "__dlpack__"):
        return _from_dlpack(out, function)
    try:
        return np.asarray(memoryview(out))
    except TypeError:
        raise TypeError(
            f"out must be a NumPy array or support the buffer protocol or DLPack, not {_validation.describe(out)}"
            f"{_hints.for_out(out, function)}"
        ) from None


def _from_dlpack(out: Any, function: str | None) -> NDArray[Any]:
    try:
        imported = np.from_dlpack(out)
        if imported.flags.owndata and imported.size:
            raise BufferError("it has no memory of its own")  # NumPy has allocated new memory for the array
        if _hints.is_from(out, "torch") and out.is_neg():
            raise BufferError("its memory holds the negatives of its elements")
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(
            f"out must export CPU memory to NumPy by DLPack, but its type {type(out).__name__} does not: "
            f"{str(error).rstrip('.')}{_hints.for_out(out, function)}"
        ) from error
    return imported if imported.flags.writeable else _writable_array(out, imported)


def _writable_array(out: Any, imported: NDArray[Any]) -> NDArray[Any]:
    """Return a writable array of the imported memory, if ``out`` converts to one.

    The first versions of DLPack had no flag for writable memory, so NumPy imports memory from them as read-only. NumPy
    before 2.1 imports all memory as read-only. An object whose memory is writable, such as a torch tensor, can still be
    converted to a writable array by ``np.asarray``; a jax array cannot.
    """
    converted = np.asarray(out) if hasattr(type(out), "__array__") else imported
    same_but_writable = {**imported.__array_interface__, "data": (imported.ctypes.data, False)}
    if converted.__array_interface__ == same_but_writable:
        return converted
    kind, version = type(out).__name__, np.__version__
    hint = _hints.for_out(out, None) if _hints.is_of_jax(out) else ""
    raise ValueError(f"out must be writable, but NumPy {version} imports its type {kind} by DLPack as read-only{hint}")


def format_of(memory: NDArray[Any]) -> dtypes.Format:
    """Return the format of an array's elements, or raise TypeError if its dtype is not supported."""
    stored_format = dtypes.format_of_dtype(memory.dtype)
    if stored_format is None:
        raise TypeError(f"out must be of dtype {dtypes.NAMES}, not {memory.dtype}")
    return stored_format


def check_memory(memory: NDArray[Any]) -> None:
    """Raise ValueError if an array is read-only or if its elements overlap in memory."""
    if not memory.flags.writeable:
        hint = _hints.for_out(memory, None) if _hints.is_of_jax(memory) else ""
        raise ValueError(f"out must be writable, got a read-only array of shape {memory.shape}{hint}")
    if not memory.flags.c_contiguous and _overlaps_itself(memory):
        raise ValueError(
            f"out must not overlap itself, got strides {memory.strides} for shape {memory.shape} of {memory.dtype}"
        )


def _overlaps_itself(memory: NDArray[Any]) -> bool:
    """Return whether two elements share a byte.

    No elements share a byte if the stride of each axis is at least the number of bytes that the axes of shorter strides
    cover. If this test fails, NumPy solves the problem exactly, for one axis at a time. Let k be the first axis along
    which the indices of two overlapping elements differ. Shifting both elements by the same amount preserves the
    overlap, so we can assume that their indices are 0 before axis k, and that along axis k one
    index is 0 and the other is 1 or more.
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
