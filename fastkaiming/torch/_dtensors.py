"""Sharded tensors: which part of the whole a rank's local tensor is."""

import sys
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise, product
from typing import Any, TypeAlias

import numpy as np
import torch

Slices: TypeAlias = tuple[slice, ...]


def is_dtensor(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor is a DTensor; a process that has not imported them has none."""
    distributed = sys.modules.get("torch.distributed.tensor")
    return distributed is not None and isinstance(tensor, distributed.DTensor)


def pieces(tensor: Any, local_shape: Sequence[int]) -> Sequence[tuple[Slices, Slices]] | None:
    """Return where pieces lie in the local tensor, and where in the whole.

    None stands for values that are sums over ranks, and for a local tensor that is not what its placements say.
    """
    coordinate = tensor.device_mesh.get_coordinate()
    if coordinate is None:  # a rank that the mesh does not have
        return []
    if any(placement.is_partial() for placement in tensor.placements):
        return None
    runs = [
        _runs(tensor.device_mesh, tuple(coordinate), tuple(_along(each, axis) for each in tensor.placements), size)
        for axis, size in enumerate(tensor.shape)
    ]
    if [sum(local.stop - local.start for local, _ in axis) for axis in runs] != list(local_shape):
        return None
    return [(tuple(local for local, _ in piece), tuple(whole for _, whole in piece)) for piece in product(*runs)]


def _along(placement: Any, axis: int) -> Any:
    """Return what a placement does to one axis, as if the tensor had no other."""
    from torch.distributed.tensor import Replicate, Shard

    if getattr(placement, "dim", None) != axis:
        return Replicate()
    if hasattr(placement, "split_factor"):  # the cuts of FSDP2 beside tensor parallelism, made in another order
        return type(placement)(0, split_factor=placement.split_factor)
    return Shard(0)


@lru_cache(maxsize=1024)
def _runs(mesh: Any, _coordinate: tuple[int, ...], placements: tuple[Any, ...], size: int) -> list[tuple[slice, slice]]:
    """Return the runs of consecutive indices in this rank's part of an axis: where here, and where in the whole.

    Distributing the indices themselves tells what no offset does: those of some placements lie in several runs. Meshes
    are equal whose ranks are the same, of whichever process group: hence the coordinate.
    """
    from torch.distributed.tensor import distribute_tensor

    indices = distribute_tensor(torch.arange(size), mesh, placements, src_data_rank=None).to_local().cpu().numpy()
    ends = [0, *(np.flatnonzero(np.diff(indices) != 1) + 1).tolist(), indices.size]
    return [
        (slice(begin, end), slice(int(indices[begin]), int(indices[begin]) + end - begin))
        for begin, end in pairwise(ends)
        if begin < end
    ]
