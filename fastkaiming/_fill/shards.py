"""Shards of a larger tensor: the positions of ``global[index]`` in the row-major order of the global tensor."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from fastkaiming import _validation
from fastkaiming._errors import named


class ShardOffset(NamedTuple):
    """The position of a shard in the global tensor.

    ``first`` is the row-major index of its first element, and ``steps`` is the difference between the indices of
    neighbouring elements along each axis. If any slice has a negative step, ``reversal`` is
    an index that reverses the array along the axes of these slices, so that all steps are positive.
    """

    first: int
    steps: tuple[int, ...] | None  # None for the steps of a whole array
    reversal: tuple[slice, ...] | None


WHOLE = ShardOffset(0, None, None)


def shard_offset(shape: tuple[int, ...], global_shape: Any, index: Any) -> ShardOffset:
    """Return the offset of a shard of this shape; for an array that is not a shard, the other arguments are None."""
    if global_shape is None and index is None:
        return WHOLE
    if isinstance(index, ShardOffset):
        return index
    if global_shape is None or index is None:
        given, missing = ("index", "global_shape") if global_shape is None else ("global_shape", "index")
        raise ValueError(f"global_shape and index must be given together, got {given} and no {missing}")
    sizes = _validation.shape("global_shape", global_shape)
    ranges = _selected_ranges(sizes, index)
    selected = tuple(map(_range_length, ranges))
    if shape != selected:
        raise ValueError(f"out must have the shape of global[index], {selected}, got {shape}")
    if 0 in shape:
        return WHOLE
    strides = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    first = sum(min(numbers[0], numbers[-1]) * stride for numbers, stride in zip(ranges, strides, strict=True))
    steps = tuple(
        abs(numbers.step) * stride if len(numbers) > 1 else 1 for numbers, stride in zip(ranges, strides, strict=True)
    )
    reversal = tuple(slice(None, None, 1 if numbers.step > 0 else -1) for numbers in ranges)
    return ShardOffset(first, steps, reversal if any(numbers.step < 0 for numbers in ranges) else None)


def _selected_ranges(sizes: tuple[int, ...], index: Any) -> tuple[range, ...]:
    """Return the range of indices that each slice selects."""
    if not isinstance(index, Sequence) or isinstance(index, str | bytes):
        raise TypeError(f"index must be a sequence of slices, not {_validation.describe(index)}")
    if len(index) != len(sizes):
        raise ValueError(f"index must have a slice for each axis of global_shape {sizes}, got {len(index)} of them")
    return tuple(_selected_range(f"index[{axis}]", size, index[axis]) for axis, size in enumerate(sizes))


def _selected_range(name: str, size: int, part: Any) -> range:
    if not isinstance(part, slice):
        raise TypeError(f"{name} must be a slice, not {_validation.describe(part)}")
    try:
        return range(*part.indices(size))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} must be a slice of integers or None and a step other than 0, got {part}") from None


def _range_length(numbers: range) -> int:
    """Return the length of a range, also above 2**63 - 1, where ``len`` raises OverflowError."""
    return (numbers[-1] - numbers[0]) // numbers.step + 1 if numbers else 0


def shard_slices(shape: int | Sequence[int], parts: int, axis: int = 0) -> list[tuple[slice, ...]]:
    """Return the slices that divide a tensor along one axis into parts of equal size.

    If the axis cannot be divided equally, the first parts are longer by 1.

    Parameters
    ----------
    shape : int or sequence of int
        The shape of the global tensor.
    parts : int
        The number of parts. Parts beyond the size of the axis are empty.
    axis : int, default 0
        The axis to divide; negative numbers count from the last axis.

    Returns
    -------
    list of tuple of slice
        The ``index`` of each part, one slice per axis, to pass to an initializer together with ``global_shape``.

    Raises
    ------
    TypeError
        If an argument is of the wrong type.
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> indices = fk.shard_slices((10, 4), parts=3)
    >>> indices[0]
    (slice(0, 4, None), slice(0, 4, None))
    >>> shards = [np.empty((index[0].stop - index[0].start, 4), np.float32) for index in indices]
    >>> for shard, index in zip(shards, indices):
    ...     shard = fk.kaiming_normal_(shard, rng=42, global_shape=(10, 4), index=index)
    >>> np.array_equal(np.concatenate(shards), fk.kaiming_normal((10, 4), rng=42))
    True
    """
    with named("shard_slices"):
        sizes = _validation.shape("shape", shape)
        parts = _validation.integer("parts", parts, 1, _validation.MAX_ELEMENTS)
        if not sizes:
            raise ValueError(f"shape must have at least one axis, got {sizes}")
        axis = _validation.integer("axis", axis, -len(sizes), len(sizes) - 1) % len(sizes)
    length, longer_parts = divmod(sizes[axis], parts)
    ends = [part * length + min(part, longer_parts) for part in range(parts + 1)]
    whole = tuple(slice(0, size) for size in sizes)
    return [(*whole[:axis], slice(*bounds), *whole[axis + 1 :]) for bounds in pairwise(ends)]
