"""The time that ranks take to compare their seeds and arguments before they fill DTensors (docs/torch.md).

    python benchmarks/rank_comparison.py [RANKS ...]

For each number of ranks (2 and 4 by default), prints the median time of rank 0 per call, with the comparison and
without it, for a function on a small DTensor, and for ``init_module_`` on modules of 4 and of 400 small DTensors. The
difference is the time of the comparison. The ranks communicate by gloo on this machine.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist
from torch import multiprocessing, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import fastkaiming.torch as init

CALLS = 100
ROUNDS = 5


def fill(tensor: torch.Tensor, *, check_ranks: bool) -> None:
    with torch.no_grad(), init.accelerate(check_ranks=check_ranks):
        init.normal_(tensor)


def milliseconds(call: Callable[[], object]) -> float:
    """Return the median time of a call, which all ranks begin together."""
    times = []
    for _ in range(CALLS):
        dist.barrier()
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return 1000 * median(times)


def rank(number: int, ranks: int, store: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=Path(store).as_uri(), rank=number, world_size=ranks)
    torch.manual_seed(0)
    mesh = init_device_mesh("cpu", (ranks,))
    modules = {2 * layers: nn.Sequential(*(nn.Linear(8, 8) for _ in range(layers))) for layers in (2, 200)}
    calls: dict[str, Callable[..., object]] = {}
    for tensors, module in modules.items():
        fully_shard(module, mesh=mesh)
        calls.setdefault("normal_", partial(fill, next(module.parameters())))
        calls[f"init_module_ with {tensors} DTensors"] = partial(init.init_module_, module)
    for name, call in calls.items():
        rounds = [[milliseconds(partial(call, check_ranks=check)) for check in (True, False)] for _ in range(ROUNDS)]
        checked, unchecked = map(median, zip(*rounds, strict=True))
        if number == 0:
            sys.stdout.write(f"{ranks} ranks, {name}: {checked:.2f} ms, without comparison {unchecked:.2f} ms\n")
            sys.stdout.flush()
    dist.destroy_process_group()


if __name__ == "__main__":
    for count in map(int, sys.argv[1:] or ("2", "4")):
        with tempfile.TemporaryDirectory() as directory:
            multiprocessing.spawn(rank, (count, f"{directory}/store"), nprocs=count)
