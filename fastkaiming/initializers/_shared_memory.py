"""Find the arrays of a mapping that share memory."""

from collections.abc import Mapping
from functools import cache
from math import gcd
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastkaiming import _core


def find_shared(arrays: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    """Return the shared names of a mapping of arrays.

    If several names refer to the same memory, the result maps each of them, except the one that sorts first, to that
    one. Raise ValueError if two arrays overlap but are not the same.
    """
    first_names: dict[str, str] = {}
    open_spans: list[tuple[int, str]] = []  # the ends and names of earlier arrays that end after the current start
    strided_span = cache(lambda name: _strided_span(arrays[name]))
    for start, end, name in sorted((*_core.span(array), name) for name, array in arrays.items() if array.size):
        open_spans = [(other_end, other) for other_end, other in open_spans if other_end > start]
        for _, other in open_spans:
            if _is_same_memory(arrays[name], arrays[other]):
                first_names[name] = other
                break
            interleaved = _are_interleaved(strided_span(name), strided_span(other))
            if not interleaved and np.shares_memory(arrays[name], arrays[other]):
                first, second = sorted((other, name))
                raise ValueError(f"arrays must not overlap unless they are the same, got {first!r} and {second!r}")
        else:
            open_spans.append((end, name))
    return first_names


class _StridedSpan(NamedTuple):
    """Blocks of ``width`` bytes at ``start`` plus any multiple of ``step`` bytes; a single block if ``step`` is 0."""

    start: int
    width: int
    step: int


def _strided_span(array: NDArray[Any]) -> _StridedSpan:
    """Return a strided span that covers the memory of an array. Its blocks are the parts without gaps."""
    width, step = array.itemsize, 0
    for stride, size in sorted((abs(stride), size) for stride, size in zip(array.strides, array.shape, strict=True)):
        if stride <= width:
            width += stride * (size - 1)
        else:
            step = gcd(step, stride)
    return _StridedSpan(_core.span(array)[0], width, step)


def _are_interleaved(a: _StridedSpan, b: _StridedSpan) -> bool:
    """Return whether the blocks of each span lie in the gaps of the other, which is fast to check for many views."""
    step = gcd(a.step, b.step)
    distance = (b.start - a.start) % step if step else 0
    return a.width <= distance <= step - b.width


def _is_same_memory(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Return whether every index refers to the same address in both arrays."""
    if a.shape != b.shape or a.dtype != b.dtype or _core.span(a) != _core.span(b):
        return False
    return all(size == 1 or s == t for size, s, t in zip(a.shape, a.strides, b.strides, strict=True))
