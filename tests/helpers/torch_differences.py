"""The program of the ranks of a process group in test_torch_ranks.py, one of which passes something else.

    python tests/helpers/torch_differences.py RANKS STORE

Every rank checks the errors of all ranks, and that nothing was written. It prints the name of each case that passes.
"""

import re
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from gloo_ranks import run_cases
from torch import multiprocessing, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

import fastkaiming as fk
import fastkaiming.torch as init

MARK = 77.0  # the value of every element that has not been written


def errors_of(call: Callable[[], object]) -> list[str]:
    """Return the errors that a call raises on each rank, or empty strings."""
    try:
        call()
        own = ""
    except Exception as error:
        own = f"{type(error).__name__}: {error}"
    errors = [""] * dist.get_world_size()
    dist.all_gather_object(errors, own)
    return errors


def assert_error(call: Callable[[], object], pattern: str, *unchanged: Any) -> None:
    """Check that a call raises the same error on all ranks, and that the tensors are unchanged."""
    errors = errors_of(call)
    assert len({*errors}) == 1, errors
    assert re.search(pattern, errors[0]), errors[0]
    assert all((local(tensor) == MARK).all() for tensor in unchanged)


def assert_filled(call: Callable[[], object], *tensors: Any) -> None:
    errors = errors_of(call)
    assert not any(errors), errors
    for tensor in tensors:
        assert (local(tensor) != MARK).all()
        local(tensor).fill_(MARK)


def local(tensor: Any) -> torch.Tensor:
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


def marked(tensor: Any) -> Any:
    local(tensor).fill_(MARK)
    return tensor


def rows(mesh: DeviceMesh) -> Any:
    return marked(distribute_tensor(torch.zeros(8, 6), mesh, [Shard(0)], src_data_rank=None))


def sharded_net(ranks: int, width: int = 8) -> nn.Module:
    with torch.device("meta"):
        net = nn.Sequential(nn.Linear(6, width), nn.Linear(width, 4))
    fully_shard(net, mesh=init_device_mesh("cpu", (ranks,)))
    net.to_empty(device="cpu")
    for parameter in net.parameters():
        marked(parameter)
    return net


def seeds_of_modules(ranks: int) -> None:
    net, number = sharded_net(ranks), dist.get_rank()
    last = ranks - 1
    others = "rank 0" if ranks == 2 else "ranks 0, 1 and 2"
    for function in (init.init_module_, init.reset_module_):
        name = function.__name__
        expected = f"^ValueError: {name}: every rank must use the same seed, got seed 5 on {others} and seed 6 on rank"
        for rngs in ((5, 6), (fk.Generator(5), fk.Generator(6))):
            assert_error(partial(function, net, rng=rngs[number == last]), f"{expected} {last}: ", *net.parameters())
        each_seed = (
            rf"^ValueError: {name}: every rank must use the same seed, got seed \d+ on rank 0.* on rank {last}: "
        )
        assert_error(partial(function, net, rng=None), each_seed, *net.parameters())
        own = torch.Generator().manual_seed(number)
        state = own.get_state()
        assert_error(partial(function, net, rng=own), each_seed, *net.parameters())
        assert torch.equal(own.get_state(), state)
        numpy_generator = np.random.default_rng(number)
        numpy_state = numpy_generator.bit_generator.state
        assert_error(partial(function, net, rng=numpy_generator), each_seed, *net.parameters())
        assert numpy_generator.bit_generator.state == numpy_state
        own.manual_seed(7)
        assert_filled(partial(function, net, rng=own), *net.parameters())
        assert not torch.equal(own.get_state(), torch.Generator().manual_seed(7).get_state())


