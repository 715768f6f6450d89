"""Ranks that share DTensors compare their seeds and arguments before they fill them."""

import subprocess
import sys
from pathlib import Path

import pytest
from extended import extended
from processes import HANG_SECONDS, ROOT, python

pytest.importorskip("torch")
pytest.importorskip("fastkaiming.torch")

CASES = [
    *("seeds_of_modules", "arguments_of_modules", "error_of_one_rank", "functions", "uneven_local_tensors"),
    *("no_comparison", "outside_the_mesh", "several_meshes"),
]


@pytest.mark.parametrize("ranks", [2, *extended([4])])
def test_ranks_that_differ_raise_the_same_error(ranks: int, tmp_path: Path) -> None:
    program = str(ROOT / "tests" / "helpers" / "torch_differences.py")
    command = [sys.executable, program, str(ranks), str(tmp_path / "store")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.split()) == sorted(ranks * CASES)


PRELUDE = """
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

import fastkaiming.torch as init
from fastkaiming.torch import _ranks

dist.init_process_group("fake", rank=3, world_size=8, store=FakeStore())

def rows(mesh):
    return distribute_tensor(torch.zeros(16, 6), mesh, [Shard(0)], src_data_rank=None)

def fail(*_):
    raise AssertionError("communicates")
"""


def run(program: str) -> None:
    result = python(PRELUDE + program)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("gather", ["dist.all_gather", "lambda *_, **__: None"])
def test_fake_process_group_has_no_differences(gather: str) -> None:
    """Neither if its collective copies the values of this rank, nor if it does nothing."""
    program = f"""
dist.all_gather = {gather}
for shape in ((8,), (2, 4)):
    net = nn.Linear(16, 8)
    fully_shard(net, mesh=init_device_mesh("cpu", shape, mesh_dim_names=("replica", "shard")[-len(shape) :]))
    for rng in (None, 5, torch.Generator()):
        init.init_module_(net, rng=rng)
        init.reset_module_(net, rng=rng)
    with torch.no_grad(), init.accelerate():
        init.kaiming_normal_(net.weight)
        net.weight.uniform_()
"""
    run(program)


def test_nothing_is_compared_while_torch_traces_or_fakes() -> None:
    """Functions of torch fill the tensors then."""
    program = """
from torch._subclasses import FakeTensorMode

_ranks._gather = fail
mesh = init_device_mesh("cpu", (8,))
tensor = rows(mesh)
compiled = torch.compile(lambda tensor: init.normal_(tensor), backend="eager", fullgraph=True)
compiled(tensor)
assert tensor.to_local().std() > 0
with FakeTensorMode():
    init.normal_(rows(mesh))
init.normal_(rows(mesh).to("meta"))
try:
    init.normal_(tensor)
except AssertionError as error:
    assert str(error) == "communicates"
else:
    raise AssertionError("does not communicate")
"""
    run(program)


@pytest.mark.parametrize("reentrant", [True, False])
def test_recomputed_function_does_not_compare_ranks_if_its_forward_pass_does_not(reentrant: bool) -> None:
    program = f"""
from torch.utils.checkpoint import checkpoint

tensor, calls = rows(init_device_mesh("cpu", (8,))), []

def function(value):
    with torch.no_grad():
        calls.append(tensor.normal_().to_local().clone())
    return value.sin()

value = torch.ones(3, requires_grad=True)
for gather, check_ranks in ((_ranks._gather, True), (fail, False)):
    _ranks._gather = gather
    with init.accelerate(check_ranks=check_ranks):
        result = checkpoint(function, value, use_reentrant={reentrant})
    result.sum().backward()
assert len(calls) == 4 and torch.equal(calls[0], calls[1]) and torch.equal(calls[2], calls[3])
"""
    run(program)


def test_mesh_of_one_rank_and_plain_tensors_need_no_communication() -> None:
    program = """
_ranks._gather = fail
init.init_module_(nn.ParameterList([nn.Parameter(rows(DeviceMesh("cpu", [3])))]), rng=None)
init.init_module_(nn.Linear(3, 4), rng=None)
init.reset_module_(nn.Linear(3, 4), rng=None)
"""
    run(program)


def test_mesh_without_process_groups_is_an_error() -> None:
    program = """
tensor = rows(init_device_mesh("cpu", (8,)))
dist.destroy_process_group()
module = nn.ParameterList([nn.Parameter(tensor)])
for name, call in {
    "normal_": lambda: init.normal_(tensor),
    "init_module_": lambda: init.init_module_(module, rules={"*": "normal"}),
}.items():
    try:
        call()
    except ValueError as error:
        assert str(error).startswith(f"{name}: the device mesh of a DTensor must have process groups"), error
    else:
        raise AssertionError(name)
assert not tensor.to_local().any()
init.init_module_(module, rules={"*": "normal"}, check_ranks=False)
assert tensor.to_local().all()
"""
    run(program)
