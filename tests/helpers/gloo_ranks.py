"""Runs cases on the ranks of a gloo process group."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.distributed as dist


def run_cases(cases: Mapping[str, Callable[[int], object]], number: int, ranks: int, store: str) -> None:
    """Run all cases on one rank, with the number of ranks as argument, and print the name of each that has ended."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=Path(store).as_uri(), rank=number, world_size=ranks)
    try:
        for name, case in cases.items():
            case(ranks)
            sys.stdout.write(f" {name} ")
            sys.stdout.flush()
        dist.barrier()
    finally:
        dist.destroy_process_group()
