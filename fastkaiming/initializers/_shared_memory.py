"""Which names of a mapping stand for the same memory."""

from collections.abc import Mapping
from functools import cache
from math import gcd
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastkaiming import _core


def shared(arrays: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    """Return the names of memory that has another name, the first one in the order of strings."""
    first_names: dict[str, str] = {}
    before: list[tuple[int, str]] = []  # what reaches beyond the start of the array at hand
    comb = cache(lambda name: _strided_span(arrays[name]))
    for start, end, name in sorted((*_core.span(array), name) for name, array in arrays.items() if array.size):
        before = [(its_end, other) for its_end, other in before if its_end > start]
        for _, other in before:
            if _is_same_memory(arrays[name], arrays[other]):
                first_names[name] = other
                break
            if not _are_interleaved(comb(name), comb(other)) and np.shares_memory(arrays[name], arrays[other]):
                first, second = sorted((other, name))
                raise ValueError(f"arrays must not overlap unless they are the same, got {first!r} and {second!r}")
        else:
            before.append((end, name))
    return first_names


class _StridedSpan(NamedTuple):
    """Memory within teeth of one width, that start a multiple of the step from each other; a step of 0: one tooth."""

    start: int
    width: int
    step: int


def _strided_span(array: NDArray[Any]) -> _StridedSpan:
    """Return a comb that covers the memory of an array; its teeth are what lies without gaps."""
    width, step = array.itemsize, 0
    for stride, size in sorted((abs(stride), size) for stride, size in zip(array.strides, array.shape, strict=True)):
        if stride <= width:
            width += stride * (size - 1)
        else:
            step = gcd(step, stride)
    return _StridedSpan(_core.span(array)[0], width, step)


def _are_interleaved(a: _StridedSpan, b: _StridedSpan) -> bool:
    """Tell at once of many views of one array that they share nothing: the teeth of each fall into the other's gaps."""
    step = gcd(a.step, b.step)
    distance = (b.start - a.start) % step if step else 0
    return a.width <= distance <= step - b.width


def _is_same_memory(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Tell whether two arrays are the same elements of the same memory."""
    if a.shape != b.shape or a.dtype != b.dtype or _core.span(a) != _core.span(b):
        return False
    return all(size == 1 or step == its for size, step, its in zip(a.shape, a.strides, b.strides, strict=True))
