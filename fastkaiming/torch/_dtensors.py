"""DTensors: the index of a rank's local tensor in the whole tensor."""

import sys
from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import torch

Slices: TypeAlias = tuple[slice, ...]


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

    The result is None if the values are partial sums over the ranks, or if the shape of the local tensor is not the one
    that its placements define.
    """
    coordinate = tensor.device_mesh.get_coordinate()
    if coordinate is None:  # this rank is not part of the mesh
        return []
    if any(placement.is_partial() for placement in tensor.placements):
        return None
    slices_by_axis = [
        _contiguous_slices(
            tensor.device_mesh,
            tuple(coordinate),
            tuple(_placement_on_axis(placement, axis) for placement in tensor.placements),
            size,
        )
        for axis, size in enumerate(tensor.shape)
    ]
    if [sum(local.stop - local.start for local, _ in pairs) for pairs in slices_by_axis] != list(local_shape):
        return None
    return [
        (tuple(local for local, _ in pairs), tuple(whole for _, whole in pairs)) for pairs in product(*slices_by_axis)
    ]


def _placement_on_axis(placement: Any, axis: int) -> Any:
    """Return the placement that divides a one-dimensional tensor as ``placement`` divides the given axis."""
    from torch.distributed.tensor import Replicate, Shard

    if getattr(placement, "dim", None) != axis:
        return Replicate()
    if hasattr(placement, "split_factor"):  # FSDP2 with tensor parallelism, which divides the axis in another order
        return type(placement)(0, split_factor=placement.split_factor)
    return Shard(0)


_MAX_CACHED = 1024  # for each mesh
# The coordinate is part of the key, because meshes with the same ranks compare equal even if they belong to different
# process groups. The cache does not keep a mesh alive.
_cached_slices: WeakKeyDictionary[Any, dict[tuple[Any, ...], list[tuple[slice, slice]]]] = WeakKeyDictionary()


def _contiguous_slices(
    mesh: Any, coordinate: tuple[int, ...], placements: tuple[Any, ...], size: int
) -> list[tuple[slice, slice]]:
    """Return pairs of slices, one for each run of consecutive indices in this rank's part of an axis.

    The first slice of a pair is the position in the local part, the second is the position in the whole axis.
    """
    cached = _cached_slices.setdefault(mesh, {})
    key = (coordinate, placements, size)
    slices = cached.get(key)
    if slices is None:
        if len(cached) >= _MAX_CACHED:
            cached.clear()
        slices = cached[key] = _find_contiguous_slices(mesh, placements, size)
    return slices


def _find_contiguous_slices(mesh: Any, placements: tuple[Any, ...], size: int) -> list[tuple[slice, slice]]:
    # A single offset does not describe every placement, because some give a rank several runs.
    from torch.distributed.tensor import distribute_tensor

    indices = distribute_tensor(torch.arange(size), mesh, placements, src_data_rank=None).to_local().cpu().numpy()
    ends = [0, *(np.flatnonzero(np.diff(indices) != 1) + 1).tolist(), indices.size]
    return [
        (slice(begin, end), slice(int(indices[begin]), int(indices[begin]) + end - begin))
        for begin, end in pairwise(ends)
        if begin < end
    ]