def arguments_of_modules(ranks: int) -> None:
    net, is_first = sharded_net(ranks), dist.get_rank() == 0

    def assert_differs(pattern: str, module: nn.Module = net, **kwargs: Any) -> None:
        prefix = "^ValueError: init_module_: every rank must have the same arguments and tensors, got "
        assert_error(partial(init.init_module_, module, rng=5, **kwargs), prefix + pattern, *module.parameters())

    assert_differs(
        r"the rule '\*': normal_\(std=.*0\.5", rules={"*": "normal(std=0.5)" if is_first else "normal(std=1.0)"}
    )
    assert_differs("the rule", rules={"0.weight": fk.normal_ if is_first else fk.uniform_})
    assert_differs("buffers=", buffers=is_first)
    assert_differs("'0.weight' .*of shape", sharded_net(ranks, 9 if is_first else 8))
    partly_frozen = sharded_net(ranks)
    partly_frozen[1].weight.requires_grad_(is_first)
    assert_differs("'1.weight' ", partly_frozen)
    without_bias = sharded_net(ranks)
    if is_first:
        without_bias[0].bias = None
    assert_differs("'(0.bias|1.weight)' ", without_bias)
    rules: dict[str, Callable[..., object]] = {
        "0.*": lambda parameter, **_: init.normal_(parameter),
        "1.weight": fk.normal_,
    }
    torch.manual_seed(3)
    assert_filled(partial(init.init_module_, net, rng=5, rules=rules), *net.parameters())
    keep = "0.*" if is_first else ()
    assert_error(partial(init.reset_module_, net, rng=5, keep=keep), "got keep=", *net.parameters())


def error_of_one_rank(ranks: int) -> None:
    net, number = sharded_net(ranks), dist.get_rank()
    rule = "normal" if number else "no_such_rule"
    errors = errors_of(partial(init.init_module_, net, rng=5, rules={"*": rule}))
    assert errors[0].startswith("ValueError: init_module_: the rule '*' must name one of ")
    prefix = (
        "ValueError: init_module_: the call must succeed on every rank, got an error on rank 0: ValueError: the rule"
    )
    assert all(error.startswith(prefix) for error in errors[1:])
    errors = errors_of(partial(init.reset_module_, net, rng=5 if number else fk.Key(5)))
    assert errors[0].startswith("TypeError: reset_module_: rng must be ")
    assert all("got an error on rank 0: TypeError: rng must be " in error for error in errors[1:])
    assert all((local(parameter) == MARK).all() for parameter in net.parameters())


def functions(ranks: int) -> None:
    tensor, number = rows(init_device_mesh("cpu", (ranks,))), dist.get_rank()
    calls: dict[str, Callable[..., Any]] = {name: getattr(init, name) for name in ("uniform_", "kaiming_normal_")}
    calls["trunc_normal_"] = init.trunc_normal_
    calls["xavier_normal_"] = init.accelerate(nn.init.xavier_normal_)  # fills by normal_
    calls["normal_"] = init.accelerate(lambda tensor, **kwargs: tensor.normal_(**kwargs))
    for name, call in calls.items():
        of_name = "(xavier_)?normal_" if name == "xavier_normal_" else name
        pattern = (
            rf"^ValueError: {of_name}: every rank must use the same seed, got seed \d+ on rank 0.* on rank {ranks - 1}"
        )
        torch.manual_seed(number)
        state = torch.get_rng_state()
        assert_error(partial(call, tensor), pattern, tensor)
        assert torch.equal(torch.get_rng_state(), state)
        own = torch.Generator().manual_seed(number)
        assert_error(partial(call, tensor, generator=own), pattern, tensor)
        assert torch.equal(own.get_state(), torch.Generator().manual_seed(number).get_state())
        torch.manual_seed(3)
        assert_filled(partial(call, tensor), tensor)
    version = tensor._version
    differs = "every rank must have the same arguments and tensors, got "
    assert_error(
        partial(init.normal_, tensor, std=1.0 + number), rf"{differs}Normal\(mean=0.0, std=1.0\) .*2\.0", tensor
    )
    assert_error(
        partial(init.kaiming_normal_, tensor, mode="x" if number else "fan_in"), "torch's own function", tensor
    )
    assert_error(partial(init.normal_, tensor, generator=3 if number else None), "torch's own function", tensor)
    assert tensor._version == version


def uneven_local_tensors(ranks: int) -> None:
    """Check that an inconsistent local tensor of one rank is an error, whereas torch would fill it."""
    mesh, number = init_device_mesh("cpu", (ranks,)), dist.get_rank()
    part = torch.full((3 if number == 0 else 2, 6), MARK)
    tensor = DTensor.from_local(part, mesh, [Shard(0)], run_check=False, shape=(2 * ranks, 6), stride=(6, 1))
    torch.manual_seed(3)
    assert_error(partial(init.normal_, tensor), "got Normal.* and torch's own function .* on rank|torch's own", tensor)


