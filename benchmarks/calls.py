"""Rows for whole calls on small arrays: NumPy arrays, torch's functions, and tensors under ``accelerate()``.

Each is compared with NumPy's or torch's own call. A contestant is a loop over calls, so that only calls are timed.
"""

from __future__ import annotations

import functools
import importlib
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from figures import CALL_TIME, CALLS
from harness import Case, Timed, UnavailableError

import fastkaiming

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    Weights = NDArray[np.float32]

REPEATS = 20  # multiplies the number of rounds, because a batch of calls is short


def uniform(weights: Weights) -> None:
    for _ in range(CALLS):
        fastkaiming.uniform_(weights, rng=0)


def numpy_uniform(weights: Weights) -> None:
    rng = np.random.default_rng(0)
    for _ in range(CALLS):
        rng.random(dtype=np.float32, out=weights)


def kaiming_normal(weights: Weights) -> None:
    for _ in range(CALLS):
        fastkaiming.kaiming_normal_(weights, rng=0)


def numpy_normal(weights: Weights) -> None:
    rng = np.random.default_rng(0)
    for _ in range(CALLS):
        rng.standard_normal(dtype=np.float32, out=weights)


def kaiming_uniform(init_and_tensor: tuple[Any, Any]) -> None:
    init, tensor = init_and_tensor
    for _ in range(CALLS):
        init.kaiming_uniform_(tensor)


def uniform_method(init_and_tensor: tuple[Any, Any]) -> None:
    _, tensor = init_and_tensor
    for _ in range(CALLS):
        tensor.uniform_()


def array_calls(name: str, side: int, run: Callable[[Weights], None]) -> Timed:
    """Return a batch of calls on a NumPy matrix."""
    return Timed(name, functools.partial(np.empty, (side, side), np.float32), run, CALLS)


def tensor_calls(
    name: str,
    module: str,
    side: int,
    run: Callable[[tuple[Any, Any]], None],
    within: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Timed:
    """Return a batch of calls on a tensor, by the functions of a module or by the tensor's method."""

    def prepare() -> tuple[Any, Any]:
        torch = imported("torch")
        return imported(module), torch.zeros(side, side)

    return Timed(name, prepare, run, CALLS, within)


def imported(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UnavailableError("torch is not installed") from None


def accelerate() -> AbstractContextManager[object]:
    block: AbstractContextManager[object] = imported("fastkaiming.torch").accelerate()
    return block


def cases() -> list[Case]:
    """Return the rows."""

    def row(name: str, minimum: float, target: float, own: Timed, other: Timed) -> Case:
        return Case(f"{name}, whole call", CALL_TIME, minimum, target, own, (other,), repeats=REPEATS)

    torch_init, our_init = "torch.nn.init", "fastkaiming.torch"
    return [
        row(
            "uniform_ on 16 x 16 float32, NumPy array, int seed",
            *(1.3, 0.8),
            array_calls("fastkaiming", 16, uniform),
            array_calls("NumPy's Generator.random(out=)", 16, numpy_uniform),
        ),
        row(
            "kaiming_normal_ on 64 x 64 float32, NumPy array, int seed",
            *(4.0, 3.2),
            array_calls("fastkaiming", 64, kaiming_normal),
            array_calls("NumPy's Generator.standard_normal(out=)", 64, numpy_normal),
        ),
        *(
            row(
                f"fastkaiming.torch.kaiming_uniform_ on {side} x {side} float32",
                *limits,
                tensor_calls("fastkaiming", our_init, side, kaiming_uniform),
                tensor_calls("torch.nn.init.kaiming_uniform_", torch_init, side, kaiming_uniform),
            )
            for side, limits in ((16, (5.0, 3.5)), (64, (6.0, 4.5)))
        ),
        *(
            row(
                f"tensor.uniform_() on {side} x {side} float32 under accelerate()",
                *limits,
                tensor_calls("fastkaiming", our_init, side, uniform_method, accelerate),
                tensor_calls("torch's tensor.uniform_()", torch_init, side, uniform_method),
            )
            for side, limits in ((16, (4.5, 3.0)), (64, (5.5, 4.0)))
        ),
    ]
