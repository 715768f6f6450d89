"""The parts of a DTensor that each rank stores, compared with torch's own distribution of the indices."""

from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
from processes import python

torch = pytest.importorskip("torch")
dtensors = pytest.importorskip("fastkaiming.torch._dtensors")

PRELUDE = """
import itertools
import random
import sys

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard
from torch.testing._internal.distributed.fake_pg import FakeStore

from fastkaiming.torch._dtensors import local_slices

def start(rank):
    dist.init_process_group("fake", rank=rank, world_size=8, store=FakeStore())

def mesh_of(*shape):
    return DeviceMesh("cpu", torch.arange(torch.Size(shape).numel()).reshape(shape))
"""


def run(program: str, *arguments: str) -> str:
    result = python(PRELUDE + program, *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_parts_of_every_rank_are_those_of_torch() -> None:
    program = """
def check(whole, mesh, placements):
    tensor = distribute_tensor(whole, mesh, placements, src_data_rank=None)
    local = tensor.to_local()
    pairs = local_slices(tensor, local.shape)
    if mesh.get_coordinate() is None:
        assert pairs == []
        return 0
    found = torch.full(local.shape, -1)
    for in_local, in_whole in pairs:
        assert (found[in_local] == -1).all()
        found[in_local] = whole[in_whole]
    assert torch.equal(found, local), (placements, whole.shape, pairs)
    return 1

checks, rng = 0, random.Random(1)
for rank in range(8):
    start(rank)
    for shape in ((1,), (3,), (8,), (2, 2), (4, 2), (2, 3), (2, 2, 2)):
        mesh = mesh_of(*shape)
        along_axis = [Replicate(), Shard(0), *(_StridedShard(0, split_factor=factor) for factor in (1, 2, 3, 5))]
        for *placements, size in itertools.product(*[along_axis] * min(2, len(shape)), (0, 1, 6, 13, 64)):
            checks += check(torch.arange(size), mesh, [*placements, Shard(0)][: len(shape)])
        for _ in range(40):
            rows, columns = rng.randrange(30), rng.randrange(1, 9)
            whole = torch.arange(rows * columns).reshape(rows, columns)
            placements = [
                rng.choice((Replicate(), Shard(axis), _StridedShard(axis, split_factor=rng.randrange(1, 9))))
                for axis in rng.choices((0, 1), k=len(shape))
            ]
            checks += check(whole, mesh, placements)
    dist.destroy_process_group()
print(checks)
"""
    assert int(run(program)) > 5000


def test_order_of_the_mesh_dimensions_can_be_given() -> None:
    program = """
from torch.distributed.tensor._dtensor_spec import DTensorSpec, ShardOrderEntry, TensorMeta

for rank, rows in enumerate(([0, 1], [4, 5], [2, 3], [6, 7])):  # the second dimension divides the rows first
    start(rank)
    order = (ShardOrderEntry(tensor_dim=0, mesh_dims=(1, 0)),)
    meta = TensorMeta(torch.Size((8,)), (1,), torch.float32)
    spec = DTensorSpec(mesh_of(2, 2), (Shard(0), Shard(0)), tensor_meta=meta, shard_order=order)
    tensor = DTensor(torch.empty(2), spec, requires_grad=False)
    assert local_slices(tensor, (2,)) == [((slice(0, 2),), (slice(rows[0], rows[1] + 1),))]
    dist.destroy_process_group()
"""
    run(program)


def test_other_tensors_have_no_slices() -> None:
    program = """
start(3)
mesh = mesh_of(4)
partial = DTensor.from_local(torch.zeros(6), mesh, [Partial()], run_check=False)
assert local_slices(partial, (6,)) is None
inconsistent = DTensor.from_local(torch.zeros(3, 2), mesh, [Shard(0)], run_check=False, shape=(28, 2), stride=(2, 1))
assert local_slices(inconsistent, (3, 2)) is None
empty = DTensor.from_local(torch.zeros(0, 0), mesh, [Shard(0)], run_check=False, shape=(4, 0), stride=(1, 1))
assert local_slices(empty, (0, 0)) == []
scalar = DTensor.from_local(torch.zeros(()), mesh, [Replicate()], run_check=False)
assert local_slices(scalar, ()) == [((), ())]
"""
    run(program)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of the memory cannot be measured")
@pytest.mark.parametrize("placements", ["[Shard(0)]", "[_StridedShard(0, split_factor=4)]", "[Replicate()]"])
def test_memory_does_not_grow_with_the_axis(placements: str) -> None:
    program = """
def status(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))

start(5)
placements = eval(sys.argv[1])
for size in (2**10, 2**26):  # the first pass imports what is needed
    local = torch.empty(size if placements == [Replicate()] else size // 8, dtype=torch.int8)  # no memory is touched
    tensor = DTensor.from_local(local, mesh_of(8), placements, run_check=False, shape=(size,), stride=(1,))
    before = status("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")  # resets the peak
    pairs = local_slices(tensor, local.shape)
    print(len(pairs), status("VmHWM") - before)
"""
    *_, last = run(program, placements).splitlines()
    pairs, peak = map(int, last.split())
    assert pairs == {"[Shard(0)]": 1, "[Replicate()]": 1}.get(placements, 4)
    assert peak < 2**24  # the indices alone would need 2**29 bytes


@pytest.mark.parametrize("size", [0, 1, 2, 5, 12, 29])
def test_runs_of_an_axis_are_chunks_of_chunks(size: int) -> None:
    factors = [(1, 2), (4, 3), (5, 1), (2, 4)]  # blocks and parts
    for first, second in product(factors, repeat=2):
        for coordinates in product(range(first[1]), range(second[1])):
            expected = torch.arange(size)
            for (factor, parts), coordinate in zip((first, second), coordinates, strict=True):
                blocks = chunks(expected, factor)
                expected = torch.cat([chunks(block, parts)[coordinate] for block in blocks])
            splits = [
                dtensors.Split(coordinate, parts, factor)
                for (factor, parts), coordinate in zip((first, second), coordinates, strict=True)
            ]
            runs = dtensors.local_runs(size, splits)
            assert [index for begin, end in runs for index in range(begin, end)] == expected.tolist()
            assert all(begin < end for begin, end in runs)
            assert all(previous[1] != following[0] for previous, following in pairwise(runs))


def chunks(tensor: Any, count: int) -> list[Any]:
    """Return exactly this number of chunks, of which the last ones can be empty."""
    found = list(tensor.chunk(count))
    return found + [tensor[:0]] * (count - len(found))
