"""Views of a parameter: which of its elements they contain, and where a process stores these elements."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch

from fastkaiming._fill.shards import ShardOffset

Region: TypeAlias = tuple[
    Sequence[slice], Sequence[slice]
]  # the same elements in the local tensor and in the whole one


class Part(NamedTuple):
    """The elements of a view that one region stores: their place in the view, their memory, and their indices."""

    slices: tuple[slice, ...]
    memory: torch.Tensor
    offset: ShardOffset


class _Axis(NamedTuple):
    """An axis of a whole parameter, of which a region contains ``length`` indices from ``begin`` on.

    ``stride``, ``step`` and ``local_stride`` are the distances between neighbouring elements in the tensor that is
    viewed, in row-major order, and in the local tensor.
    """

    size: int
    begin: int
    length: int
    stride: int
    step: int
    local_stride: int


def find_part(view: torch.Tensor, whole: torch.Tensor, local: torch.Tensor, region: Region) -> Part | None:
    """Return the part of a view that a region of the local tensor contains, or None if it contains no element of it.

    ``view`` is a view of ``whole``, and ``local`` is the tensor that stores the region. Raise ValueError if the part
    cannot be described by one stride per axis, because the view combines an axis that is divided with another one.
    """
    if view.numel() == 0 or any(part.start >= part.stop for part in region[1]):
        return None
    axes = _merge_axes(_axes_in_region(whole, local, region))
    indices, rest = [], view.storage_offset() - whole.storage_offset()
    for axis in axes:
        index, rest = divmod(rest, axis.stride)
        indices.append(index)
    slices = [slice(0, size) for size in view.shape]
    along = [_find_axis(size, stride, axes, indices) for size, stride in zip(view.shape, view.stride(), strict=True)]
    for number, axis in enumerate(axes):
        if axis.length == axis.size:
            continue
        view_axes = [view_axis for view_axis, found in enumerate(along) if found == number]
        if len(view_axes) > 1:
            raise ValueError("a view must not divide an axis that is divided between processes")
        if not view_axes:
            if not axis.begin <= indices[number] < axis.begin + axis.length:
                return None
            continue
        step = view.stride(view_axes[0]) // axis.stride
        low = max(0, -((indices[number] - axis.begin) // step))
        high = min(view.shape[view_axes[0]], -((indices[number] - axis.begin - axis.length) // step))
        if low >= high:
            return None
        slices[view_axes[0]] = slice(low, high)
        indices[number] += low * step
    steps, strides = [], []
    for found, stride in zip(along, view.stride(), strict=True):
        multiple = 0 if found is None else stride // axes[found].stride
        steps.append(1 if found is None else multiple * axes[found].step)
        strides.append(0 if found is None else multiple * axes[found].local_stride)
    origin = local.storage_offset() + sum(
        part.start * stride for part, stride in zip(region[0], local.stride(), strict=True)
    )
    origin += sum((index - axis.begin) * axis.local_stride for index, axis in zip(indices, axes, strict=True))
    memory = local.as_strided([part.stop - part.start for part in slices], strides, origin)
    first = sum(index * axis.step for index, axis in zip(indices, axes, strict=True))
    return Part(tuple(slices), memory, ShardOffset(first, tuple(steps), None))


def _axes_in_region(whole: torch.Tensor, local: torch.Tensor, region: Region) -> list[_Axis]:
    """Return the axes of a parameter that have more than one element, those with the largest strides first."""
    axes, step = [], 1
    for axis in reversed(range(whole.dim())):
        part = region[1][axis]
        if whole.shape[axis] > 1:
            length = part.stop - part.start
            axes.append(_Axis(whole.shape[axis], part.start, length, whole.stride(axis), step, local.stride(axis)))
        step *= whole.shape[axis]
    return sorted(axes, key=lambda axis: -axis.stride)


def _merge_axes(axes: list[_Axis]) -> list[_Axis]:
    """Combine neighbouring axes that no process divides and whose elements are regularly spaced everywhere."""
    merged: list[_Axis] = []
    for inner in axes:
        outer = merged[-1] if merged else None
        if (
            outer is not None
            and outer.length == outer.size
            and inner.length == inner.size
            and outer[3:] == tuple(inner.size * distance for distance in inner[3:])
        ):
            size = outer.size * inner.size
            merged[-1] = _Axis(size, 0, size, *inner[3:])
        else:
            merged.append(inner)
    return merged


def _find_axis(size: int, stride: int, axes: list[_Axis], indices: list[int]) -> int | None:
    """Return the number of the axis of the parameter along which an axis of a view lies; None if its size is 1."""
    if size == 1:
        return None
    for number, axis in enumerate(axes):
        multiple, rest = divmod(stride, axis.stride)
        if multiple > 0 and rest == 0 and indices[number] + (size - 1) * multiple < axis.size:
            return number
    raise ValueError("a view must not combine an axis that is divided between processes with another axis")
