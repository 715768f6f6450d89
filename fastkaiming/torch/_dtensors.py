"""DTensors: the index of a rank's local tensor in the whole tensor."""

import sys
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate, product
from typing import Any, NamedTuple, TypeAlias

import torch

Slices: TypeAlias = tuple[slice, ...]
Run: TypeAlias = tuple[int, int]  # consecutive indices of an axis: the first one, and the end


class Split(NamedTuple):
    """A division of an axis along one dimension of a mesh, of which a rank gets the part with its coordinate.

    The axis is first divided into ``factor`` blocks, and then each block into ``parts`` parts.
    """

    coordinate: int
    parts: int
    factor: int = 1


def is_dtensor(tensor: torch.Tensor) -> bool:
    """Return True if a tensor is a DTensor, without importing torch.distributed.tensor."""
    distributed = sys.modules.get("torch.distributed.tensor")
    return distributed is not None and isinstance(tensor, distributed.DTensor)


def local_tensor(tensor: Any) -> torch.Tensor:
    """Return the memory of a DTensor in this process, without an operation that autograd or a mode could observe."""
    local: torch.Tensor = tensor._local_tensor
    return local


def local_slices(tensor: Any, local_shape: Sequence[int]) -> Sequence[tuple[Slices, Slices]] | None:
    """Return pairs of slices: the index of a region in the local tensor, and its index in the whole tensor.

    There are no pairs if the whole tensor has no elements. The result is None if :func:`slices_error` returns an error.
    """
    coordinate = tensor.device_mesh.get_coordinate()
    if coordinate is None:  # this rank is not part of the mesh
        return []
    splits = _splits_by_axis(tensor, coordinate)
    if splits is None:
        return None
    if 0 in tensor.shape:  # the local tensor may have another shape, such as (0, 0) after fully_shard
        return []
    slices_by_axis = [_slices(local_runs(size, each)) for size, each in zip(tensor.shape, splits, strict=True)]
    if [sum(local.stop - local.start for local, _ in pairs) for pairs in slices_by_axis] != list(local_shape):
        return None
    return [
        (tuple(local for local, _ in pairs), tuple(whole for _, whole in pairs)) for pairs in product(*slices_by_axis)
    ]


def slices_error(subject: str, tensor: Any, local_shape: Sequence[int]) -> ValueError | None:
    """Return the error that says why a DTensor has no :func:`local_slices`, or None if it has them."""
    if local_slices(tensor, local_shape) is not None:
        return None
    placements = tuple(tensor.placements)
    if any(placement.is_partial() for placement in placements):
        return ValueError(
            f"{subject} must not be a DTensor of partial sums, got the placements {placements}: redistribute it first, "
            "for example to Replicate()"
        )
    return ValueError(
        f"the local tensor of {subject} must have the shape that its placements {placements} define, got "
        f"{tuple(local_shape)} for the whole shape {tuple(tensor.shape)}"
    )


def _splits_by_axis(tensor: Any, coordinate: Sequence[int]) -> list[list[Split]] | None:
    """Return the divisions of each axis in their order; None for placements that do not divide or copy the tensor."""
    from torch.distributed.tensor import Shard

    splits: list[list[Split]] = [[] for _ in tensor.shape]
    for dimension in _dimensions_in_order(tensor):
        placement, parts = tensor.placements[dimension], tensor.device_mesh.size(dimension)
        factor = getattr(placement, "split_factor", None)  # FSDP2 with tensor parallelism, in another order of ranks
        if isinstance(placement, Shard) or factor is not None:
            splits[placement.dim].append(Split(coordinate[dimension], parts, factor or 1))
        elif not placement.is_replicate():
            return None
    return splits


def _dimensions_in_order(tensor: Any) -> Iterable[int]:
    """Return the dimensions of the mesh in the order in which they divide the tensor, usually from left to right."""
    dimensions = range(tensor.device_mesh.ndim)
    order = [dimension for entry in tensor._spec.shard_order or () for dimension in entry.mesh_dims]
    return [*order, *(dimension for dimension in dimensions if dimension not in order)]


def local_runs(size: int, splits: Iterable[Split]) -> list[Run]:
    """Return the runs of consecutive indices that a rank has of an axis of this size, in the order of its elements.

    Each division applies to the elements that the divisions before it have left. Like ``torch.chunk``, it makes parts
    of equal lengths, but the last parts can be shorter or empty.
    """
    runs = [(0, size)] if size else []
    for coordinate, parts, factor in splits:
        lengths = [end - begin for begin, end in runs]
        blocks = _chunks(sum(lengths), factor, range(factor))
        chosen = [_chunks(end - begin, parts, [coordinate])[0] for begin, end in blocks]
        positions = [(block + begin, block + end) for (block, _), (begin, end) in zip(blocks, chosen, strict=True)]
        runs = _elements_at(runs, [*accumulate(lengths)], positions)
    return runs


def _chunks(size: int, count: int, numbers: Iterable[int]) -> list[Run]:
    """Return the positions of the chunks with these numbers if ``torch.chunk`` divides a size into ``count`` chunks."""
    length = -(-size // count)
    return [(min(number * length, size), min((number + 1) * length, size)) for number in numbers]


def _elements_at(runs: Sequence[Run], ends: Sequence[int], positions: Iterable[Run]) -> list[Run]:
    """Return the runs of the elements at these positions; the elements of run ``n`` end at position ``ends[n]``."""
    found: list[Run] = []
    for begin, end in positions:
        number = bisect_right(ends, begin)
        while begin < end:
            first = runs[number][1] - (ends[number] - begin)
            stop = min(end, ends[number])
            last = first + stop - begin
            if found and found[-1][1] == first:
                first = found.pop()[0]
            found.append((first, last))
            begin, number = stop, number + 1
    return found


def _slices(runs: Sequence[Run]) -> list[tuple[slice, slice]]:
    """Return the position of each run in the local part of an axis, and its index in the whole axis."""
    ends = accumulate(end - begin for begin, end in runs)
    return [
        (slice(position - (end - begin), position), slice(begin, end))
        for position, (begin, end) in zip(ends, runs, strict=True)
    ]
