"""PyTorch: ``torch.nn.init`` on tensors of the CPU, on as many threads as ``torch.set_num_threads`` says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peers import CUT_STD, Job, Way, needed

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "torch"
IN_PLACE = True


def version() -> str:
    return str(needed("torch").__version__)


def ways(job: Job) -> dict[str, Way]:
    torch = needed("torch")
    torch.set_num_threads(job.threads)
    std = job.std / CUT_STD
    fills: dict[str, Callable[[Any], Any]] = {
        "normal": lambda weights: torch.nn.init.kaiming_normal_(weights, nonlinearity="relu"),
        "uniform": lambda weights: torch.nn.init.kaiming_uniform_(weights, nonlinearity="relu"),
        "truncated": lambda weights: torch.nn.init.trunc_normal_(weights, std=std, a=-2 * std, b=2 * std),
    }
    dtype = getattr(torch, job.dtype)
    return {NAME: Way(fills[job.draw], lambda: torch.empty(job.shape, dtype=dtype), lambda target: target.zero_())}
