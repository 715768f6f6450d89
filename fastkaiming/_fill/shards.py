"""Parts of a larger tensor: where the elements of ``global[index]`` stand in the row-major order of the whole."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from fastkaiming import _validation


class ShardOffset(NamedTuple):
    """Where a shard stands: its first element, and the way to the next one along each axis.

    Where a slice runs backwards, so has the array to be read: ``backwards`` then indexes it.
    """

    first: int
    steps: tuple[int, ...] | None  # None: those of the array itself
    backwards: tuple[slice, ...] | None


WHOLE = ShardOffset(0, None, None)


def place(shape: tuple[int, ...], global_shape: Any, index: Any) -> ShardOffset:
    """Return the place of an array of that shape in the whole; both arguments are None for an array that is it."""
    if global_shape is None and index is None:
        return WHOLE
    if global_shape is None or index is None:
        given, missing = ("index", "global_shape") if global_shape is None else ("global_shape", "index")
        raise ValueError(f"global_shape and index must be given together, got {given} and no {missing}")
    sizes = _validation.shape("global_shape", global_shape)
    ranges = _ranges(sizes, index)
    selected = tuple(map(_count, ranges))
    if shape != selected:
        raise ValueError(f"out must have the shape of global[index], {selected}, got {shape}")
    if 0 in shape:
        return WHOLE
    strides = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    first = sum(min(numbers[0], numbers[-1]) * stride for numbers, stride in zip(ranges, strides, strict=True))
    steps = tuple(
        abs(numbers.step) * stride if len(numbers) > 1 else 1 for numbers, stride in zip(ranges, strides, strict=True)
    )
    backwards = tuple(slice(None, None, 1 if numbers.step > 0 else -1) for numbers in ranges)
    return ShardOffset(first, steps, backwards if any(numbers.step < 0 for numbers in ranges) else None)


def _ranges(sizes: tuple[int, ...], index: Any) -> tuple[range, ...]:
    """Return the indices that each slice selects."""
    if not isinstance(index, Sequence) or isinstance(index, str | bytes):
        raise TypeError(f"index must be a sequence of slices, not {_validation.shown(index)}")
    if len(index) != len(sizes):
        raise ValueError(f"index must have a slice for each axis of global_shape {sizes}, got {len(index)} of them")
    return tuple(_range(f"index[{axis}]", size, index[axis]) for axis, size in enumerate(sizes))


def _range(name: str, size: int, part: Any) -> range:
    if not isinstance(part, slice):
        raise TypeError(f"{name} must be a slice, not {_validation.shown(part)}")
    try:
        return range(*part.indices(size))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} must be a slice of integers or None and a step other than 0, got {part}") from None


def _count(numbers: range) -> int:
    """Return how many there are; len() ends at 2**63 - 1."""
    return (numbers[-1] - numbers[0]) // numbers.step + 1 if numbers else 0


def shard_slices(shape: int | Sequence[int], parts: int, axis: int = 0) -> list[tuple[slice, ...]]:
    """Cut a tensor along one axis into parts of equal size, or of sizes that differ by 1: the first ones are larger.

    Parameters
    ----------
    shape : int or sequence of int
        The shape of the whole tensor.
    parts : int
        How many parts; those beyond the size of the axis are empty.
    axis : int, default 0
        The axis to cut; negative ones count from the last.

    Returns
    -------
    list of tuple of slice
        For each part its ``index``, with a slice for each axis, as every initializer takes it beside ``global_shape``.

    Raises
    ------
    TypeError
        An argument of the wrong kind.
    ValueError
        An argument out of range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> cuts = fk.shard_slices((10, 4), parts=3)
    >>> cuts[0]
    (slice(0, 4, None), slice(0, 4, None))
    >>> shards = [np.empty((cut[0].stop - cut[0].start, 4), np.float32) for cut in cuts]
    >>> for shard, cut in zip(shards, cuts):
    ...     shard = fk.kaiming_normal_(shard, rng=42, global_shape=(10, 4), index=cut)
    >>> np.array_equal(np.concatenate(shards), fk.kaiming_normal((10, 4), rng=42))
    True
    """
    sizes = _validation.shape("shape", shape)
    parts = _validation.integer("parts", parts, 1, _validation.MAX_ELEMENTS)
    if not sizes:
        raise ValueError(f"shape must have an axis to cut, got {sizes}")
    axis = _validation.integer("axis", axis, -len(sizes), len(sizes) - 1) % len(sizes)
    share, larger = divmod(sizes[axis], parts)
    ends = [part * share + min(part, larger) for part in range(parts + 1)]
    whole = tuple(slice(0, size) for size in sizes)
    return [(*whole[:axis], slice(*cut), *whole[axis + 1 :]) for cut in pairwise(ends)]
