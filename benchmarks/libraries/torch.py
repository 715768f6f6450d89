"""PyTorch: ``torch.nn.init`` on CPU tensors, with the number of threads set by ``torch.set_num_threads``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from libraries import CUT_STD, Job, Method, imported

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "torch"
IN_PLACE = True


def version() -> str:
    return str(imported("torch").__version__)


def methods(job: Job) -> dict[str, Method]:
    torch = imported("torch")
    torch.set_num_threads(job.threads)
    std = job.std / CUT_STD
    fills: dict[str, Callable[[Any], Any]] = {
        "normal": lambda weights: torch.nn.init.kaiming_normal_(weights, nonlinearity="relu"),
        "uniform": lambda weights: torch.nn.init.kaiming_uniform_(weights, nonlinearity="relu"),
        "truncated": lambda weights: torch.nn.init.trunc_normal_(weights, std=std, a=-2 * std, b=2 * std),
    }
    dtype = getattr(torch, job.dtype)
    return {NAME: Method(fills[job.draw], lambda: torch.empty(job.shape, dtype=dtype), lambda target: target.zero_())}