def no_comparison(ranks: int) -> None:
    """Check that a rank does not communicate, so that it can call alone."""
    net, tensor, number = sharded_net(ranks), rows(init_device_mesh("cpu", (ranks,))), dist.get_rank()
    functions: tuple[Callable[..., Any], ...] = (init.init_module_, init.reset_module_)
    if number == 1:
        for function in functions:
            function(net, rng=None, check_ranks=False)
        with init.accelerate(check_ranks=False), torch.no_grad():
            init.normal_(tensor)
            with init.accelerate():
                tensor.uniform_()
                nn.init.trunc_normal_(tensor)
        init.accelerate(init.normal_, check_ranks=False)(tensor)
    dist.barrier()
    assert (local(tensor) != MARK).all() == (number == 1)
    for wrong in (*functions, lambda _, check_ranks: init.accelerate(check_ranks=check_ranks)):
        assert_error(partial(wrong, net, check_ranks=1), "^TypeError: .*check_ranks must be True or False, not int 1")


def outside_the_mesh(ranks: int) -> None:
    """Check that each half of the ranks, for example a pipeline stage, communicates only among itself."""
    if ranks == 2:
        return
    number = dist.get_rank()
    meshes = [DeviceMesh("cpu", [0, 1]), DeviceMesh("cpu", [2, 3])]
    tensor = rows(meshes[number // 2])
    if number < 2:
        init.normal_(tensor, generator=torch.Generator().manual_seed(3))
    stage = number // 2
    expected = f"got seed {stage} on rank {2 * stage} and seed 9 on rank {2 * stage + 1}: "
    module = nn.ParameterDict({f"stage{stage}": nn.Parameter(marked(tensor))})
    errors = errors_of(partial(init.init_module_, module, rng=9 if number % 2 else stage))
    assert expected in errors[number], errors
    assert_filled(partial(init.init_module_, module, rng=stage), tensor)
    init.normal_(rows(meshes[0]), generator=torch.Generator().manual_seed(number % 2 if stage else 3))  # 2, 3: outside


def several_meshes(ranks: int) -> None:
    if ranks == 2:
        return
    number = dist.get_rank()
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    both = distribute_tensor(torch.zeros(8, 6), mesh, [Shard(0), Shard(1)], src_data_rank=None)
    for tensors in ([rows(mesh["data"]), rows(mesh["tensor"])], [marked(both), rows(mesh["tensor"])]):
        module = nn.ParameterList(map(nn.Parameter, tensors))
        for special in range(4):
            seed = 6 if number == special else 5
            errors = errors_of(partial(init.init_module_, module, rng=seed))
            assert all(re.search(rf"seed 6 on rank {special}\b", error) for error in errors), errors
            assert all((local(tensor) == MARK).all() for tensor in tensors)
        assert_filled(partial(init.init_module_, module, rng=5), *tensors)
    # Each rank has two of three meshes, in an order in which each rank could wait for another one.
    meshes = {name: DeviceMesh("cpu", name) for name in ((0, 1), (1, 2), (0, 2))}
    orders = [((0, 1), (0, 2)), ((1, 2), (0, 1)), ((0, 2), (1, 2)), ()]
    module = nn.ParameterDict([(str(name), nn.Parameter(rows(meshes[name]))) for name in orders[number]])
    assert_filled(partial(init.init_module_, module, rng=5), *module.values())


CASES = (
    *(seeds_of_modules, arguments_of_modules, error_of_one_rank, functions, uneven_local_tensors, no_comparison),
    *(outside_the_mesh, several_meshes),
)


def rank(number: int, ranks: int, store: str) -> None:
    run_cases({case.__name__: case for case in CASES}, number, ranks, store)


if __name__ == "__main__":
    multiprocessing.spawn(rank, (int(sys.argv[1]), sys.argv[2]), nprocs=int(sys.argv[1]))
